// A WebSocket client that reads steps from standard input, one JSON array a line, and writes what it hears, likewise.
// In Node it is the one of the package `ws`, in Bun its own.
//
//   node client.mjs URL PER_MESSAGE_DEFLATE_AS_JSON
//   bun client.mjs URL

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [url, perMessageDeflate] = process.argv.slice(2);
const say = (...fact) => process.stdout.write(JSON.stringify(fact) + "\n");

function connect() {
  if (typeof Bun !== "undefined") return new WebSocket(url);
  // By NODE_PATH, which `import` does not look at.
  const { WebSocket: Client } = createRequire(import.meta.url)("ws");
  return new Client(url, { perMessageDeflate: JSON.parse(perMessageDeflate) });
}

const ws = connect();
ws.binaryType = "arraybuffer";
ws.addEventListener("open", () => say("open", ws.extensions));
ws.addEventListener("message", ({ data }) =>
  typeof data === "string" ? say("text", data) : say("binary", Buffer.from(data).toString("base64")),
);
ws.addEventListener("error", ({ message }) => say("error", message));
ws.addEventListener("close", ({ code, reason }) => {
  say("close", code, reason);
  process.exit(0);
});

const steps = {
  text: (text) => ws.send(text),
  binary: (base64) => ws.send(Buffer.from(base64, "base64")),
  close: (code, reason) => ws.close(code, reason),
};
createInterface({ input: process.stdin }).on("line", (line) => {
  const [step, ...args] = JSON.parse(line);
  steps[step](...args);
});
