// Bun: topics, publishText and sendText, as in its own benchmark. __init__.py says what is served.
//
//   bun bun_server.js chat|rooms|bun-chat|echo|deflate|http|file

const served = process.argv[2];
const answer = await Bun.file(`${import.meta.dir}/answer.json`).json();
const file = `${import.meta.dir}/../.build/file`;

const join = (ws) => ws.subscribe("room");
const sockets = {
  chat: {
    open: join,
    message(ws, message) {
      ws.publishText("room", message);
    },
  },
  rooms: {
    open(ws) {
      for (const room of ws.data.rooms) ws.subscribe(room);
    },
    message(ws, message) {
      ws.publishText(ws.data.rooms[0], message);
    },
  },
  "bun-chat": {
    publishToSelf: true,
    open: join,
    message(ws, message) {
      ws.publishText("room", `${ws.data.name}: ${message}`);
    },
  },
  deflate: {
    perMessageDeflate: { compress: "shared", decompress: "shared" },
    open: join,
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

function upgrade(request, server) {
  const query = new URL(request.url).searchParams;
  const data = { name: query.get("name"), rooms: query.get("rooms")?.split(",") };
  if (server.upgrade(request, { data })) return;
  return new Response("this speaks WebSocket only", { status: 426 });
}

const fetches = {
  http(request) {
    if (request.url.endsWith("/json")) return Response.json(answer);
    return new Response("Hello, World!");
  },
  async file(request) {
    if (request.method === "GET") return new Response(Bun.file(file));
    let size = 0;
    for await (const chunk of request.body) size += chunk.byteLength;
    return new Response(String(size));
  },
};

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  maxRequestBodySize: 1024 ** 4,
  fetch: fetches[served] ?? upgrade,
  websocket: sockets[served] && {
    perMessageDeflate: false,
    publishToSelf: false,
    backpressureLimit: 1024 ** 3, // bytes; the load counts every copy, so none may be dropped
    ...sockets[served],
  },
});

console.log(`LISTENING ${server.port}`);
