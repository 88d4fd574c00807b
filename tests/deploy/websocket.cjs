// Gives an older Node the WebSocket that Node 22 has: that of `ws`, which the official client brings along.
globalThis.WebSocket ??= require("../e2e/node_modules/ws");
