"""websockets: its asyncio server on uvloop, and its broadcast(). `__init__.py` says what is served."""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from urllib.parse import parse_qs, urlsplit

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve


everybody: set[ServerConnection] = set()
rooms: defaultdict[str, set[ServerConnection]] = defaultdict(set)


def query(ws: ServerConnection, name: str) -> str:
    assert ws.request is not None
    return parse_qs(urlsplit(ws.request.path).query)[name][0]


async def chat(ws: ServerConnection) -> None:
    everybody.add(ws)
    try:
        async for message in ws:
            broadcast(everybody - {ws}, message)
    finally:
        everybody.discard(ws)


async def in_rooms(ws: ServerConnection) -> None:
    names = query(ws, "rooms").split(",")
    for name in names:
        rooms[name].add(ws)
    home = rooms[names[0]]
    try:
        async for message in ws:
            broadcast(home - {ws}, message)
    finally:
        for name in names:
            rooms[name].discard(ws)


async def bun_chat(ws: ServerConnection) -> None:
    name = query(ws, "name")
    everybody.add(ws)
    try:
        async for message in ws:
            broadcast(everybody, f"{name}: {message!s}")
    finally:
        everybody.discard(ws)


async def echo(ws: ServerConnection) -> None:
    async for message in ws:
        await ws.send(message)


HANDLERS = {"chat": chat, "rooms": in_rooms, "bun-chat": bun_chat, "echo": echo}


async def main() -> None:
    # Its documentation: compression=None for speed; pings are off since nobody is to be disturbed by them.
    async with serve(
        HANDLERS[sys.argv[1]], "127.0.0.1", 0, compression=None, ping_interval=None, max_size=2**24
    ) as server:
        print(f"LISTENING {next(iter(server.sockets)).getsockname()[1]}", flush=True)
        await asyncio.get_running_loop().create_future()


uvloop.run(main())
