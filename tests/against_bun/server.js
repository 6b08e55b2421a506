// The server that the scenarios are played on, in Bun; server.py is its twin in bunws, line by line.
//
// Commands come on standard input, one JSON array a line: ["serve", id, options] and ["do", id, port, calls]. What happens
// goes to standard output, one JSON object a line: {id, answer} for a command, {event} for each call of a handler.
//
// A call is [who, what, ...arguments]: who is the name of a socket, "me" inside a handler, or "server".

import { createHash } from "node:crypto";
import { writeSync } from "node:fs";

const servers = new Map(); // by port
const sockets = new Map(); // by name; closed ones too, for they can still be called

const tell = (fact) => writeSync(1, JSON.stringify(fact) + "\n");

// Values

const SHORT = 200; // characters or bytes; of what is longer, only the length and the digest are told

function told(value) {
  if (value === undefined || value instanceof Promise) return null;
  if (typeof value === "string") {
    return value.length <= SHORT ? value : { text: value.length, sha1: sha1(value) };
  }
  if (Buffer.isBuffer(value)) {
    return value.length <= SHORT ? { binary: value.toString("hex") } : { binary: value.length, sha1: sha1(value) };
  }
  return value;
}

const sha1 = (data) => createHash("sha1").update(data).digest("hex");

// {text, times} and {binary, times} stand for long messages, {binary} for a short one.
function argument(value) {
  if (value?.text !== undefined) return value.text.repeat(value.times);
  if (value?.binary !== undefined) return Buffer.concat(Array(value.times ?? 1).fill(Buffer.from(value.binary, "hex")));
  return value;
}

// Calls

class AsTold extends Error {}

function call([who, what, ...rest], server, me) {
  if (what === "throw") throw new AsTold("as told");
  const target = who === "server" ? server : who === "me" ? me : sockets.get(who);
  if (what === "get") {
    const value = target[rest[0]];
    return Array.isArray(value) ? value.toSorted() : value;
  }
  if (what === "repeat") return repeat(rest[0], rest[1], server, me);
  if (what === "release") return target.data.release();
  try {
    return told(target[what](...rest.map(argument)));
  } catch {
    return "raised";
  }
}

// Make one call up to so many times, until it answers 0: the answers without repetitions, and how many were not 0.
function repeat(times, what, server, me) {
  const answers = [];
  let accepted = 0;
  for (let left = times; left && answers.at(-1) !== 0; left--) {
    const answer = call(what, server, me);
    if (answer !== answers.at(-1)) answers.push(answer);
    if (answer !== 0) accepted++;
  }
  return { answers, accepted };
}

// Handlers

function happened(ws, kind, ...facts) {
  if (!ws.data.name) return; // nobody asks
  const event = [ws.data.name, kind, ...facts.map(told)];
  try {
    const calls = ws.data.on[kind];
    if (calls) event.push(calls.map((each) => call(each, servers.get(ws.data.port), ws)));
  } finally {
    tell({ event });
  }
}

async function slowly(ws, message) {
  happened(ws, "begun", message);
  await ws.data.released;
  happened(ws, "done", message);
}

function table({ error = true, ...options }) {
  const handlers = {
    open(ws) {
      sockets.set(ws.data.name, ws);
      happened(ws, "open");
    },
    message(ws, message) {
      if (ws.data.mode === "slowly") return slowly(ws, message);
      if (ws.data.mode === "echo") ws.send(message);
      if (ws.data.mode === "deflate") ws.send(message, true);
      happened(ws, "message", message);
    },
    drain(ws) {
      happened(ws, "drain", ws.getBufferedAmount() === 0);
    },
    close(ws, code, reason) {
      happened(ws, "close", code, reason);
    },
    ping(ws, data) {
      happened(ws, "ping", data);
    },
    pong(ws, data) {
      happened(ws, "pong", data);
    },
  };
  if (error) handlers.error = (raised, ws) => happened(ws, "error", raised.message);
  return { ...options, ...handlers };
}

function fetch(request, server) {
  const query = new URL(request.url, "http://localhost").searchParams;
  const data = {
    name: query.get("name") ?? "",
    mode: query.get("mode") ?? "echo",
    on: JSON.parse(query.get("on") ?? "{}"),
    port: server.port,
  };
  data.released = new Promise((resolve) => (data.release = resolve));
  const upgrade = () => {
    const accepted = server.upgrade(request, { data, headers: JSON.parse(query.get("headers") ?? "{}") });
    return accepted ? undefined : new Response("refused", { status: 400 });
  };
  return query.has("later") ? new Promise(setImmediate).then(upgrade) : upgrade();
}

// Commands

const commands = {
  serve(options) {
    const server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch, websocket: table(options) });
    servers.set(server.port, server);
    return server.port;
  },
  do(port, calls) {
    return calls.map((each) => call(each, servers.get(port), null));
  },
};

process.on("uncaughtException", (error) => {
  if (!(error instanceof AsTold)) throw error;
});

for await (const line of console) {
  const [command, id, ...args] = JSON.parse(line);
  let answer;
  try {
    answer = commands[command](...args);
  } catch (error) {
    answer = "raised";
  }
  tell({ id, answer });
}
process.exit(0);
