// A plain Socket.IO server as a team would write it: clients join rooms, events come by a Redis channel.
// usage: node server.mjs PORT REDIS_URL CHANNEL [ENGINE [ADAPTER]]
//   ENGINE   ws (the default) or uws, uWebSockets
//   ADAPTER  none (the default), redis or streams; streams has connection state recovery, and one node emits for all

import { createServer } from "node:http";
import { createAdapter as redisAdapter } from "@socket.io/redis-adapter";
import { createAdapter as streamsAdapter } from "@socket.io/redis-streams-adapter";
import uws from "@trufflesuite/uws-js-unofficial";
import { createClient } from "redis";
import { Server } from "socket.io";

const [port, url, channel, engine = "ws", adapter = "none"] = process.argv.slice(2);

async function connected() {
  const client = createClient({ url });
  client.on("error", () => {});
  return client.connect();
}

const settings = { transports: ["websocket"] };
if (adapter === "redis") settings.adapter = redisAdapter(await connected(), await connected());
if (adapter === "streams") {
  settings.adapter = streamsAdapter(await connected(), { maxLen: 100_000 });
  settings.connectionStateRecovery = { maxDisconnectionDuration: 120_000 };
}
const io = new Server(settings);
const realtime = io.of("/realtime");

const join = (socket, rooms, reply) => {
  rooms.forEach(({ room }) => socket.join(room));
  reply?.({ ok: true });
};
realtime.on("connection", (socket) => {
  socket.on("join_room", (room, reply) => join(socket, [room], reply));
  socket.on("join_rooms", ({ rooms }, reply) => join(socket, rooms, reply));
});

const emit = ({ room, argument }) => realtime.to(room).emit(argument.event.type, argument);
await (await connected()).subscribe(channel, (message) => emit(JSON.parse(message)));

if (engine === "uws") {
  const app = uws.App();
  io.attachApp(app);
  app.listen("127.0.0.1", Number(port), () => console.error(`listening on 127.0.0.1:${port}`));
} else {
  const http = createServer();
  io.attach(http);
  http.listen(Number(port), "127.0.0.1", 4096, () => console.error(`listening on 127.0.0.1:${port}`));
}
