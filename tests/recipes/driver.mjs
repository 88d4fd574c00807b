// An app on docs/clients/realtime.mjs that says on stdout what it is told, and does what stdin says; a JSON map a line each.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { Realtime } from "./realtime.mjs";

const { url, tokens, types, offsets } = JSON.parse(process.argv[2]);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

function token() {
  const token = readFileSync(tokens, "utf8");
  say({ asked: "token" });
  if (token === "") throw new Error("no token to be had");
  return token;
}

function handle(event) {
  say({ event: event.id });
  if (event.payload?.throws) throw new Error(`thrown at ${event.id}`);
  if (event.payload?.rejects) return Promise.reject(new Error(`rejected at ${event.id}`));
}

const realtime = new Realtime(url, token, {
  offsets,
  onGap: (room) => say({ gap: room }),
  onError: (error) => say({ error: error.message ?? error }),
  onKicked: () => say({ kicked: true }),
  onState: (state) => say({ state }),
});
types.forEach((type) => realtime.on(type, handle));

const told = (answer) => answer.then((data) => say({ data }), (error) => say({ refused: error.message }));
const acts = {
  join: ({ room }) => realtime.join(room),
  leave: ({ room }) => realtime.leave(room),
  missed: ({ room, since }) => told(realtime.missed(room, since)),
  offsets: () => say({ offsets: realtime.offsets }),
  connect: () => realtime.connect(),
  close: () => realtime.close(),
};
for await (const line of createInterface({ input: process.stdin })) {
  const act = JSON.parse(line);
  await acts[act.do](act);
  say({ did: act.do });
}
process.exit();
