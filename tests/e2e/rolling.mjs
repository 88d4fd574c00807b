// 300 stock JavaScript clients with their default reconnection, through nginx and through HAProxy, while three nodes on one
// Redis are restarted one after the other, three times. A ledger says that nothing is lost. Too long for each run of ./check:
//
//   ./check --long        (or, after a ./check: node tests/e2e/rolling.mjs [nginx|haproxy])
//
// A process with the argument `clients` holds a share of the clients and reports to the one that started it.

import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const ROOT = join(HERE, '../..');
const CLIENTS = 300, PROCESSES = 3, NODES = 3, ROUNDS = 3, ROOMS = 60, EVERY_MS = 20;
const PATIENCE_MS = 60_000;
const SECRET = 'a-secret-for-tests-of-more-than-32-bytes';
const room = (n) => `order:o${n % ROOMS}`;
const roomsOf = (client) => [room(client), room(client * 7 + 13)].filter((one, at, all) => all.indexOf(one) === at);

function token(sub) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub, exp: Math.floor(Date.now() / 1000) + 3600 })}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}

async function until(what, probe, patience = PATIENCE_MS) {
  for (const began = Date.now(); Date.now() - began < patience; await sleep(20)) {
    const found = await probe();
    if (found) return found;
  }
  throw new Error(`not within ${patience / 1000} s: ${what}`);
}

// ---- the clients

async function clients(url, share) {
  const copy = join(HERE, '.cache/realtime.mjs');
  const { Realtime } = await import(copy);
  const all = Array.from({ length: CLIENTS / PROCESSES }, (_, at) => {
    const number = at * PROCESSES + share;
    const client = { number, had: [], away: [], gaps: 0, lost: 0 };
    const onState = (state) => {
      if (state === 'connected' && client.lost) client.away.push(Date.now() - client.lost);
      client.lost = state === 'reconnecting' ? Date.now() : 0;
      client.state = state;
    };
    client.realtime = new Realtime(url, () => token(`u${number}`), { onState, onGap: () => client.gaps++, onError: () => {} });
    client.realtime.on('order.changed', (event) => client.had.push(event.payload));
    roomsOf(number).forEach((one) => client.realtime.join(one));
    return client;
  });
  process.on('message', async (ask) => {
    if (ask === 'joined') {
      const joined = all.every(({ state, realtime }) => state === 'connected' && Object.values(realtime.offsets).every(Boolean));
      process.send(joined);
    } else {
      const report = ({ number, had, away, gaps }) => ({ number, had, away, gaps });
      process.send(all.map(report), () => ask === 'end' && process.exit());
    }
  });
}

// ---- the nodes, Redis and the proxy

const running = new Set();
function start(program, args, options = {}) {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', options.log ?? 'ignore', 'ipc'].slice(0, options.ipc ? 4 : 3), ...options });
  child.on('error', (error) => { console.error(`${program}: ${error.message}; ./check installs it`); process.exit(1); });
  running.add(child);
  child.gone = new Promise((resolve) => child.on('exit', (code) => resolve(running.delete(child) && code)));
  return child;
}

const port = () => new Promise((resolve) => {
  const server = createServer().listen(0, '127.0.0.1', () => { const { port } = server.address(); server.close(() => resolve(port)); });
});

class Node {
  constructor(listen, admin, redis) {
    Object.assign(this, { listen, admin, redis });
  }

  async start() {
    this.child = start(join(ROOT, 'target/debug/hallway'), ['serve'], { env: {
      ...process.env,
      HALLWAY_SERVER__LISTEN: `127.0.0.1:${this.listen}`,
      HALLWAY_ADMIN__LISTEN: `127.0.0.1:${this.admin}`,
      HALLWAY_REDIS__URL: `redis://127.0.0.1:${this.redis}`,
      HALLWAY_AUTH__HS256_SECRET: SECRET,
      HALLWAY_HISTORY__MAX_EVENTS: '2000',
    } });
    const ready = async () => (await fetch(`http://127.0.0.1:${this.admin}/readyz`).catch(() => ({}))).status === 200;
    await until(`the node on ${this.listen} is ready`, ready);
  }

  async restart() {
    this.child.kill('SIGTERM');
    const code = await this.child.gone;
    if (code !== 0) throw new Error(`a node ended with ${code}`);
    await this.start();
  }
}

// A configuration as it stands in deploy/proxies, with the addresses of this machine.
function proxy(name, listen, nodes, folder) {
  const cache = join(HERE, '.cache/proxies');
  const file = { nginx: 'nginx.conf', haproxy: 'haproxy.cfg' }[name];
  let text = readFileSync(join(ROOT, 'deploy/proxies', file), 'utf8');
  nodes.forEach((node, at) => {
    const check = name === 'haproxy' ? ` port ${node.admin}` : '';
    text = text.replace(`node${at + 1}.internal:8080`, `127.0.0.1:${node.listen}${check}`);
  });
  text = text.replace('listen 80;', `listen 127.0.0.1:${listen};`).replace('bind :80', `bind 127.0.0.1:${listen}`);
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${folder}/${kind};`).join(' ');
  text = text.replace('http {', `http { access_log off; ${paths}`);
  text = text.replace('maxconn 40000', 'maxconn 2000'); // what any machine may open
  const config = join(folder, file);
  writeFileSync(config, text);
  const unpacked = existsSync(join(cache, `usr/sbin/${name}`)) ? join(cache, `usr/sbin/${name}`) : name;
  const env = { ...process.env, LD_LIBRARY_PATH: join(cache, 'usr/lib', `${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`) };
  const args = {
    nginx: ['-c', config, '-p', folder, '-e', 'stderr', '-g', `daemon off; master_process off; error_log stderr crit; pid ${folder}/nginx.pid;`],
    haproxy: ['-db', '-q', '-f', config],
  }[name];
  const child = start(unpacked, args, { env, log: 'inherit' });
  child.gone.then((code) => code && (console.error(`${name} ended with ${code}`), process.exit(1)));
  return child;
}

// ---- the run

async function publish(redis, ledger, stop) {
  for (let number = 0; !stop.now; number++) {
    const rooms = number % 3 === 0 ? [room(number), room(number * 5 + 1)] : [room(number)];
    const names = [...new Set(rooms)];
    const event = JSON.stringify({ type: 'order.changed', payload: number });
    await redis.fCall('hallway_publish', { keys: names.map((name) => `hallway:{${name}}`), arguments: [event] });
    ledger.push(names);
    await sleep(EVERY_MS);
  }
}

// Every client had every event of its rooms once, in the order of each room.
function check(ledger, reports) {
  let [deliveries, lost, twice, disorder] = [0, 0, 0, 0];
  for (const { number, had } of reports) {
    const mine = new Set(roomsOf(number));
    const wanted = ledger.flatMap((rooms, event) => (rooms.some((one) => mine.has(one)) ? [event] : []));
    const seen = new Set(had);
    deliveries += had.length;
    twice += had.length - seen.size;
    lost += wanted.filter((event) => !seen.has(event)).length;
    for (const one of mine) {
      const here = had.filter((event) => ledger[event].includes(one));
      disorder += here.filter((event, at) => at > 0 && event < here[at - 1]).length;
    }
  }
  return { deliveries, lost, twice, disorder };
}

async function run(name) {
  const folder = mkdtempSync(join(tmpdir(), 'hallway-rolling-'));
  const [redisPort, listen, ...ports] = await Promise.all(Array.from({ length: 2 + 2 * NODES }, port));
  start('redis-server', ['--port', redisPort, '--bind', '127.0.0.1', '--save', '', '--dir', folder].map(String));
  const nodes = Array.from({ length: NODES }, (_, at) => new Node(ports[2 * at], ports[2 * at + 1], redisPort));
  for (const node of nodes) await node.start();
  proxy(name, listen, nodes, folder);

  const { createClient } = await import('redis');
  const redis = await createClient({ url: `redis://127.0.0.1:${redisPort}` }).connect();
  const shares = Array.from({ length: PROCESSES }, (_, share) =>
    start(process.execPath, [fileURLToPath(import.meta.url), 'clients', `http://127.0.0.1:${listen}`, share], { ipc: true, log: 'inherit' }));
  const ask = (question) => Promise.all(shares.map((child) => new Promise((resolve) => {
    child.once('message', resolve);
    child.send(question);
  })));
  await until('all clients are in their rooms', async () => (await ask('joined')).every(Boolean));

  const [ledger, stop, began] = [[], { now: false }, Date.now()];
  const publisher = publish(redis, ledger, stop);
  for (let round = 0; round < ROUNDS; round++) {
    for (const node of nodes) {
      await node.restart();
      await until('all clients are back', async () => (await ask('joined')).every(Boolean));
    }
  }
  stop.now = true;
  await publisher;
  const reports = async () => (await ask('report')).flat();
  const whole = async () => { const seen = check(ledger, await reports()); return seen.lost === 0; };
  await until('everything has come', whole, 20_000).catch(() => {});
  const last = (await ask('end')).flat();
  const away = last.flatMap((one) => one.away).sort((one, other) => one - other);
  const result = {
    ...check(ledger, last), gaps: last.reduce((sum, one) => sum + one.gaps, 0),
    events: ledger.length, seconds: Math.round((Date.now() - began) / 1000), reconnects: away.length,
    awayMs: { p50: away[away.length >> 1], p99: away[Math.floor(away.length * 0.99)], max: away.at(-1) },
  };
  console.log(`${name}: ${CLIENTS} clients, ${NODES * ROUNDS} restarts: ${JSON.stringify(result)}`);
  await redis.close();
  const children = [...running];
  children.forEach((child) => child.kill('SIGKILL'));
  await Promise.all(children.map((child) => child.gone));
  rmSync(folder, { recursive: true, force: true });
  const { lost, twice, disorder, gaps } = result;
  if (lost + twice + disorder + gaps > 0 || away.length < CLIENTS) throw new Error(`${name}: something is wrong`);
}

const [, , what, ...rest] = process.argv;
if (what === 'clients') {
  await clients(rest[0], Number(rest[1]));
} else {
  mkdirSync(join(HERE, '.cache'), { recursive: true });
  copyFileSync(join(ROOT, 'docs/clients/realtime.mjs'), join(HERE, '.cache/realtime.mjs'));
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));
  process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));
  for (const name of what ? [what] : ['nginx', 'haproxy']) await run(name);
  process.exit();
}
