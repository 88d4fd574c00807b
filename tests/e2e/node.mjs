// The official JavaScript client (socket.io-client 4.8) against a running gateway on a real Redis.
//
//   E2E_ADDRESS=127.0.0.1:8080 E2E_ADMIN=127.0.0.1:9090 E2E_REDIS=redis://127.0.0.1:6379 E2E_API_KEY=…
//   E2E_TOKEN=… (a customer's, sub "u1")  E2E_EXPIRED_TOKEN=…  E2E_FORGED_TOKEN=…
//   E2E_AGENT_TOKEN=… (of the agent "a1")  E2E_NEXT_AGENT_TOKEN=… (of the same user as agent "a2")   E2E_SECRET=… (of HS256 tokens)   node node.mjs
//
// Says what it has seen, and ends with 1 and a sentence at the first thing that is wrong.

import { createHmac } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { createClient } from 'redis';
import { io } from 'socket.io-client';

const PATIENCE_MS = 10_000;
const LONGEST_MS = 90_000;
const env = process.env;
const run = Date.now().toString(36);
let step = 'the start';

setTimeout(() => fail(`not done after ${LONGEST_MS / 1000} s`), LONGEST_MS).unref();

function fail(sentence) {
  console.error(`node.mjs: ${step}: ${sentence}`);
  process.exit(1);
}

function check(holds, sentence, seen) {
  if (!holds) fail(seen === undefined ? sentence : `${sentence}, not ${JSON.stringify(seen)}`);
}

function checkEqual(seen, wanted, what) {
  check(isDeepStrictEqual(seen, wanted), `${what} should be ${JSON.stringify(wanted)}`, seen);
}

function within(promise, what) {
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error(`${what} did not come`)), PATIENCE_MS).unref());
  return Promise.race([promise, late]);
}

// A socket with its events in the order they came.
class Client {
  constructor(auth, options = {}) {
    this.events = [];
    this.waiting = [];
    this.socket = io(`http://${env.E2E_ADDRESS}/realtime`, { transports: ['websocket'], forceNew: true, auth, ...options });
    this.socket.onAny((...event) => {
      this.events.push(event);
      this.waiting.splice(0).forEach((wake) => wake());
    });
  }

  connected() {
    return within(new Promise((resolve) => this.socket.once('connect', resolve)), 'connect');
  }

  // The reply to a command: exactly one map.
  async call(command, ...args) {
    const reply = await within(
      new Promise((resolve) => this.socket.emit(command, ...args, (...reply) => resolve(reply))),
      `the reply to ${command} ${JSON.stringify(args)}`,
    );
    check(reply.length === 1 && typeof reply[0] === 'object', 'a reply is exactly one map', reply);
    return reply[0];
  }

  async ok(command, argument) {
    const reply = await this.call(command, argument);
    check(reply.ok === true, `${command} ${JSON.stringify(argument)} should be ok`, reply);
    return reply.data;
  }

  async refused(command, argument, error) {
    checkEqual(await this.call(command, argument), { ok: false, error }, `the reply to ${command} ${JSON.stringify(argument)}`);
  }

  // The next event, which must have this type and exactly one argument.
  async event(type) {
    while (this.events.length === 0) {
      await within(new Promise((resolve) => this.waiting.push(resolve)), `an event ${type}`);
    }
    const [name, ...args] = this.events.shift();
    checkEqual([name, args.length], [type, 1], 'the name of the event and the count of its arguments');
    checkEqual(args[0].requiresAck, false, 'requiresAck');
    return args[0].event;
  }

  quiet() {
    checkEqual(this.events, [], 'further events');
  }

  end() {
    this.socket.disconnect();
  }
}

const redis = createClient({ url: env.E2E_REDIS });
redis.on('error', (error) => fail(`Redis: ${error.message}`));
const text = (type, payload) => JSON.stringify({ type, payload });

async function fcall(rooms, event) {
  const keys = rooms.map((room) => `hallway:{${room}}`);
  const [id, ...placed] = await redis.fCall('hallway_publish', { keys, arguments: [event] });
  return { id, offsets: Object.fromEntries(placed.map(([room, offset]) => [room, offset])) };
}

async function http(body) {
  const headers = { authorization: `Bearer ${env.E2E_API_KEY}` };
  const response = await fetch(`http://${env.E2E_ADDRESS}/v1/publish`, { method: 'POST', headers, body: JSON.stringify(body) });
  check(response.status === 200, 'POST /v1/publish answers 200', response.status);
  return response.json();
}

async function post(path, body) {
  const headers = { authorization: `Bearer ${env.E2E_API_KEY}` };
  const response = await fetch(`http://${env.E2E_ADDRESS}${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
  check(response.status === 200, `POST ${path} answers 200`, response.status);
  return response.json();
}

// A token of a user for so many seconds.
function tokenOf(sub, seconds) {
  const now = Math.floor(Date.now() / 1000);
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub, iat: now, exp: now + seconds })}`;
  return `${signed}.${createHmac('sha256', env.E2E_SECRET).update(signed).digest('base64url')}`;
}

async function theGatewayIsReady() {
  const ready = await fetch(`http://${env.E2E_ADMIN}/readyz`);
  checkEqual(ready.status, 200, '/readyz');
  const numbers = await (await fetch(`http://${env.E2E_ADMIN}/metrics`)).text();
  check(numbers.includes('hallway_broker_up 1'), '/metrics says hallway_broker_up 1');
}

async function badTokensAreRefused() {
  const bad = { none: undefined, empty: {}, garbage: { token: 'x' }, expired: { token: env.E2E_EXPIRED_TOKEN }, forged: { token: env.E2E_FORGED_TOKEN } };
  for (const [name, auth] of Object.entries(bad)) {
    const client = new Client(auth, { reconnection: false });
    client.socket.once('connect', () => fail(`a client with the token "${name}" got in`));
    const error = await within(new Promise((resolve) => client.socket.once('connect_error', resolve)), `connect_error for ${name}`);
    checkEqual(error.message, 'unauthorized', `the message for the token "${name}"`);
    client.end();
  }
  const elsewhere = io(`http://${env.E2E_ADDRESS}/nowhere`, { transports: ['websocket'], forceNew: true, reconnection: false });
  const error = await within(new Promise((resolve) => elsewhere.once('connect_error', resolve)), 'connect_error for /nowhere');
  checkEqual(error.message, 'Invalid namespace', 'the message for an unknown namespace');
  elsewhere.disconnect();
}

async function everyPlaceOfATokenIsRead() {
  const token = env.E2E_TOKEN;
  const places = [
    [{ token: `Bearer ${token}` }, {}],
    [{ accessToken: token }, {}],
    [undefined, { query: { token } }],
    [undefined, { extraHeaders: { authorization: `Bearer ${token}` } }],
  ];
  for (const [auth, options] of places) {
    const client = new Client(auth, options);
    await client.connected();
    client.end();
  }
}

async function eventsComeByEveryWayIn(client) {
  const room = `order:o-${run}`;
  const joined = await client.ok('join_room', { room });
  check(joined.room === room && joined.roomSize === 1 && /^\d+-\d+$/.test(joined.offset), 'the join names room, roomSize 1 and offset', joined);
  const again = await client.call('join_room', { room }, 'an argument too many');
  checkEqual(again, { ok: true, data: joined }, 'a second join');

  const stored = await fcall([room], text('order.status_changed', { orderId: run, status: 'confirmed' }));
  const first = await client.event('order.status_changed');
  checkEqual(first.id, stored.id, 'the id of the FCALL-published event');
  checkEqual(first.meta, { room, offset: stored.offsets[room] }, 'its meta');
  checkEqual(first.payload, { orderId: run, status: 'confirmed' }, 'its payload');
  checkEqual([first.priority, Number.isInteger(first.timestamp)], ['NORMAL', true], 'its priority and whether its timestamp is whole');

  const heard = await redis.publish(`hallway:{${room}}`, text('order.viewed', { by: 'someone' }));
  checkEqual(heard, 1, 'how many heard the plain PUBLISH');
  const second = await client.event('order.viewed');
  checkEqual([second.meta, second.payload], [{ room }, { by: 'someone' }], 'the plain event');

  const answer = await http({ room, type: 'order.status_changed', payload: { status: 'ready' }, meta: { source: 'e2e' } });
  const third = await client.event('order.status_changed');
  checkEqual(third.id, answer.id, 'the id of the HTTP-published event');
  checkEqual(third.meta, { source: 'e2e', room, offset: answer.offsets[room] }, 'its meta');

  const missed = await client.ok('get_missed_events', { room, after: joined.offset });
  checkEqual(missed, { events: [first, third], offset: third.meta.offset, complete: true, hasMore: false }, 'the missed events');
}

async function anEventOfTwoRoomsComesOnce(client) {
  const rooms = [`store:s-${run}`, `product:p-${run}`];
  for (const room of rooms) await client.ok('join_room', { room });
  const { offsets } = await fcall(rooms, text('inventory.stock_updated', { stock: 18 }));
  const event = await client.event('inventory.stock_updated');
  checkEqual(event.meta, { room: rooms[0], offset: offsets[rooms[0]], offsets }, 'the meta of an event of two rooms');
  client.quiet();
}

async function nothingComesAfterLeave(client) {
  const [left, kept] = [`order:left-${run}`, `order:kept-${run}`];
  for (const room of [left, kept]) await client.ok('join_room', { room });
  checkEqual(await client.ok('leave_room', { room: left }), { room: left, roomSize: 0 }, 'the reply to leave_room');
  checkEqual((await client.ok('leave_room', { room: left })).roomSize, 0, 'leaving twice');
  await fcall([left], text('order.status_changed', 'left'));
  await fcall([kept], text('order.status_changed', 'kept'));
  checkEqual((await client.event('order.status_changed')).payload, 'kept', 'the next event');
  client.quiet();
}

async function badInputIsAnswered(client) {
  for (const room of ['user:somebody-else', 'orders:active', 'dashboard:admin', 'store:s1:orders']) {
    await client.refused('join_room', { room }, 'forbidden');
    await client.refused('get_missed_events', { room, since: 0 }, 'forbidden');
  }
  for (const argument of [null, 5, 'order:1', [], ['order:1'], {}, { room: 5 }, { room: null }, { room: 'order:1', after: 5 }, Buffer.from('order:1')]) {
    await client.refused('join_room', argument, 'invalid-payload');
  }
  for (const room of ['', 'order', 'order:', 'Order:1', 'order:a b', 'nowhere:1', `order:${'x'.repeat(129)}`]) {
    await client.refused('join_room', { room }, 'invalid-room');
    await client.refused('leave_room', { room }, 'invalid-room');
  }
  const room = `order:bad-${run}`;
  for (const rest of [{}, { after: 'x' }, { since: -1 }, { since: '1' }, { since: 0, after: '1-0' }, { since: 0, limit: 0 }, { since: 0, limit: 1001 }]) {
    await client.refused('get_missed_events', { room, ...rest }, 'invalid-payload');
  }
  checkEqual((await client.ok('get_missed_events', { room, since: Date.now() + 60_000 })).events, [], 'events since the future');
  await client.refused('fly_away', {}, 'unknown-command');
  client.socket.emit('fly_away', {});
  client.socket.emit('join_room', 'no map, no ack');
  await client.ok('leave_room', { room });
  client.quiet();
}

async function aCommandWithoutAckIsCarriedOut(client) {
  const room = `order:silent-${run}`;
  client.socket.emit('join_room', { room });
  await client.ok('leave_room', { room: `order:barrier-${run}` });
  await fcall([room], text('order.status_changed', 'silent'));
  checkEqual((await client.event('order.status_changed')).payload, 'silent', 'the event of a room joined without an ack');
}

// The token is given only when the missed events are stored, so that the client is away for certain.
async function nothingIsLostWithTheTransport() {
  let mayReturn = Promise.resolve();
  const client = new Client((give) => mayReturn.then(() => give({ token: env.E2E_TOKEN })), { reconnectionDelay: 50 });
  await client.connected();
  const room = `order:cut-${run}`;
  let { offset } = await client.ok('join_room', { room });
  for (const round of [1, 2]) {
    let open;
    mayReturn = new Promise((resolve) => (open = resolve));
    const gone = within(new Promise((resolve) => client.socket.once('disconnect', resolve)), 'disconnect');
    client.socket.io.engine.transport.ws.terminate();
    check((await gone).startsWith('transport'), 'the transport is lost');
    const missed = [];
    for (const n of [1, 2, 3]) missed.push((await fcall([room], text('order.status_changed', { round, n }))).id);
    const back = client.connected();
    open();
    await back;
    const resumed = await client.ok('join_room', { room, after: offset });
    checkEqual(resumed.events.map((event) => event.id), missed, 'the missed events');
    checkEqual([resumed.complete, resumed.hasMore], [true, undefined], 'complete and hasMore');
    checkEqual(resumed.offset, resumed.events[2].meta.offset, 'the offset behind the missed events');
    await fcall([room], text('order.status_changed', { round, n: 4 }));
    const live = await client.event('order.status_changed');
    checkEqual(live.payload, { round, n: 4 }, 'the live event behind them');
    offset = live.meta.offset;
  }
  client.quiet();
  client.end();
}

async function anAgentReportsLocationsAndRefreshesItsToken() {
  const client = new Client({ token: env.E2E_AGENT_TOKEN });
  await client.connected();
  await client.ok('join_room', { room: 'agent:a1' });
  client.socket.emit('update_location', { agentId: 'a2', lat: 12.97, lng: 77.59, accuracy: 8 });
  const event = await client.event('agent.location_updated');
  checkEqual(event.payload, { agentId: 'a1', location: { lat: 12.97, lng: 77.59, accuracy: 8 } }, 'the payload of a location');
  checkEqual(await client.call('event_ack', { eventId: event.id, status: 'processed' }), { ok: true }, 'the reply to event_ack');
  await client.refused('update_location', { lat: '12.97', lng: 77.59 }, 'invalid-payload');
  await client.refused('refresh_token', { token: env.E2E_FORGED_TOKEN }, 'unauthorized');
  await client.refused('refresh_token', { token: env.E2E_TOKEN }, 'forbidden');
  const { expiresAt } = await client.ok('refresh_token', { token: env.E2E_NEXT_AGENT_TOKEN });
  check(expiresAt > Date.now(), 'the new end lies ahead', expiresAt);
  checkEqual((await client.event('room.revoked')).payload, { room: 'agent:a1' }, 'the notice of the room that is closed to it');
  await client.refused('join_room', { room: 'agent:a1' }, 'forbidden');
  await client.ok('join_room', { room: 'agent:a2' });
  client.quiet();
  client.end();
}

// The reason by which a client loses its connection, and whether it then tries again by itself.
function lost(client) {
  return within(
    new Promise((resolve) => client.socket.once('disconnect', (reason) => resolve([reason, client.socket.active]))),
    'disconnect',
  );
}

async function whoIsKickedStaysAwayAndWhoExpiresComesBack() {
  const client = new Client({ token: tokenOf('u7', 600) });
  await client.connected();
  let gone = lost(client);
  checkEqual(await post('/v1/disconnect', { userId: 'u7' }), { sockets: 1, complete: true }, 'the answer to a disconnect');
  checkEqual(await gone, ['io server disconnect', false], 'what a kicked client makes of it');
  await new Promise((resolve) => setTimeout(resolve, 1500));
  check(!client.socket.connected, 'a kicked client does not come back by itself');

  const again = client.connected();
  client.socket.connect();
  await again;
  gone = lost(client);
  await post('/v1/revoke', { sub: 'u7' });
  checkEqual(await gone, ['io server disconnect', false], 'what a client makes of a revocation');
  const refused = within(new Promise((resolve) => client.socket.once('connect_error', resolve)), 'connect_error');
  client.socket.connect();
  checkEqual((await refused).message, 'unauthorized', 'the message for a revoked token');
  client.end();

  let life = 3;
  const expiring = new Client((give) => give({ token: tokenOf('u8', life) }));
  await expiring.connected();
  const end = (await expiring.event('auth.expiring')).payload.expiresAt;
  check(end > Date.now() && end < Date.now() + 4000, 'the end that is told', end - Date.now());
  life = 600;
  gone = lost(expiring);
  checkEqual(await gone, ['transport close', true], 'what a client makes of the end of its token');
  await expiring.connected();
  expiring.end();
}

async function main() {
  await redis.connect();
  await named(theGatewayIsReady);
  await named(badTokensAreRefused);
  await named(everyPlaceOfATokenIsRead);
  const client = new Client({ token: env.E2E_TOKEN });
  await client.connected();
  for (const scene of [eventsComeByEveryWayIn, anEventOfTwoRoomsComesOnce, nothingComesAfterLeave, badInputIsAnswered, aCommandWithoutAckIsCarriedOut]) {
    await named(scene, client);
  }
  client.end();
  await named(anAgentReportsLocationsAndRefreshesItsToken);
  await named(nothingIsLostWithTheTransport);
  await named(whoIsKickedStaysAwayAndWhoExpiresComesBack);
  process.exit(0);
}

async function named(scene, ...args) {
  step = scene.name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
  await scene(...args);
  console.log(`ok: ${step}`);
}

main().catch((error) => fail(error.message));
