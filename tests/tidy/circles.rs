//! No files import each other in a circle: each can be read with only those below it in mind.
//!
//! A file imports another one if it names an item that is declared there, in a `use` or by a path that begins with
//! `crate`, `super` or `self`. An item that a module hands on (`pub use`) counts as imported from the file that declares
//! it, and to hand it on is no import. A module and the files in its own folder are one thing to the others, so a file
//! may build on what the modules around it declare, as they do on what it declares; files side by side may not do both.
//! Methods are not imported: a long `impl` may stand in several files.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, house, nothing_wrong, word};

/// Words before a declared name.
const DECLARES: [&str; 9] =
    ["struct ", "enum ", "trait ", "type ", "union ", "fn ", "const ", "static ", "macro_rules! "];
const QUALIFIERS: [&str; 6] = ["pub ", "pub(crate) ", "pub(super) ", "async ", "const fn ", "unsafe "];

/// A module: the crate, and the names down to it.
type Module = Vec<String>;

struct File {
    path: String,
    module: Module,
    declared: BTreeSet<String>,
    /// Paths that it names, absolute.
    named: BTreeSet<Vec<String>>,
    /// Paths that it hands on, absolute, by the name that it gives them.
    handed_on: BTreeMap<String, Vec<String>>,
}

struct House {
    files: BTreeMap<Module, File>,
}

/// `src/hub/room.rs` is `src`, `hub`, `room`.
fn module_of(path: &str) -> Module {
    let (folder, inner) = path.split_once("src/").expect("sources are in src");
    let root = if folder.is_empty() { "src" } else { folder.trim_end_matches('/') };
    let parts = inner.trim_end_matches(".rs").split('/').filter(|part| !["lib", "main"].contains(part));
    std::iter::once(root).chain(parts).map(str::to_owned).collect()
}

/// A path as the crate's root sees it; none for another crate's.
fn absolute(path: &[String], module: &Module, is_child: impl Fn(&str) -> bool) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    let mut base = match first.as_str() {
        "crate" => vec![module[0].clone()],
        "hallway_rooms" => vec!["rooms".to_owned()],
        "hallway" => vec!["src".to_owned()],
        "self" => module.clone(),
        "super" => module[..module.len().checked_sub(1)?].to_vec(),
        name if is_child(name) => [module.as_slice(), std::slice::from_ref(first)].concat(),
        _ => return None,
    };
    for name in rest {
        if name == "super" {
            base.pop();
        } else if name != "self" {
            base.push(name.clone());
        }
    }
    Some(base)
}

/// The paths of a tree of imports, each with the name that it gets.
fn paths_of(tree: &str, lead: &[String], found: &mut Vec<(String, Vec<String>)>) {
    let tree = tree.trim();
    if let Some(list) = tree.strip_prefix('{') {
        let list = list.trim_end().trim_end_matches('}');
        let (mut depth, mut begin) = (0_usize, 0);
        for (at, letter) in list.char_indices().chain([(list.len(), ',')]) {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    paths_of(&list[begin..at], lead, found);
                    begin = at + 1;
                }
                _ => {}
            }
        }
    } else if let Some((head, rest)) = tree.split_once("::") {
        paths_of(rest, &[lead, &[head.trim().to_owned()]].concat(), found);
    } else if !tree.is_empty() {
        let (name, given) = tree.split_once(" as ").unwrap_or((tree, tree));
        found.push((given.to_owned(), [lead, &[name.to_owned()]].concat()));
    }
}

fn declared_in(line: &str) -> Option<String> {
    let mut rest = line;
    while let Some(shorter) = QUALIFIERS.iter().find_map(|lead| rest.strip_prefix(lead)) {
        rest = if rest.starts_with("const fn ") { return Some(word(shorter)) } else { shorter };
    }
    DECLARES.iter().find_map(|lead| rest.strip_prefix(lead)).map(word)
}

impl File {
    fn new(source: &Source, modules: &BTreeSet<Module>) -> Self {
        let module = module_of(&source.path);
        let is_child = |name: &str| modules.contains(&[module.as_slice(), &[name.to_owned()]].concat());
        let declared = source.code().filter_map(|(_, line)| declared_in(line)).collect();
        let (mut named, mut handed_on) = (BTreeSet::new(), BTreeMap::new());
        let text: String = source.code().map(|(_, line)| format!("{line}\n")).collect();
        for statement in text.split(';') {
            let statement = statement.rsplit("\n\n").next().unwrap_or_default().trim();
            let statement = statement.rsplit_once("]\n").map_or(statement, |(_, rest)| rest);
            let imported = statement.strip_prefix("use ").map(|tree| (tree, false));
            let handed = statement.starts_with("pub").then(|| statement.split_once(" use ")).flatten();
            let Some((tree, is_handed_on)) = imported.or(handed.map(|(_, tree)| (tree, true))) else { continue };
            let mut found = Vec::new();
            paths_of(&tree.replace('\n', " "), &[], &mut found);
            for (given, path) in found {
                let Some(path) = absolute(&path, &module, is_child) else { continue };
                if is_handed_on {
                    handed_on.insert(given, path);
                } else {
                    named.insert(path);
                }
            }
        }
        for lead in ["crate::", "super::", "self::"] {
            for (at, _) in text.match_indices(lead) {
                let is_inner = text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
                let path: Vec<String> = text[at..].split("::").map(word).take_while(|name| !name.is_empty()).collect();
                let line = text[..at].rsplit('\n').next().unwrap_or_default();
                // Imports were taken apart above.
                let is_import = line.trim_start().starts_with("use ") || line.contains(" use ");
                if !is_inner && !is_import {
                    named.extend(absolute(&first_path(&text[at..], path), &module, is_child));
                }
            }
        }
        Self { path: source.path.clone(), module, declared, named, handed_on }
    }
}

/// The names of a path up to where it ends: `split` alone would go on behind it.
fn first_path(text: &str, names: Vec<String>) -> Vec<String> {
    let length = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let count = text[..length].split("::").filter(|name| !name.is_empty()).count();
    names.into_iter().take(count).collect()
}

impl House {
    fn new() -> Self {
        let sources = house();
        let modules: BTreeSet<Module> = sources.iter().map(|source| module_of(&source.path)).collect();
        let files = sources.iter().map(|source| File::new(source, &modules));
        Self { files: files.map(|file| (file.module.clone(), file)).collect() }
    }

    /// The file that declares what a path means.
    fn declaring(&self, path: &[String], depth: usize) -> Option<&File> {
        let length = (1..=path.len()).rev().find(|length| self.files.contains_key(&path[..*length]))?;
        let file = &self.files[&path[..length]];
        let Some(name) = path.get(length) else { return Some(file) };
        match file.handed_on.get(name) {
            Some(further) if depth > 0 && !file.declared.contains(name) => self.declaring(further, depth - 1),
            _ => Some(file),
        }
    }

    fn imports(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let of = |file: &File| {
            let found = file.named.iter().filter_map(|path| self.declaring(path, 5)).map(|found| found.path.as_str());
            found.filter(|path| !is_around(path, &file.path)).map(str::to_owned).collect::<BTreeSet<_>>()
        };
        let by_path: BTreeMap<&str, &File> = self.files.values().map(|file| (file.path.as_str(), file)).collect();
        let own = |path: String| by_path.get_key_value(path.as_str()).map(|(path, _)| *path);
        by_path.iter().map(|(path, file)| (*path, of(file).into_iter().filter_map(own).collect())).collect()
    }
}

/// Whether a file is the other one itself, or one of the modules that it is in.
fn is_around(path: &str, other: &str) -> bool {
    let (outer, inner) = (module_of(path), module_of(other));
    inner.starts_with(&outer)
}

/// The shortest way back to where it began, if there is one.
fn circle_of<'a>(start: &'a str, imports: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Option<Vec<&'a str>> {
    let mut ways = vec![vec![start]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut further = Vec::new();
        for way in ways {
            let last = way.last().expect("a way has a beginning");
            for next in &imports[last] {
                if *next == start {
                    return Some(way);
                }
                if seen.insert(*next) {
                    further.push([way.as_slice(), &[*next]].concat());
                }
            }
        }
        ways = further;
    }
    None
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let house = House::new();
    let imports = house.imports();
    let mut found: BTreeSet<Vec<&str>> = BTreeSet::new();
    for path in imports.keys() {
        if let Some(mut circle) = circle_of(path, &imports) {
            let least = circle.iter().enumerate().min_by_key(|(_, path)| **path).map_or(0, |(at, _)| at);
            circle.rotate_left(least);
            found.insert(circle);
        }
    }
    nothing_wrong(found.iter().map(|circle| format!("in a circle: {}", circle.join(" -> "))).collect());
}

#[test]
fn a_path_is_taken_apart() {
    let mut found = Vec::new();
    paths_of("super::{a::{B, self}, c as d}", &[], &mut found);
    let shown: Vec<_> = found.iter().map(|(name, path)| format!("{name}={}", path.join("/"))).collect();
    assert_eq!(shown, ["B=super/a/B", "self=super/a/self", "d=super/c"]);
    let module = ["src", "hub", "room"].map(str::to_owned).to_vec();
    let path = ["super", "super", "broker", "Broker"].map(str::to_owned);
    assert_eq!(absolute(&path, &module, |_| false).expect("of this crate").join("/"), "src/broker/Broker");
}
