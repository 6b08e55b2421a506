"""
The mix: what clients do to a server that is soaked.

Rule: each client does a bounded number of things and is gone when it returns; what it waits for comes from the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from typing import Final, NamedTuple

from ..clients import Client, Frame, binary, close, handshake, text


__all__ = ["CLIENTS", "Facts", "Mix", "ask"]

DEFLATE: Final = {"Sec-WebSocket-Extensions": "permessage-deflate"}


class Facts(NamedTuple):
    """What a server holds. All but the memory are exact."""

    memory: int  # bytes, resident
    descriptors: int
    tasks: int
    topics: int
    websockets: int
    connections: int
    feeds: int

    @property
    def held(self) -> dict[str, int]:
        """What has to return to where it was, exactly."""
        held = self._asdict()
        del held["memory"]
        return held


class Mix:
    """Draws clients, and counts what the server has done for them."""

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._dice = random.Random(seed)
        self.messages = 0  # that clients have received
        self.answers = 0

    async def wave(self, clients: int) -> None:
        """So many clients at once; returns when the last has gone."""
        kinds = self._dice.choices(list(CLIENTS), [CLIENTS[kind] for kind in CLIENTS], k=clients)
        await asyncio.gather(*(kind(self) for kind in kinds))

    # Connections

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Client]:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)  # so that who does not read is behind
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self._port))
            yield Client(sock)

    @contextlib.asynccontextmanager
    async def _websocket(self, *, deflate: bool = False) -> AsyncIterator[Client]:
        async with self._connected() as client:
            await client.send(handshake(DEFLATE if deflate else {}))
            answer = await client.receive_answer()
            assert answer.status == 101, answer
            yield client

    async def _hear(self, client: Client) -> Frame:
        """One frame, compressed or not; the client of the tests does not take the former."""
        first, size = await client._take(2)
        if size >= 126:
            width = 2 if size == 126 else 8
            size = int.from_bytes(await client._take(width), "big")
        payload = await client._take(size)
        if first & 0x40:
            payload = zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")
        self.messages += 1
        return Frame(first & 0x0F, payload)

    async def _until_done(self, client: Client, number: int) -> None:
        """All that was sent before is handled, and what came of it for this client is read."""
        await client.send(text(f"done - {number}"))
        while (await self._hear(client)).payload != b"done %d" % number:
            pass

    def _topic(self) -> str:
        """A few that many hear, and many that one hears."""
        return f"topic{self._dice.choice([self._dice.randrange(4), self._dice.randrange(10_000)])}"

    # Clients

    async def chat(self) -> None:
        """Joins, says something, leaves some of what it joined, closes."""
        async with self._websocket(deflate=self._dice.random() < 0.5) as client:
            for turn in range(self._dice.randrange(1, 5)):
                topic = self._topic()
                await client.send(text(f"join {topic} 0"), text(f"publish {topic} {self._dice.choice([10, 900])}"))
                await self._until_done(client, turn)
                if self._dice.random() < 0.5:
                    await client.send(text(f"leave {topic} 0"))
            await client.send(close(1000))
            while (await self._hear(client)).opcode != 0x8:
                pass

    async def vanish(self) -> None:
        """Is gone in the middle of a frame, with FIN or RST."""
        async with self._websocket() as client:
            await client.send(text(f"join {self._topic()} 0"), text("publish topic0 100"), binary(b"x" * 500)[:99])
            if self._dice.random() < 0.5:
                client.reset()

    async def read_slowly(self) -> None:
        """Hears a flood and does not read it, so that it is behind, over its limit, and gone."""
        async with self._websocket(deflate=self._dice.random() < 0.5) as client, self._websocket() as other:
            topic = f"flood{self._dice.randrange(1_000_000)}"  # its own: in another's it might miss its "done"
            await client.send(text(f"join {topic} 0"))
            await self._until_done(client, 0)
            for number in range(10):
                await other.send(*[text(f"publish {topic} {size}") for size in (300_000, 40_000, 100)])
                await self._until_done(other, number)
            for _ in range(self._dice.randrange(3)):
                await self._hear(client)
            if self._dice.random() < 0.5:
                client.reset()

    async def bomb(self) -> None:
        """64 KiB are allowed; these are 20 MB."""
        async with self._websocket(deflate=True) as client:
            await client.send(_bomb())
            frame = await self._hear(client)
            assert frame.opcode == 0x8, frame
            assert frame.payload[:2] == (1009).to_bytes(2, "big"), frame

    async def break_rules(self) -> None:
        """Sends what no client may."""
        async with self._websocket() as client:
            await client.send(text("join topic0 0"), text("x", mask=None))
            while (frame := await self._hear(client)).opcode != 0x8:
                pass
            assert frame.payload[:2] == (1002).to_bytes(2, "big"), frame

    async def request(self) -> None:
        """A few requests on one connection, pipelined."""
        async with self._connected() as client:
            body = bytes(self._dice.randrange(20_000))
            form = (
                b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
                + bytes(5_000)
                + b"\r\n--b--\r\n"
            )
            await client.send(
                _request("GET", "/nothing"),
                _request("POST", "/echo", body),
                _request("POST", "/form", form, "Content-Type: multipart/form-data; boundary=b"),
                _request("GET", "/files/file.bin", fields="Range: bytes=100-5000"),
                _request("GET", "/files/file.bin"),
            )
            for status in (400, 200, 200, 206, 200):
                answer = await client.receive_answer()
                assert answer.status == status, answer
                self.answers += 1

    async def break_off(self) -> None:
        """Is gone while an answer, or its own request, is on its way."""
        async with self._connected() as client:
            requests = [
                _request("GET", "/files/file.bin"),
                _request("POST", "/echo", bytes(50_000))[:30_000],
                _request("GET", "/stream"),
                _request("POST", "/form", bytes(9_000), "Content-Type: multipart/form-data; boundary=b")[:5_000],
                b"GET / HTTP/1.1\r\nHo",
            ]
            await client.send(self._dice.choice(requests))
            if self._dice.random() < 0.5:
                client.reset()

    async def stream(self) -> None:
        """An answer in chunks, to its end."""
        async with self._connected() as client:
            await client.send(_request("GET", "/stream"))
            while not client._unread.endswith(b"0\r\n\r\n"):
                assert await client._read()
            self.answers += 1

    async def feed(self) -> None:
        """A topic as a stream, until somebody has said something there."""
        async with self._connected() as client, self._websocket() as other:
            topic = f"fed{self._dice.randrange(10_000)}"
            await client.send(_request("GET", f"/feed/{topic}"))
            while topic.encode() not in client._unread:
                await other.send(text(f"publish {topic} 50"))
                await self._until_done(other, 0)
                with contextlib.suppress(TimeoutError):  # it was said before the feed was there
                    async with asyncio.timeout(0.05):
                        assert await client._read()
            self.answers += 1

    async def reload(self) -> None:
        """Other handlers, for all that are connected."""
        async with self._connected() as client:
            await client.send(_request("GET", "/reload"))
            assert (await client.receive_answer()).status == 200


@cache
def _bomb() -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = deflater.compress(bytes(20_000_000)) + deflater.flush(zlib.Z_SYNC_FLUSH)
    return binary(data[:-4], rsv=4)


def _request(method: str, target: str, body: bytes = b"", fields: str = "") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    return "".join(f"{line}\r\n" for line in [*lines, *([fields] if fields else [])]).encode() + b"\r\n" + body


#: How often each kind comes.
CLIENTS: Final[dict[Callable[[Mix], Awaitable[None]], int]] = {
    Mix.chat: 40,
    Mix.vanish: 10,
    Mix.read_slowly: 3,
    Mix.bomb: 3,
    Mix.break_rules: 5,
    Mix.request: 15,
    Mix.break_off: 10,
    Mix.stream: 5,
    Mix.feed: 8,
    Mix.reload: 1,
}


async def ask(port: int) -> Facts:
    """What the server holds now; the connection that asks is one of what it holds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /facts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    # A RST, so that no end of this connection is still to come when the next is made.
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return Facts(**json.loads(body))
