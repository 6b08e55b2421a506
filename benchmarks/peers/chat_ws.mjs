// The side of Node's `ws` in the chat and echo benchmarks: the text that came in goes out to everybody else (chat;
// deflate: the same, compressed) or back (echo).
//
//   node chat_ws.mjs chat|deflate|echo NODE_MODULES

import { createRequire } from "node:module";

const [workload, modules] = process.argv.slice(2);
const { WebSocketServer } = createRequire(`${modules}/`)("ws");

const handlers = {
  // The broadcast of ws's own README: `message` is the Buffer that came in, it is sent as it is, and never decoded.
  chat(server, ws) {
    ws.on("message", (message) => {
      for (const client of server.clients) {
        if (client !== ws) client.send(message, { binary: false });
      }
    });
  },
  deflate(server, ws) {
    ws.on("message", (message) => {
      for (const client of server.clients) {
        if (client !== ws) client.send(message, { binary: false, compress: true });
      }
    });
  },
  echo(server, ws) {
    ws.on("message", (message) => ws.send(message, { binary: false }));
  },
};

// The settings of ws's own README, but for the threshold: as much is to be compressed here as elsewhere.
const perMessageDeflate = workload === "deflate" && {
  zlibDeflateOptions: { chunkSize: 1024, memLevel: 7, level: 3 },
  zlibInflateOptions: { chunkSize: 10 * 1024 },
  clientNoContextTakeover: true,
  serverNoContextTakeover: true,
  serverMaxWindowBits: 10,
  concurrencyLimit: 10,
  threshold: 0,
};
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate });
const handle = handlers[workload];
server.on("connection", (ws) => handle(server, ws));
server.on("listening", () => console.log(`LISTENING ${server.address().port}`));
