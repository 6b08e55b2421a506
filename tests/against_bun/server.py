"""
The server that the scenarios are played on, in bunws; server.js is its twin in Bun, and says what the words mean.

    python -m tests.against_bun.server
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import bunws
from bunws.thread import new_event_loop


Socket = bunws.ServerWebSocket["Data"]

servers: dict[int, bunws.Server] = {}  # by port
sockets: dict[str, Socket] = {}  # by name; closed ones too, for they can still be called


@dataclass
class Data:
    """What a socket is told by the query of its request."""

    name: str
    mode: str
    on: dict[str, list[list[Any]]]
    port: int | None
    released: asyncio.Event = field(default_factory=asyncio.Event)


def tell(**fact: object) -> None:
    os.write(1, json.dumps(fact).encode() + b"\n")


# Values

SHORT: Final = 200  # characters or bytes; of what is longer, only the length and the digest are told


def told(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= SHORT else {"text": len(value), "sha1": sha1(value.encode())}
    if isinstance(value, bytes):
        return {"binary": value.hex()} if len(value) <= SHORT else {"binary": len(value), "sha1": sha1(value)}
    return value


def sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def argument(value: Any) -> Any:
    if isinstance(value, Mapping) and "text" in value:
        return str(value["text"]) * int(value["times"])
    if isinstance(value, Mapping) and "binary" in value:
        return bytes.fromhex(value["binary"]) * int(value.get("times", 1))
    return value


def snake_case(name: str) -> str:
    return {"getBufferedAmount": "buffered_amount", "pendingWebSockets": "pending_websockets"}.get(
        name, re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", name)
    )


# Calls


class AsTold(Exception):
    pass


def call(words: list[Any], server: bunws.Server, me: Socket | None) -> Any:
    who, what, *rest = words
    if what == "throw":
        raise AsTold("as told")
    target: Any = server if who == "server" else me if who == "me" else sockets[who]
    if what == "get":
        return getattr(target, snake_case(rest[0]))
    if what == "repeat":
        return repeat(rest[0], rest[1], server, me)
    if what == "release":
        return target.data.released.set()
    method = getattr(target, snake_case(what))
    if not callable(method):
        return method  # Bun's getBufferedAmount() is a property here
    try:
        answer = method(*map(argument, rest))
    except (TypeError, ValueError):
        return "raised"
    return None if isinstance(answer, Awaitable) else told(answer)


def repeat(times: int, what: list[Any], server: bunws.Server, me: Socket | None) -> dict[str, Any]:
    answers: list[object] = []
    accepted = 0
    for _ in range(times):
        answer = call(what, server, me)
        if answers[-1:] != [answer]:
            answers.append(answer)
        if answer == 0:
            break
        accepted += 1
    return {"answers": answers, "accepted": accepted}


# Handlers


def happened(ws: Socket, kind: str, *facts: object) -> None:
    if not ws.data.name:
        return  # nobody asks
    event = [ws.data.name, kind, *map(told, facts)]
    try:
        if kind in ws.data.on:
            assert ws.data.port is not None
            event.append([call(each, servers[ws.data.port], ws) for each in ws.data.on[kind]])
    finally:
        tell(event=event)


async def slowly(ws: Socket, message: str | bytes) -> None:
    happened(ws, "begun", message)
    await ws.data.released.wait()
    happened(ws, "done", message)


def opened(ws: Socket) -> None:
    sockets[ws.data.name] = ws
    happened(ws, "open")


def message(ws: Socket, message: str | bytes) -> Awaitable[None] | None:
    if ws.data.mode == "slowly":
        return slowly(ws, message)
    if ws.data.mode == "echo":
        ws.send(message)
    if ws.data.mode == "deflate":
        ws.send(message, True)
    happened(ws, "message", message)
    return None


def table(options: Mapping[str, Any]) -> dict[str, object]:
    handlers: dict[str, Callable[..., object]] = {
        "open": opened,
        "message": message,
        "drain": lambda ws: happened(ws, "drain", ws.buffered_amount == 0),
        "close": lambda ws, code, reason: happened(ws, "close", code, reason),
        "ping": lambda ws, data: happened(ws, "ping", data),
        "pong": lambda ws, data: happened(ws, "pong", data),
    }
    if options.get("error", True):
        handlers["error"] = lambda ws, raised: happened(ws, "error", str(raised))
    return {**{snake_case(name): value for name, value in options.items() if name != "error"}, **handlers}


def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response | Awaitable[bunws.Response | None] | None:
    query = request.url.query
    data = Data(
        name=query.get("name", ""),
        mode=query.get("mode", "echo"),
        on=json.loads(query.get("on", "{}")),
        port=server.port,
    )

    def upgrade() -> bunws.Response | None:
        accepted = server.upgrade(request, data=data, headers=json.loads(query.get("headers", "{}")))
        return None if accepted else bunws.Response("refused", status=400)

    async def upgrade_later() -> bunws.Response | None:
        await asyncio.sleep(0)
        return upgrade()

    return upgrade_later() if "later" in query else upgrade()


# Commands


def serve(options: dict[str, Any]) -> int:
    server = bunws.serve(fetch=fetch, websocket=table(options), hostname="127.0.0.1", port=0)
    assert server.port is not None
    servers[server.port] = server
    return server.port


def do(port: int, calls: list[list[Any]]) -> list[object]:
    return [call(each, servers[port], None) for each in calls]


COMMANDS: Final[dict[str, Callable[..., object]]] = {"serve": serve, "do": do}


async def main() -> None:
    lines = asyncio.StreamReader(limit=1 << 24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        command, identity, *args = json.loads(line)
        try:
            answer = COMMANDS[command](*args)
        except (TypeError, ValueError):
            answer = "raised"
        tell(id=identity, answer=answer)
    for server in servers.values():
        await server.stop(close_active_connections=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
