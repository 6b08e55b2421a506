// node:http. __init__.py says what is served.
//
//   node node_server.mjs http|file

import { createReadStream, readFileSync, statSync } from "node:fs";
import { createServer } from "node:http";

const here = import.meta.dirname ?? new URL(".", import.meta.url).pathname;
const answer = JSON.parse(readFileSync(`${here}/answer.json`));
const file = `${here}/../.build/file`;

const listeners = {
  http(request, response) {
    if (request.url === "/json") {
      const body = JSON.stringify(answer);
      response.writeHead(200, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) });
      response.end(body);
      return;
    }
    response.writeHead(200, { "Content-Type": "text/plain", "Content-Length": 13 });
    response.end("Hello, World!");
  },
  file(request, response) {
    if (request.method === "GET") {
      response.writeHead(200, { "Content-Length": statSync(file).size });
      createReadStream(file, { highWaterMark: 256 * 1024 }).pipe(response);
      return;
    }
    let size = 0;
    request.on("data", (chunk) => (size += chunk.length));
    request.on("end", () => {
      const body = String(size);
      response.writeHead(200, { "Content-Length": body.length });
      response.end(body);
    });
  },
};

const server = createServer(listeners[process.argv[2]]);
server.listen(0, "127.0.0.1", () => console.log(`LISTENING ${server.address().port}`));
