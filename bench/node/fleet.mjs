// Stock JavaScript clients on a fleet of three nodes: with `jitter` the TCP connection of each is cut again and again, and it comes
// back to another node each time; with `avalanche` all nodes are ended and started again under them, while events flow.
//
//   node bench/node/fleet.mjs jitter --clients 1000 --peers hallway,streams,redis --json results.json
//
// Each client holds its events against their numbers. One that Hallway's clients miss, get twice or out of order is a failure; for
// Socket.IO with its redis-streams-adapter (and connection state recovery) and its redis-adapter it is a figure.

import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createClient } from 'redis';
import { io } from 'socket.io-client';

const SECRET = 'a-secret-for-measurements-of-32-bytes';
const CHANNEL = 'bench';
const ROOM = 'order:fleet';
const KIND = 'order.status_changed';
const NODES = 3;
// Longer than the last client is away.
const PATIENCE_MS = 60_000;

const DEFAULTS = {
  clients: '1000', events: '', rate: '2', cut: '15', away: '2', runs: '1', peers: 'hallway,streams,redis', json: '',
  hallway: 'target/release/hallway',
};
const options = Object.fromEntries(Object.entries(DEFAULTS).map(([name, value]) => [name, { type: 'string', default: value }]));
options.must = { type: 'boolean', default: false };
const { values: given, positionals: [scenario] } = parseArgs({ options, allowPositionals: true });
if (!['jitter', 'avalanche'].includes(scenario)) throw new Error('jitter or avalanche?');
const usual = scenario === 'jitter' ? 120 : 60;
const [clients, events, rate] = [Number(given.clients), Number(given.events || usual), Number(given.rate)];

async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}

async function until(what, condition) {
  const began = performance.now();
  while (!(await condition())) {
    if (performance.now() - began > PATIENCE_MS) throw new Error(`${what}: not in time`);
    await sleep(20);
  }
}

async function listens(port) {
  const probe = connect(port, '127.0.0.1');
  const [name] = await Promise.race(['connect', 'error'].map((name) => once(probe, name).then(() => [name], () => ['error'])));
  probe.destroy();
  return name === 'connect';
}

function start(core, command, args, env = {}) {
  const child = spawn('taskset', ['-c', core, command, ...args], { env: { ...process.env, ...env }, stdio: 'ignore' });
  child.on('error', (error) => { throw error; });
  return child;
}

async function startRedis() {
  const port = await freePort();
  const child = start('1', 'redis-server', ['--port', `${port}`, '--save', '', '--appendonly', 'no']);
  const url = `redis://127.0.0.1:${port}`;
  const client = createClient({ url, socket: { reconnectStrategy: 50 } });
  client.on('error', () => {});
  await client.connect();
  return { child, url, client };
}

// A node at a port of its own, which keeps that port when it is started again.
class Node {
  constructor(peer, url, number) { Object.assign(this, { peer, url, number }); }

  async start() {
    this.port ??= await freePort();
    this.admin ??= await freePort();
    this.child = this.peer === 'hallway' ? this.startHallway() : this.startSocketIo();
    const ready = () => fetch(`http://127.0.0.1:${this.admin}/readyz`).then((reply) => reply.ok, () => false);
    await until(`node ${this.number} of ${this.peer}`, this.peer === 'hallway' ? ready : () => listens(this.port));
  }

  startHallway() {
    return start('0', given.hallway, ['serve'], {
      HALLWAY_SERVER__LISTEN: `127.0.0.1:${this.port}`, HALLWAY_ADMIN__LISTEN: `127.0.0.1:${this.admin}`,
      HALLWAY_REDIS__URL: this.url, HALLWAY_AUTH__HS256_SECRET: SECRET, HALLWAY_LOG__LEVEL: 'error',
      HALLWAY_LIMITS__HANDSHAKES_PER_SECOND: '100000', HALLWAY_HISTORY__MAX_EVENTS: '1000', TOKIO_WORKER_THREADS: '1',
    });
  }

  // One node emits for all by the adapter, so only the first hears of events.
  startSocketIo() {
    const script = fileURLToPath(new URL('server.mjs', import.meta.url));
    const channel = this.number === 0 ? CHANNEL : 'none';
    return start('0', 'node', [script, `${this.port}`, this.url, channel, 'ws', this.peer]);
  }

  async end(signal = 'SIGKILL') {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill(signal);
    await once(this.child, 'exit');
  }
}

function token(user) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: user, exp: Math.floor(Date.now() / 1000) + 3600 })}`;
  return `${text}.${createHmac('sha256', SECRET).update(text).digest('base64url')}`;
}

class Client {
  constructor(fleet, number, seen) {
    Object.assign(this, { fleet, number, seen, node: number % NODES, had: new Set(), last: -1, offset: null });
    this.socket = io(this.address(), {
      transports: ['websocket'], forceNew: true, auth: { token: token(`u${number}`) },
      reconnectionDelay: given.away * 1000, reconnectionDelayMax: given.away * 1000, randomizationFactor: 0.25,
    });
    this.joined = new Promise((resolve) => { this.isJoined = resolve; });
    this.socket.on('connect', () => this.join());
    this.socket.on(KIND, ({ event }) => this.note(event));
    // The next attempt goes to another node.
    this.socket.on('disconnect', () => this.turn());
    this.socket.io.on('reconnect_error', () => this.turn());
  }

  address() { return `http://127.0.0.1:${this.fleet[this.node].port}/realtime`; }

  turn() {
    this.node = (this.node + 1) % NODES;
    this.socket.io.uri = this.address().replace('/realtime', '');
  }

  join() {
    const began = performance.now();
    // Socket.IO's own recovery has brought it back into its rooms, and sends what it missed by itself.
    if (this.socket.recovered) return;
    const again = this.offset !== null;
    this.socket.emit('join_room', again ? { room: ROOM, after: this.offset } : { room: ROOM }, (reply) => {
      if (!reply.ok) throw new Error(`a join was refused: ${JSON.stringify(reply)}`);
      if (again) this.seen.replays.push(performance.now() - began);
      for (const event of reply.data?.events ?? []) this.note(event);
      if (reply.data) this.offset = reply.data.offset;
      if (reply.data?.complete === false) this.seen.incomplete += 1;
      this.isJoined();
    });
  }

  note(event) {
    const { number } = event.payload;
    if (this.had.has(number)) this.seen.twice += 1;
    else if (number < this.last) this.seen.disordered += 1;
    this.had.add(number);
    this.last = Math.max(this.last, number);
    if (event.meta.offset) this.offset = event.meta.offset;
  }

  cut() {
    const tcp = this.socket.io.engine?.transport?.ws?._socket;
    if (this.socket.connected && tcp) {
      this.seen.cuts += 1;
      tcp.destroy();
    }
  }
}

async function publish(peer, redis, number) {
  const payload = { at: Date.now(), number };
  if (peer === 'hallway') {
    await redis.sendCommand(['FCALL', 'hallway_publish', '1', `hallway:{${ROOM}}`, JSON.stringify({ type: KIND, payload })]);
    return;
  }
  const event = { id: `${number}`, type: KIND, priority: 'NORMAL', payload, meta: { room: ROOM } };
  await redis.publish(CHANNEL, JSON.stringify({ room: ROOM, argument: { event, requiresAck: false } }));
}

// Cuts each client once in about `--cut` seconds, at times of its own.
function cutThem(crowd) {
  const timers = crowd.map((client) => {
    const next = () => { client.timer = setTimeout(() => { client.cut(); next(); }, given.cut * 1000 * (0.5 + Math.random())); };
    next();
    return client;
  });
  return () => timers.forEach((client) => clearTimeout(client.timer));
}

async function restartAll(fleet) {
  await Promise.all(fleet.map((node) => node.end()));
  await Promise.all(fleet.map((node) => node.start()));
}

async function run(peer) {
  const redis = await startRedis();
  const fleet = Array.from({ length: NODES }, (_, number) => new Node(peer, redis.url, number));
  const crowd = [];
  try {
    for (const node of fleet) await node.start();
    const seen = { replays: [], twice: 0, disordered: 0, incomplete: 0, cuts: 0 };
    for (let number = 0; number < clients; number += 1) {
      crowd.push(new Client(fleet, number, seen));
      // A hundred at a time: how they come at first is not the point.
      if (number % 100 === 99) await Promise.all(crowd.map((client) => client.joined));
    }
    await Promise.all(crowd.map((client) => client.joined));
    const stop = scenario === 'jitter' ? cutThem(crowd) : () => {};
    let restarted = Promise.resolve();
    const began = performance.now();
    for (let number = 0; number < events; number += 1) {
      await sleep(Math.max(0, began + (number * 1000) / rate - performance.now()));
      await publish(peer, redis.client, number);
      if (scenario === 'avalanche' && number === Math.floor(events / 3)) restarted = restartAll(fleet);
    }
    stop();
    await restarted;
    const whole = () => crowd.every((client) => client.had.size >= events);
    await until('everything', () => peer === 'hallway' ? whole() : crowd.every((client) => client.socket.connected)).catch(() => {});
    // What recovery still sends.
    await sleep(1000);
    return tally(crowd, seen);
  } finally {
    crowd.forEach((client) => client.socket.disconnect());
    await Promise.all(fleet.map((node) => node.child && node.end()));
    redis.client.destroy();
    redis.child.kill();
  }
}

function tally(crowd, seen) {
  const came = crowd.reduce((sum, client) => sum + client.had.size, 0);
  seen.replays.sort((a, b) => a - b);
  const at = (share) => seen.replays[Math.min(seen.replays.length - 1, Math.floor(share * seen.replays.length))] ?? 0;
  return {
    'events that came, %': (100 * came) / (clients * events),
    'events that did not come': clients * events - came,
    'events twice': seen.twice,
    'events out of order': seen.disordered,
    'answers without `complete`': seen.incomplete,
    'TCP connections cut': seen.cuts,
    'join after CONNECT p50, ms': at(0.5),
    'join after CONNECT p99, ms': at(0.99),
  };
}

const middle = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

function keep(figures) {
  const load = `${clients} stock clients, ${NODES} nodes, ${events} events`;
  const all = existsSync(given.json) ? JSON.parse(readFileSync(given.json)) : {};
  all[scenario] = { load, figures: figures.map((one) => ({ ...one, median: middle(one.values) })) };
  writeFileSync(given.json, JSON.stringify(all, null, 2));
}

const figures = [];
const broken = [];
for (let turn = 0; turn < Number(given.runs); turn += 1) {
  for (const peer of given.peers.split(',')) {
    const result = await run(peer);
    const name = peer === 'hallway' ? peer : `node-${peer}`;
    for (const [figure, value] of Object.entries(result)) {
      console.log(`${name.padEnd(14)} ${figure.padEnd(40)} ${value.toFixed(3).padStart(12)}`);
      const known = figures.find((one) => one.peer === name && one.figure === figure);
      if (known) known.values.push(value);
      else figures.push({ peer: name, figure, values: [value] });
    }
    if (peer !== 'hallway') continue;
    for (const figure of ['events that did not come', 'events twice', 'events out of order', 'answers without `complete`']) {
      if (result[figure] > 0) broken.push(`${figure}: ${result[figure]}`);
    }
    if (given.must && result['join after CONNECT p99, ms'] > 100) broken.push('join after CONNECT p99 over 100 ms');
  }
}
if (given.json) keep(figures);
if (broken.length) console.error(`hallway-bench: ${broken.join('; ')}`);
process.exit(broken.length ? 1 : 0);
