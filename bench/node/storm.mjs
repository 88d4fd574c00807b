// What stock clients do when the node that has them all is gone: when their handshakes arrive at the next one, and when the
// last is back.
//
//   HALLWAY=target/release/hallway node bench/node/storm.mjs --clients 300 --brake 50 --end SIGKILL
//
// The clients reach the first node through a proxy of this process, which turns to a second node once the first is ended.
// The second has `limits.handshakes_per_second` set to the brake.

import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { createServer, connect } from 'node:net';
import { once } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { io } from 'socket.io-client';

const SECRET = 'a-secret-for-measurements-of-32-bytes';
const NUMBERS = { clients: '300', brake: '50', end: 'SIGKILL' };
const options = Object.fromEntries(Object.entries(NUMBERS).map(([name, value]) => [name, { type: 'string', default: value }]));
const given = parseArgs({ options }).values;
const [clients, brake] = [Number(given.clients), given.brake];

async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  return port;
}

async function node(settings) {
  const [port, admin] = [await freePort(), await freePort()];
  const env = {
    HALLWAY_SERVER__LISTEN: `127.0.0.1:${port}`, HALLWAY_ADMIN__LISTEN: `127.0.0.1:${admin}`,
    HALLWAY_AUTH__HS256_SECRET: SECRET, HALLWAY_LOG__LEVEL: 'error', ...settings,
  };
  const child = spawn(process.env.HALLWAY ?? 'target/release/hallway', ['serve'], { env, stdio: 'inherit' });
  const ready = () => fetch(`http://127.0.0.1:${admin}/readyz`).then((reply) => reply.ok, () => false);
  while (!(await ready())) await setTimeout(50);
  return { port, child };
}

function token(user) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: user, exp: Math.floor(Date.now() / 1000) + 3600 })}`;
  return `${text}.${createHmac('sha256', SECRET).update(text).digest('base64url')}`;
}

// Passes each connection on to the node that is the target then, and notes when it arrived.
function proxy(target, arrivals) {
  const server = createServer((client) => {
    arrivals.push(performance.now());
    const node = connect(target.port, '127.0.0.1');
    client.pipe(node).pipe(client);
    const end = () => { client.destroy(); node.destroy(); };
    for (const side of [client, node]) side.on('error', end).on('close', end);
  });
  return server.listen(0, '127.0.0.1', 4096);
}

function percentile(sorted, share) {
  return (sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] / 1000).toFixed(2);
}

function per(width, times) {
  const counts = [];
  for (const time of times) counts[Math.floor(time / width)] = (counts[Math.floor(time / width)] ?? 0) + 1;
  return Array.from(counts, (count) => count ?? 0);
}

const first = await node({ HALLWAY_SHUTDOWN__DRAIN: '3s' });
const second = await node({ HALLWAY_LIMITS__HANDSHAKES_PER_SECOND: brake });
const arrivals = [];
const target = { port: first.port };
const entrance = proxy(target, arrivals);
await once(entrance, 'listening');
const address = `http://127.0.0.1:${entrance.address().port}/realtime`;

const back = [];
let gone = Infinity;
const sockets = Array.from({ length: clients }, (_, each) => io(address, { transports: ['websocket'], forceNew: true, auth: { token: token(`u${each}`) } }));
await Promise.all(sockets.map((socket) => once(socket, 'connect')));
const all = new Promise((resolve) => {
  for (const socket of sockets) {
    socket.on('connect', () => { if (back.push(performance.now() - gone) === clients) resolve(); });
  }
});
arrivals.length = 0;
target.port = second.port;
gone = performance.now();
first.child.kill(given.end);
await all;

const times = arrivals.map((time) => time - gone).sort((a, b) => a - b);
back.sort((a, b) => a - b);
console.log(`${clients} clients, brake ${brake}/s, ${given.end}`);
console.log(`handshakes: ${times.length}, first after ${percentile(times, 0)} s, by the half second: ${per(500, times).join(' ')}`);
console.log(`back: first ${percentile(back, 0)} s, half ${percentile(back, 0.5)} s, last ${percentile(back, 1)} s`);
sockets.forEach((socket) => socket.disconnect());
second.child.kill();
process.exit(0);
