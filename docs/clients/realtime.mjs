// Hallway over the stock client: rooms that are joined again with their offsets, each event once and in order.
// Needs socket.io-client 4 and nothing else; for browsers and Node. Copy it into your app; javascript.md shows its use.
import { io } from "socket.io-client";

const REMEMBERED = 5000; // ids of events, once to twice as many: several pages of 1000 missed events
const LONGEST_PAUSE_MS = 30_000;
const FOR_NOW = ["unavailable", "rate-limited"]; // refusals that pass; the others stay
const log = (error) => console.error("realtime:", error);

export class Realtime {
  state = "connecting"; // connected, reconnecting, kicked, closed
  #socket; #token; #shown; #callbacks; #offsets; #pause;
  #handlers = new Map(); #seen = new Set(); #seenBefore = new Set(); #waiting = new Set(); #tries = 0;

  // `token` is asked before every connect. `offsets` are the rooms to be in from the start, as the getter gave them.
  constructor(url, token, { offsets = {}, onGap, onError = log, onKicked, onState, ...options } = {}) {
    this.#token = token;
    this.#callbacks = { onGap, onError, onKicked, onState };
    this.#offsets = new Map(Object.entries(offsets));
    const auth = (give) => this.#authenticate(give);
    this.#socket = io(`${url.replace(/\/+$/, "")}/realtime`, { ...options, transports: ["websocket"], forceNew: true, auth });
    this.#socket.on("connect", () => this.#connected());
    this.#socket.on("disconnect", (reason) => this.#disconnected(reason));
    this.#socket.on("connect_error", (error) => this.#failed(error));
    this.#socket.onAny((_, message) => message?.event && this.#take(message.event));
  }

  // The rooms, each with the last offset seen or null. Kept on disk, they make a restart lose nothing.
  get offsets() {
    return Object.fromEntries(this.#offsets);
  }

  // Joins a room, with `after` from that offset on. A room that one is in stays as it is.
  join(room, after) {
    if (this.#offsets.has(room) && !after) return;
    this.#offsets.set(room, after ?? null);
    this.#join([room]);
  }

  leave(room) {
    if (this.#offsets.delete(room) && this.#socket.connected) this.#socket.emit("leave_room", { room }, () => {});
  }

  // Calls `handler(event)` for every event of a type; returns a function that ends it.
  on(type, handler) {
    const entry = { handler };
    this.#handlers.set(type, [...(this.#handlers.get(type) ?? []), entry]);
    return () => this.#handlers.set(type, this.#handlers.get(type).filter((other) => other !== entry));
  }

  // What happened in a room since a time (epoch ms) or after an offset: { events, offset, complete, hasMore }.
  missed(room, since) {
    return this.command("get_missed_events", { room, [typeof since === "string" ? "after" : "since"]: since });
  }

  // Any command: the data of its reply, or an Error with the code.
  async command(name, argument) {
    const { ok, data, error } = await this.#socket.timeout(LONGEST_PAUSE_MS).emitWithAck(name, argument);
    if (!ok) throw new Error(`${name}: ${error}`);
    return data;
  }

  // Comes back after a kick.
  connect() {
    this.#set("connecting");
    this.#socket.connect();
  }

  // Ends it for good: nothing is called any more.
  close() {
    this.#set("closed");
    clearTimeout(this.#pause);
    this.#socket.disconnect();
  }

  async #authenticate(give) {
    const engine = this.#socket.io.engine;
    const token = await Promise.resolve().then(this.#token).catch((error) => this.#tell("onError", error));
    // A transport that came meanwhile has asked by itself.
    if (engine === this.#socket.io.engine) give({ token: (this.#shown = token ?? "") });
  }

  #connected() {
    this.#tries = 0;
    clearTimeout(this.#pause);
    this.#waiting.clear();
    this.#set("connected");
    this.#join([...this.#offsets.keys()]);
  }

  #disconnected(reason) {
    clearTimeout(this.#pause);
    if (this.state === "closed") return;
    this.#set(reason === "io server disconnect" ? "kicked" : "reconnecting");
    if (this.state === "kicked") this.#tell("onKicked");
  }

  // A wrong URL, a 403, a gateway that is away: the client tries again by itself. A refused token: it does not.
  #failed(error) {
    this.#tell("onError", new Error(`cannot connect: ${error.description?.message ?? error.message}`));
    if (!this.#socket.active) this.#later(() => this.#socket.connect());
  }

  #join(rooms) {
    if (rooms.length === 0 || !this.#socket.connected) return;
    const asked = rooms.map((room) => ({ room, after: this.#offsets.get(room) ?? undefined }));
    this.#socket.emit("join_rooms", { rooms: asked }, (reply) => this.#joined(rooms, reply));
  }

  #joined(rooms, { ok, error, data }) {
    if (error === "too-many-rooms" && rooms.length > 1) {
      const half = Math.ceil(rooms.length / 2);
      return [rooms.slice(0, half), rooms.slice(half)].forEach((some) => this.#join(some));
    }
    const results = ok ? data.rooms : rooms.map((room) => ({ room, error }));
    for (const { room, complete } of results) if (complete === false) this.#tell("onGap", room);
    for (const event of ok ? data.events : []) this.#take(event);
    // A handler may have left some of the rooms.
    for (const { room, offset, error } of results.filter(({ room }) => this.#offsets.has(room))) {
      if (!error) this.#offsets.set(room, offset);
      else if (FOR_NOW.includes(error)) this.#waiting.add(room);
      else this.#refused(room, error);
    }
    if (this.#waiting.size > 0) this.#later(() => this.#joinWaiting());
    else this.#tries = 0;
  }

  #joinWaiting() {
    const rooms = [...this.#waiting].filter((room) => this.#offsets.has(room));
    this.#waiting.clear();
    this.#join(rooms);
  }

  #refused(room, error) {
    this.#offsets.delete(room);
    if (error !== "history-disabled") return this.#tell("onError", new Error(`${room}: ${error}`));
    this.#tell("onGap", room); // nothing is kept of this room, so there is no offset to go on from
    this.join(room);
  }

  #take(event) {
    if (this.state === "closed") return;
    if (!this.#seen.has(event.id) && !this.#seenBefore.has(event.id)) {
      this.#seen.add(event.id);
      if (this.#seen.size === REMEMBERED) [this.#seenBefore, this.#seen] = [this.#seen, new Set()];
      for (const { handler } of this.#handlers.get(event.type) ?? []) this.#safely(() => handler(event));
    }
    const { room, offset, offsets = offset ? { [room]: offset } : {} } = event.meta;
    for (const [room, offset] of Object.entries(offsets)) if (this.#offsets.has(room)) this.#offsets.set(room, offset);
    if (event.type === "room.revoked") this.#offsets.delete(event.payload.room);
    if (event.type === "auth.expiring") this.#safely(() => this.#refresh());
  }

  // Shows a newer token, if there is one; else the socket is closed when this one expires, and comes back.
  async #refresh() {
    const token = await this.#token();
    if (token !== this.#shown) await this.command("refresh_token", { token: (this.#shown = token) });
  }

  #later(run) {
    clearTimeout(this.#pause);
    const pause = Math.min(LONGEST_PAUSE_MS, 1000 * 2 ** this.#tries++) * (0.5 + Math.random() / 2);
    this.#pause = setTimeout(run, pause);
  }

  #set(state) {
    this.state = state;
    this.#tell("onState", state);
  }

  #tell(callback, ...args) {
    this.#safely(() => this.#callbacks[callback]?.(...args));
  }

  // What a handler throws, at once or later, is told and harms nothing else.
  #safely(run) {
    const told = (error) => this.state !== "closed" && this.#callbacks.onError(error);
    new Promise((done) => done(run())).catch(told).catch(log);
  }
}
