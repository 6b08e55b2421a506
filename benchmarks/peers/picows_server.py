"""
picows bare: one loop over the sockets and one send for each, as in its examples. `__init__.py` says what is served.

It is what bunws is built on, so this tells what its topics and its one write per socket and turn add.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from urllib.parse import parse_qs, urlsplit

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server


everybody: set[WSTransport] = set()
rooms: defaultdict[str, set[WSTransport]] = defaultdict(set)


class Listener(WSListener):
    """Answers a Close frame, and notes who is there."""

    def __init__(self, query: dict[str, list[str]]) -> None:
        self.query = query

    def on_ws_connected(self, transport: WSTransport) -> None:
        everybody.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        everybody.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            self.message(transport, frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()

    def message(self, transport: WSTransport, message: bytes) -> None:
        raise NotImplementedError


class Chat(Listener):
    def message(self, transport: WSTransport, message: bytes) -> None:
        for other in everybody:
            if other is not transport:
                other.send(WSMsgType.TEXT, message)


class Rooms(Listener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        names = self.query["rooms"][0].split(",")
        self.rooms = [rooms[name] for name in names]
        for room in self.rooms:
            room.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        for room in self.rooms:
            room.discard(transport)

    def message(self, transport: WSTransport, message: bytes) -> None:
        for other in self.rooms[0]:
            if other is not transport:
                other.send(WSMsgType.TEXT, message)


class BunChat(Listener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        self.name = self.query["name"][0].encode()
        super().on_ws_connected(transport)

    def message(self, transport: WSTransport, message: bytes) -> None:
        out = self.name + b": " + message
        for other in everybody:
            other.send(WSMsgType.TEXT, out)


class Echo(Listener):
    def message(self, transport: WSTransport, message: bytes) -> None:
        transport.send(WSMsgType.TEXT, message)


LISTENERS = {"chat": Chat, "rooms": Rooms, "bun-chat": BunChat, "echo": Echo}


async def main() -> None:
    kind = LISTENERS[sys.argv[1]]

    def connected(request: WSUpgradeRequest) -> Listener:
        return kind(parse_qs(urlsplit(request.path.decode()).query))

    server = await ws_create_server(connected, "127.0.0.1", 0, max_frame_size=2**24, logger_name="picows.quiet")
    print(f"LISTENING {server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.get_running_loop().create_future()


uvloop.run(main())
