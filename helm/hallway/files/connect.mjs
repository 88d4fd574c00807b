// What `helm test` runs: comes in as a client does, with a token, and joins a room. Plain Socket.IO frames over the
// WebSocket client of Node 22, so that nothing must be fetched.
import { createHmac } from "node:crypto";

const { TEST_ADDRESS, TEST_NAMESPACE, TEST_ROOM, TEST_SECRET, TEST_ISSUER, TEST_AUDIENCE } = process.env;

const base64 = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

function sign(secret) {
  const now = Math.floor(Date.now() / 1000);
  const claims = { sub: "helm-test", iat: now, exp: now + 60 };
  if (TEST_ISSUER) claims.iss = TEST_ISSUER;
  if (TEST_AUDIENCE) claims.aud = TEST_AUDIENCE;
  const text = `${base64({ alg: "HS256", typ: "JWT" })}.${base64(claims)}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}

function end(sentence, code) {
  console.log(sentence);
  process.exit(code);
}

const token = process.env.TEST_TOKEN || (TEST_SECRET && sign(TEST_SECRET));
const socket = new WebSocket(`ws://${TEST_ADDRESS}/socket.io/?EIO=4&transport=websocket`);
setTimeout(() => end(`no answer from ${TEST_ADDRESS} within 20 s`, 1), 20_000);
socket.addEventListener("error", () => end(`no WebSocket to ${TEST_ADDRESS}: is a node ready?`, 1));
socket.addEventListener("close", () => end("the connection was closed before the end", 1));
socket.addEventListener("message", ({ data: frame }) => {
  if (frame.startsWith("0")) {
    console.log(`connected to ${TEST_ADDRESS}`);
    socket.send(`40${TEST_NAMESPACE},${JSON.stringify({ token: token || "no-token" })}`);
  } else if (frame.startsWith(`44${TEST_NAMESPACE},`)) {
    if (!token && frame.includes('"unauthorized"')) end("a bad token is refused; tests.tokenSecret has none to join with", 0);
    end(`the gateway refused the token: ${frame}`, 1);
  } else if (frame.startsWith(`40${TEST_NAMESPACE},`)) {
    if (!token) end("a bad token was let in", 1);
    socket.send(`42${TEST_NAMESPACE},0["join_room",${JSON.stringify({ room: TEST_ROOM })}]`);
  } else if (frame.startsWith(`43${TEST_NAMESPACE},0`)) {
    const [reply] = JSON.parse(frame.slice(`43${TEST_NAMESPACE},0`.length));
    if (!reply.ok) end(`joining ${TEST_ROOM} was answered with ${reply.error}`, 1);
    end(`joined ${TEST_ROOM}, ${reply.data.roomSize} in it`, 0);
  } else if (frame === "2") {
    socket.send("3");
  }
});
