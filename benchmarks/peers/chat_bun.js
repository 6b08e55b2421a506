// Bun's side of the chat and echo benchmarks: the text that came in goes out to everybody else (chat; deflate: the same,
// compressed) or back (echo).
//
//   bun chat_bun.js chat|deflate|echo

const handlers = {
  chat: {
    open(ws) {
      ws.subscribe("room");
    },
    message(ws, message) {
      ws.publishText("room", message);
    },
  },
  deflate: {
    perMessageDeflate: { compress: "shared", decompress: "shared" },
    open(ws) {
      ws.subscribe("room");
    },
    message(ws, message) {
      ws.publishText("room", message, true);
    },
  },
  echo: {
    message(ws, message) {
      ws.sendText(message);
    },
  },
};

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch(request, server) {
    if (server.upgrade(request)) return;
    return new Response("this speaks WebSocket only", { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    publishToSelf: false,
    backpressureLimit: 1024 ** 3, // bytes; the load counts every copy, so none may be dropped
    ...handlers[process.argv[2]],
  },
});

console.log(`LISTENING ${server.port}`);
