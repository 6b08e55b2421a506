// Deno: Deno.serve and upgradeWebSocket, a loop over the sockets, since it has no topics. __init__.py says what is served.
//
//   deno run --allow-net --allow-read deno_server.js chat|rooms|bun-chat|echo|http|file

const served = Deno.args[0];
const here = import.meta.dirname;
const answer = JSON.parse(Deno.readTextFileSync(`${here}/answer.json`));
const file = `${here}/../.build/file`;

const everybody = new Set();
const rooms = new Map(); // name → Set of sockets

function enter(name, socket) {
  if (!rooms.has(name)) rooms.set(name, new Set());
  rooms.get(name).add(socket);
}

const handlers = {
  chat(socket) {
    socket.onmessage = ({ data }) => {
      for (const other of everybody) if (other !== socket) other.send(data);
    };
  },
  rooms(socket, query) {
    const names = query.get("rooms").split(",");
    for (const name of names) enter(name, socket);
    const home = rooms.get(names[0]);
    socket.onmessage = ({ data }) => {
      for (const other of home) if (other !== socket) other.send(data);
    };
  },
  // As chat-server.deno.mjs of Bun's benchmark has it.
  "bun-chat"(socket, query) {
    const name = query.get("name");
    socket.onmessage = ({ data }) => {
      const out = `${name}: ${data}`;
      for (const other of everybody) other.send(out);
    };
  },
  echo(socket) {
    socket.onmessage = ({ data }) => socket.send(data);
  },
};

function upgrade(request) {
  const { socket, response } = Deno.upgradeWebSocket(request, { idleTimeout: 0 });
  handlers[served](socket, new URL(request.url).searchParams);
  socket.onopen = () => everybody.add(socket);
  socket.onclose = () => {
    everybody.delete(socket);
    for (const room of rooms.values()) room.delete(socket);
  };
  return response;
}

const fetches = {
  http(request) {
    if (request.url.endsWith("/json")) return Response.json(answer);
    return new Response("Hello, World!");
  },
  async file(request) {
    if (request.method === "GET") {
      const opened = await Deno.open(file);
      const headers = { "Content-Length": String((await opened.stat()).size) };
      return new Response(opened.readable, { headers });
    }
    let size = 0;
    for await (const chunk of request.body) size += chunk.byteLength;
    return new Response(String(size));
  },
};

Deno.serve(
  { hostname: "127.0.0.1", port: 0, onListen: ({ port }) => console.log(`LISTENING ${port}`) },
  fetches[served] ?? upgrade,
);
