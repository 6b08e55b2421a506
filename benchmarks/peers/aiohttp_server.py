"""aiohttp: its C extensions on uvloop, a loop over the sockets. `__init__.py` says what is served."""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict

import uvloop
from aiohttp import WSMsgType, web


everybody: set[web.WebSocketResponse] = set()
rooms: defaultdict[str, set[web.WebSocketResponse]] = defaultdict(set)


async def accept(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(compress=False, max_msg_size=2**24)
    await ws.prepare(request)
    return ws


async def chat(request: web.Request) -> web.WebSocketResponse:
    ws = await accept(request)
    everybody.add(ws)
    try:
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                for other in tuple(everybody):
                    if other is not ws:
                        await other.send_str(message.data)
    finally:
        everybody.discard(ws)
    return ws


async def in_rooms(request: web.Request) -> web.WebSocketResponse:
    names = request.query["rooms"].split(",")
    ws = await accept(request)
    for name in names:
        rooms[name].add(ws)
    home = rooms[names[0]]
    try:
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                for other in tuple(home):
                    if other is not ws:
                        await other.send_str(message.data)
    finally:
        for name in names:
            rooms[name].discard(ws)
    return ws


async def bun_chat(request: web.Request) -> web.WebSocketResponse:
    name = request.query["name"]
    ws = await accept(request)
    everybody.add(ws)
    try:
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                out = f"{name}: {message.data}"
                for other in tuple(everybody):
                    await other.send_str(out)
    finally:
        everybody.discard(ws)
    return ws


async def echo(request: web.Request) -> web.WebSocketResponse:
    ws = await accept(request)
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            await ws.send_str(message.data)
    return ws


HANDLERS = {"chat": chat, "rooms": in_rooms, "bun-chat": bun_chat, "echo": echo}


async def main() -> None:
    app = web.Application()
    app.router.add_get("/", HANDLERS[sys.argv[1]])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"LISTENING {runner.addresses[0][1]}", flush=True)
    await asyncio.get_running_loop().create_future()


uvloop.run(main())
