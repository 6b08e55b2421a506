// Node's `ws`: a loop over the sockets, as in its README. __init__.py says what is served.
//
//   node ws_server.mjs chat|rooms|bun-chat|echo|deflate NODE_MODULES

import { createRequire } from "node:module";

const [served, modules] = process.argv.slice(2);
const { WebSocketServer } = createRequire(`${modules}/`)("ws");

const rooms = new Map(); // name → Set of sockets

// The broadcast of ws's own README: `message` is the Buffer that came in, it is sent as it is, and never decoded.
function tellTheOthers(options) {
  return (server, ws) => {
    ws.on("message", (message) => {
      for (const client of server.clients) {
        if (client !== ws) client.send(message, options);
      }
    });
  };
}

const handlers = {
  chat: tellTheOthers({ binary: false }),
  deflate: tellTheOthers({ binary: false, compress: true }),
  rooms(_server, ws, query) {
    const names = query.get("rooms").split(",");
    for (const name of names) {
      if (!rooms.has(name)) rooms.set(name, new Set());
      rooms.get(name).add(ws);
    }
    const home = rooms.get(names[0]);
    ws.on("message", (message) => {
      for (const client of home) {
        if (client !== ws) client.send(message, { binary: false });
      }
    });
    ws.on("close", () => names.forEach((name) => rooms.get(name).delete(ws)));
  },
  // As chat-server.node.mjs of Bun's benchmark has it.
  "bun-chat"(server, ws, query) {
    const name = query.get("name");
    ws.on("message", (message) => {
      const out = `${name}: ${message}`;
      for (const client of server.clients) client.send(out);
    });
  },
  echo(_server, ws) {
    ws.on("message", (message) => ws.send(message, { binary: false }));
  },
};

// The settings of ws's own README, but for the threshold: as much is to be compressed here as elsewhere.
const perMessageDeflate = served === "deflate" && {
  zlibDeflateOptions: { chunkSize: 1024, memLevel: 7, level: 3 },
  zlibInflateOptions: { chunkSize: 10 * 1024 },
  clientNoContextTakeover: true,
  serverNoContextTakeover: true,
  serverMaxWindowBits: 10,
  concurrencyLimit: 10,
  threshold: 0,
};
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate });
const handle = handlers[served];
server.on("connection", (ws, request) => handle(server, ws, new URL(request.url, "ws://localhost").searchParams));
server.on("listening", () => console.log(`LISTENING ${server.address().port}`));
