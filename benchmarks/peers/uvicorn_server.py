"""
uvicorn with httptools, websockets and uvloop; sockets through Starlette, HTTP as plain ASGI, which is its fastest.

`__init__.py` says what is served.
"""

from __future__ import annotations

import json
import socket
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, Final

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect


HERE: Final = Path(__file__).resolve().parent
FILE: Final = HERE.parent / ".build" / "file"
ANSWER: Final = json.loads((HERE / "answer.json").read_text())

everybody: set[WebSocket] = set()
rooms: defaultdict[str, set[WebSocket]] = defaultdict(set)


# Sockets


async def chat(ws: WebSocket) -> None:
    await ws.accept()
    everybody.add(ws)
    try:
        while True:
            message = await ws.receive_text()
            for other in tuple(everybody):
                if other is not ws:
                    await other.send_text(message)
    except WebSocketDisconnect:
        everybody.discard(ws)


async def in_rooms(ws: WebSocket) -> None:
    names = ws.query_params["rooms"].split(",")
    await ws.accept()
    for name in names:
        rooms[name].add(ws)
    home = rooms[names[0]]
    try:
        while True:
            message = await ws.receive_text()
            for other in tuple(home):
                if other is not ws:
                    await other.send_text(message)
    except WebSocketDisconnect:
        for name in names:
            rooms[name].discard(ws)


async def bun_chat(ws: WebSocket) -> None:
    name = ws.query_params["name"]
    await ws.accept()
    everybody.add(ws)
    try:
        while True:
            out = f"{name}: {await ws.receive_text()}"
            for other in tuple(everybody):
                await other.send_text(out)
    except WebSocketDisconnect:
        everybody.discard(ws)


async def echo(ws: WebSocket) -> None:
    await ws.accept()
    try:
        while True:
            await ws.send_text(await ws.receive_text())
    except WebSocketDisconnect:
        return


SOCKETS: Final = {"chat": chat, "rooms": in_rooms, "bun-chat": bun_chat, "echo": echo}


# HTTP

Scope = MutableMapping[str, Any]  # ASGI's own types
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def respond(send: Send, content_type: bytes, body: bytes) -> None:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def http(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/json":
        await respond(send, b"application/json", orjson.dumps(ANSWER))
    else:
        await respond(send, b"text/plain", b"Hello, World!")


async def transfer(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["method"] == "GET":
        headers = [(b"content-length", str(FILE.stat().st_size).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        with FILE.open("rb") as file:
            while piece := file.read(256 * 1024):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    size, more = 0, True
    while more:
        event = await receive()
        size += len(event.get("body", b""))
        more = event.get("more_body", False)
    await respond(send, b"text/plain", str(size).encode())


def main(served: str) -> None:
    http_apps = {"http": http, "file": transfer}
    app: Any = http_apps.get(served) or Starlette(routes=[WebSocketRoute("/", SOCKETS[served])])
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    print(f"LISTENING {listener.getsockname()[1]}", flush=True)  # whoever connects waits in the backlog
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1])
