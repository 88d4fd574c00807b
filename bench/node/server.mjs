// A plain Socket.IO server as a team would write it: clients join rooms, events come by a Redis channel.
// usage: node server.mjs PORT REDIS_URL CHANNEL

import { createServer } from "node:http";
import { createClient } from "redis";
import { Server } from "socket.io";

const [port, url, channel] = process.argv.slice(2);
const http = createServer();
const realtime = new Server(http, { transports: ["websocket"] }).of("/realtime");

realtime.on("connection", (socket) => {
  socket.on("join_room", ({ room }, reply) => {
    socket.join(room);
    reply({ ok: true });
  });
});

const redis = createClient({ url });
await redis.connect();
await redis.subscribe(channel, (message) => {
  const { room, argument } = JSON.parse(message);
  realtime.to(room).emit(argument.event.type, argument);
});

http.listen(Number(port), "127.0.0.1", () => console.error(`listening on 127.0.0.1:${port}`));
