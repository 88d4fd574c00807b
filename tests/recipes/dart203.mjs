// socket_io_client 2.0.3 as its source has it: a refused CONNECT is an `error` on an engine that stays open, `onAny` hears
// the socket's own events too, `41` ends it for good, a lost transport is opened again after about a second.

import WebSocket from "ws";

let read = JSON.parse;
export const reading = (reader) => (read = reader);

export const OptionBuilder = () => {
  const options = {};
  const builder = {
    setTransports: () => builder,
    enableForceNew: () => builder,
    disableAutoConnect: () => builder,
    setAuthFn: (auth) => { options.auth = auth; return builder; },
    build: () => options,
  };
  return builder;
};

export function io(url, { auth }) {
  const { host, pathname } = new URL(url);
  return new Socket(`ws://${host}/socket.io/?EIO=4&transport=websocket`, pathname, auth);
}

class Engine {
  constructor(url, told) {
    this.open = false;
    this.ws = new WebSocket(url);
    this.ws.on("message", (data) => this.heard(String(data), told));
    this.ws.on("error", (error) => { if (!this.open && !this.closed) { this.closed = true; told.failed(error); } });
    this.ws.on("close", () => this.end("transport close", told));
    this.told = told;
  }

  heard(frame, told) {
    if (this.closed) return;
    if (frame[0] === "0") { this.open = true; told.opened(); }
    else if (frame === "2") this.write("3");
    else if (frame[0] === "4") told.packet(frame.slice(1));
  }

  write(frame) {
    if (!this.closed && this.ws.readyState === WebSocket.OPEN) this.ws.send(frame);
  }

  end(reason, told) {
    if (this.closed) return;
    this.closed = true;
    told.closed(reason);
  }

  close() {
    this.end("forced close", this.told);
    this.ws.close();
  }
}

class Socket {
  constructor(url, namespace, auth) {
    Object.assign(this, { url, namespace, auth, connected: false, active: false, handlers: {}, any: [], acks: {}, ids: 0, buffer: [] });
    this.io = { engine: null };
  }

  on(name, handler) { (this.handlers[name] ??= []).push(handler); }
  onConnect(handler) { this.on("connect", handler); }
  onDisconnect(handler) { this.on("disconnect", handler); }
  onConnectError(handler) { this.on("connect_error", handler); }
  onAny(handler) { this.any.push(handler); }

  fire(name, data) {
    [...(this.handlers[name] ?? [])].forEach((handler) => handler(data));
    this.any.forEach((handler) => handler(name, data));
  }

  connect() {
    if (this.connected) return;
    this.active = true;
    this.skipReconnect = false;
    this.openEngine();
  }

  openEngine() {
    const namespace = this.namespace;
    this.io.engine = new Engine(this.url, {
      opened: () => this.auth((data) => this.send("0", JSON.stringify(data))),
      packet: (packet) => packet.startsWith(`${packet[0]}${namespace},`) && this.packet(packet[0], packet.slice(namespace.length + 2)),
      failed: (error) => { if (!this.connected) this.fire("connect_error", error); this.reconnect(); },
      closed: (reason) => { this.gone(reason); this.reconnect(); },
    });
  }

  reconnect() {
    if (this.skipReconnect) return;
    this.timer = setTimeout(() => this.skipReconnect || this.openEngine(), 1000 * (0.5 + Math.random()));
  }

  send(kind, body) { this.io.engine.write(`4${kind}${this.namespace},${body}`); }

  packet(kind, body) {
    const [, id, json] = /^(\d*)(.*)$/s.exec(body);
    if (kind === "0") {
      this.connected = true;
      this.fire("connect");
      this.buffer.splice(0).forEach((body) => this.send("2", body));
    } else if (kind === "1") {
      this.destroy();
      this.gone("io server disconnect");
    } else if (kind === "2") {
      const [name, ...data] = read(json);
      if (id !== "" || data.length !== 1) throw new Error(`an app would get a List: ${json}`);
      this.fire(name, data[0]);
    } else if (kind === "3") {
      const ack = this.acks[id];
      delete this.acks[id];
      const data = read(json);
      if (data.length !== 1) throw new Error(`a callback takes one argument: ${json}`);
      ack?.(data[0]);
    } else if (kind === "4") this.fire("error", read(json));
  }

  emitWithAck(name, data, ack) {
    const body = `${ack ? (this.acks[this.ids] = ack, this.ids++) : ""}${JSON.stringify([name, data])}`;
    if (this.connected) this.send("2", body);
    else this.buffer.push(body);
  }

  gone(reason) {
    if (!this.active && reason !== "io server disconnect" && reason !== "io client disconnect") return;
    this.connected = false;
    this.fire("disconnect", reason);
  }

  destroy() {
    this.active = false;
    this.skipReconnect = true;
    clearTimeout(this.timer);
    this.io.engine?.close();
  }

  dispose() {
    if (this.connected) this.send("1", "");
    this.destroy();
    if (this.connected) this.gone("io client disconnect");
    Object.assign(this, { handlers: {}, any: [] });
  }
}
