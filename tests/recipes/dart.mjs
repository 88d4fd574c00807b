// docs/clients/realtime.dart, run line by line where there is no Dart: the file is turned into JavaScript, which has nearly
// the same statements, and put on what is known of socket_io_client 2.0.3 (dart203.mjs). A line that this cannot read is a
// syntax error; tests/recipes/parse.py reads the file with a grammar of Dart.

import { readFileSync } from "node:fs";
import * as IO from "./dart203.mjs";

// What Dart has and JavaScript writes differently.
class DartMap {
  static of(entries) {
    return Object.assign(new DartMap(), Object.fromEntries(Object.entries(entries)));
  }
}
const hidden = (type, members) => {
  for (const [name, value] of Object.entries(Object.getOwnPropertyDescriptors(members))) {
    Object.defineProperty(type.prototype, name, { ...value, enumerable: false });
  }
};
hidden(DartMap, {
  get keys() { return Object.keys(this); },
  containsKey(key) { return Object.hasOwn(this, key); },
  remove(key) { return delete this[key]; },
  addAll(other) { Object.assign(this, other); },
  forEach(run) { Object.entries(this).forEach(([key, value]) => run(key, value)); },
  putIfAbsent(key, make) { return Object.hasOwn(this, key) ? this[key] : (this[key] = make()); },
});
class DartSet extends Set {
  get isEmpty() { return this.size === 0; }
  get length() { return this.size; }
  contains(one) { return this.has(one); }
  add(one) { return !this.has(one) && Boolean(super.add(one)); }
  where(holds) { return [...this].filter(holds); }
}
hidden(Array, {
  get isEmpty() { return this.length === 0; },
  add(one) { this.push(one); },
  remove(one) { const at = this.indexOf(one); return at >= 0 && Boolean(this.splice(at, 1)); },
  contains(one) { return this.includes(one); },
  sublist(from, to) { return this.slice(from, to); },
  toList() { return [...this]; },
});
hidden(Number, { round() { return Math.round(this); } });
hidden(String, { replaceFirst(what, by) { return this.replace(what, by); } });
hidden(Promise, {
  catchError(handler) { return this.catch((error) => handler(error)); },
  timeout({ inMilliseconds }) {
    let timer;
    const late = new Promise((_, fail) => (timer = setTimeout(() => fail(new Error("TimeoutException")), inMilliseconds)));
    return Promise.race([this, late]).finally(() => clearTimeout(timer));
  },
});
const dart = {
  IO,
  DartMap,
  DartSet,
  Map: DartMap,
  List: { of: (list) => [...list] },
  isMap: (value) => value instanceof DartMap,
  isString: (value) => typeof value === "string",
  identical: Object.is,
  min: Math.min,
  print: (line) => console.error(line),
  Random: () => ({ nextDouble: Math.random }),
  Duration: (unit, count) => ({ inMilliseconds: { seconds: 1000, milliseconds: 1 }[unit] * count }),
  Timer: ({ inMilliseconds }, run) => { const timer = setTimeout(run, inMilliseconds); return { cancel: () => clearTimeout(timer) }; },
  StateError: (message) => new Error(message),
  Completer: () => { const made = {}; made.future = new Promise((complete, completeError) => Object.assign(made, { complete, completeError })); return made; },
  Future: { sync: (run) => new Promise((done) => done(run())) },
};
IO.reading((text) => JSON.parse(text, (_, value) => (value?.constructor === Object ? DartMap.of(value) : value)));

// The statements, in the order in which they must be changed.
const RULES = [
  [/\/\/.*$/gm, ""],
  [/RegExp\(r'\/\+\$'\)/g, "/\\/+$/"],
  [/'([^'\n]*\$[^'\n]*)'/g, (_, text) => `\`${text.replace(/\$(\w+)/g, "${$1}")}\``],
  [/(\w+) is (Map|String)/g, "is$2($1)"],
  [/([\w]+\['\w+'\]) is Map/g, "isMap($1)"],
  [/\[\s*for \(final (\w+) in (\w+)\) (\{.*\})\s*\]/g, "$2.map(($1) => ($3))"],
  [/, if \(([^)]*)\) ('\w+': [^}]+)\}/g, ", ...(($1) ? {$2} : {})}"],
  [/\{(\w+\['\w+'\]): ([^}]+)\}/g, "DartMap.of({[$1]: $2})"],
  [/, key: /g, ", [key]: "],
  [/for \(final (\w+) in /g, "for (const $1 of "],
  [/= <\w+, .*>\{\}/g, "= new DartMap()"],
  [/<\w+>\{\}/g, "new DartSet()"],
  [/const \{\}/g, "new DartMap()"],
  [/const \[\]/g, "[]"],
  [/\b(Future|Completer)<\w+>/g, "$1"],
  [/Duration\((\w+): /g, "Duration('$1', "],
  [/(\S+) ~\/ 2/g, "Math.floor($1 / 2)"],
  [/\]!/g, "]"],
  [/\back: /g, ""],
  [/, \(reply\) \{/g, ", (reply) => {"],
  [/\(\(([\w, ]*)\) \{/g, "(($1) => {"],
  [/^ +FutureOr<void> (\w+)\(Map (\w+)\) => (.*);/gm, "const $1 = ($2) => $3;"],
  [/\bfinal (?:String|List|Map)? ?(\w+ = )/g, "const $1"],
];
const parameters = (text) =>
  text.replace(/[[\]{}]/g, "").split(/,(?![^<(]*[>)])/).map((one) => /(\w+)\s*(= .*)?$/s.exec(one.trim())).filter(Boolean)
    .map(([, name, value]) => ({ name, value: value ?? "" }));

function translate(source) {
  const text = RULES.reduce((text, [from, to]) => text.replace(from, to), source.replace(/^import .*$/gm, ""));
  const [top, body] = text.split(/^class Realtime \{$/m);
  const functions = top.replace(/^void (\w+)\((.*)\) => (.*);$/gm, (_, name, some, value) => `const ${name} = (${parameters(some).map((one) => one.name)}) => ${value};`)
    .replace(/^void (\w+)\((.*)\) \{\}$/gm, "const $1 = () => {};");
  const fields = [], methods = [];
  let constructor;
  for (const member of body.replace(/\}\s*$/, "").split(/\n(?=  [^\s})])/).map((one) => one.trim()).filter(Boolean)) {
    const head = /^(?:[\s\S]*?\b)??(?!Function\()(\w+)\(([\s\S]*?)\)( async)? (\{[\s\S]*\}|=> [\s\S]*;)$/.exec(member);
    const getter = /^\S.* get (\w+) => (.*);$/.exec(member);
    if (getter) methods.push(`Object.defineProperty(self, "${getter[1]}", { get: () => ${getter[2]} });`);
    else if (member.endsWith(";") && !member.includes("=>")) {
      for (const part of member.replace(/;$/, "").split(/, (?=_\w+ =)/)) {
        const [, name, value] = /(\w+)(?: = (.*))?$/s.exec(part);
        fields.push(`self.${name} ??= ${value ?? "null"};`);
      }
    } else {
      if (!head) throw new SyntaxError(member);
      const [, name, some, isAsync = "", code] = head;
      const names = parameters(some);
      if (name === "Realtime") constructor = { names, code };
      else methods.push(`self.${name} = ${isAsync}(${names.map((one) => one.name)}) => ${code.replace(/^=> /, "").replace(/;$/, "")};`);
    }
  }
  const [positional, named] = [constructor.names.slice(0, 2), constructor.names.slice(2)];
  const setup = constructor.names.filter(({ name }) => !["url", "offsets"].includes(name)).map(({ name }) => `${name},`).join(" ");
  return `${functions}
    return function (${positional.map((one) => one.name)}, { ${named.map(({ name, value }) => `${name} ${value}`)} } = {}) {
      const self = { ${setup} }, given = { offsets };
      with (self) { ${fields.join("\n")} ${methods.join("\n")}
        (({ offsets }) => ${constructor.code})(given);
      }
      return self;
    };`;
}

const source = readFileSync(new URL("./realtime.dart", import.meta.url), "utf8");
export const Realtime = new Function(...Object.keys(dart), translate(source))(...Object.values(dart));
