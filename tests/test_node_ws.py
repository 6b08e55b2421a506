"""The `ws` package of Node as a client: a peer that nobody here has written."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

import bunws
from tests.clients import serving


# `npm install` as CI runs it. Without BUNWS_REQUIRE_PEERS=1 nothing is fetched: what is here is used, or skipped.
PEERS: Final = Path(__file__).parent / ".peers"
INSTALL: Final = ("npm", "install", "--no-audit", "--no-fund", "--prefix", str(PEERS), "ws@8.23.0")

# Reads steps from standard input, one JSON array a line, and writes what it hears, likewise.
CLIENT: Final = """
const WebSocket = require("ws");
const ws = new WebSocket(process.argv[1], process.argv[2] ? [process.argv[2]] : [], { perMessageDeflate: false });
const say = (...fact) => process.stdout.write(JSON.stringify(fact) + "\\n");
ws.on("open", () => say("open", ws.protocol));
ws.on("message", (data, isBinary) => isBinary
    ? say("binary", data.toString("base64")) : say("text", data.toString()));
ws.on("ping", (data) => say("ping", data.toString()));
ws.on("pong", (data) => say("pong", data.toString()));
ws.on("close", (code, reason) => { say("close", code, reason.toString()); process.exit(0); });
ws.on("error", (error) => say("error", error.message));
ws.on("unexpected-response", (_, response) => { say("refused", response.statusCode); process.exit(0); });
const steps = {
    text: (text) => ws.send(text),
    binary: (base64) => ws.send(Buffer.from(base64, "base64")),
    large: (letter, size) => ws.send(letter.repeat(size)),
    fragments: (...parts) => parts.forEach((part, index) => ws.send(part, { fin: index === parts.length - 1 })),
    ping: (text) => ws.ping(text),
    close: (code, reason) => ws.close(code, reason),
    terminate: () => ws.terminate(),
};
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
    const [step, ...args] = JSON.parse(line);
    steps[step](...args);
});
"""


@pytest.fixture(scope="module")
def node_path() -> str:
    """Where Node finds `ws`. Where it is missing: skip, or install it and fail if BUNWS_REQUIRE_PEERS=1."""
    required = os.environ.get("BUNWS_REQUIRE_PEERS") == "1"
    given = os.environ.get("NODE_PATH")
    places = [Path(place) for place in given.split(os.pathsep)] if given else []
    for place in (*places, PEERS / "node_modules"):
        if (place / "ws" / "package.json").is_file() and shutil.which("node"):
            return str(place)
    if required and shutil.which("node"):
        PEERS.mkdir(exist_ok=True)
        subprocess.run(INSTALL, check=True, timeout=50)
        return str(PEERS / "node_modules")
    reason = f"no Node with the package ws: set NODE_PATH, or run {' '.join(INSTALL)}"
    if required:
        pytest.fail(reason)
    pytest.skip(reason)


class NodeClient:
    """One `ws` client in a process of its own."""

    def __init__(self, stdin: asyncio.StreamWriter, stdout: asyncio.StreamReader) -> None:
        self._stdin = stdin
        self._stdout = stdout

    async def do(self, *step: object) -> None:
        self._stdin.write(json.dumps(step).encode() + b"\n")
        await self._stdin.drain()

    async def heard(self) -> list[Any]:
        fact: list[Any] = json.loads(await self._stdout.readline())
        return fact


@asynccontextmanager
async def dialled(node_path: str, server: bunws.Server, protocol: str = "") -> AsyncIterator[NodeClient]:
    """A client that connects; it must have ended by itself when the block does."""
    process = await asyncio.create_subprocess_exec(
        "node", "-e", CLIENT, "--", f"ws://127.0.0.1:{server.port}/", protocol,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=1 << 24, env={**os.environ, "NODE_PATH": node_path},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield NodeClient(process.stdin, process.stdout)
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


Told = asyncio.Queue[tuple[int, str]]
Socket = bunws.ServerWebSocket[Any]


def table(told: Told) -> dict[str, object]:
    def message(ws: Socket, message: str | bytes) -> None:
        if message == "ping me":
            ws.ping("hello?")
        elif message == "close me":
            ws.close(4001, "as you like ✓")
        else:
            ws.send(message)

    def close(ws: Socket, code: int, reason: str) -> None:
        told.put_nowait((int(code), reason))

    return {"message": message, "close": close}


async def test_node_ws_talks_in_every_way_and_closes(node_path: str) -> None:
    told = Told()
    async with serving(table(told)) as server, dialled(node_path, server) as node:
        assert await node.heard() == ["open", ""]

        await node.do("text", "hello ✓")
        assert await node.heard() == ["text", "hello ✓"]
        await node.do("text", "")
        assert await node.heard() == ["text", ""]
        await node.do("binary", "AAH/")
        assert await node.heard() == ["binary", "AAH/"]
        await node.do("fragments", "fr", "ag", "", "ments")
        assert await node.heard() == ["text", "fragments"]
        await node.do("large", "é", 512 * 1024)  # 1 MiB of UTF-8
        assert await node.heard() == ["text", "é" * (512 * 1024)]
        await node.do("ping", "there?")
        assert await node.heard() == ["pong", "there?"]
        await node.do("text", "ping me")
        assert await node.heard() == ["ping", "hello?"]

        await node.do("close", 4000, "bye ✓")
        assert await node.heard() == ["close", 4000, "bye ✓"]
        assert await told.get() == (4000, "bye ✓")


async def test_node_ws_hears_the_close_of_the_server(node_path: str) -> None:
    told = Told()
    async with serving(table(told)) as server, dialled(node_path, server) as node:
        assert await node.heard() == ["open", ""]
        await node.do("text", "close me")
        assert await node.heard() == ["close", 4001, "as you like ✓"]
        assert await told.get() == (4001, "as you like ✓")


async def test_node_ws_that_terminates_is_told_as_1006(node_path: str) -> None:
    told = Told()
    async with serving(table(told)) as server, dialled(node_path, server) as node:
        assert await node.heard() == ["open", ""]
        await node.do("terminate")
        assert await node.heard() == ["close", 1006, ""]
        assert await told.get() == (1006, "")


async def test_node_ws_gets_the_subprotocol_that_was_chosen(node_path: str) -> None:
    def fetch(request: bunws.Request, server: bunws.Server) -> None:
        server.upgrade(request, headers={"Sec-WebSocket-Protocol": request.headers["Sec-WebSocket-Protocol"]})

    async with serving(table(Told()), fetch=fetch) as server, dialled(node_path, server, "chat") as node:
        assert await node.heard() == ["open", "chat"]
        await node.do("close", 1000, "")
        assert await node.heard() == ["close", 1000, ""]


async def test_node_ws_is_refused_with_the_status_of_the_answer(node_path: str) -> None:
    async with serving(table(Told()), origins=["https://example.com"]) as server, dialled(node_path, server) as node:
        assert await node.heard() == ["refused", 403]
