// The side of Node's `ws` in the chat and echo benchmarks: the text that came in goes out to everybody else (chat) or
// back (echo).
//
//   node chat_ws.mjs chat|echo NODE_MODULES

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
  echo(server, ws) {
    ws.on("message", (message) => ws.send(message, { binary: false }));
  },
};

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });
const handle = handlers[workload];
server.on("connection", (ws) => handle(server, ws));
server.on("listening", () => console.log(`LISTENING ${server.address().port}`));
