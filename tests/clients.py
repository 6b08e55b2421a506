"""
Clients: a server for one test, and a client that says exactly what it is told.

Rule 1: a client reads only when it is asked to, so a test decides who is slow.
Rule 2: a test waits for what it wants to see, never for time to pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import bunws
from bunws.handshake import accept_key
from bunws.thread import new_event_loop


__all__ = [
    "EACH_LOOP",
    "KEY",
    "serving",
    "connected",
    "connection",
    "Client",
    "TLSClient",
    "Answer",
    "Frame",
    "frame",
    "text",
    "binary",
    "ping",
    "pong",
    "close",
    "cont",
    "handshake",
    "until",
    "on_loop",
]

T = TypeVar("T")

#: A test module with `LOOP_FACTORIES = EACH_LOOP` has its async tests run on each of these (see conftest.py).
EACH_LOOP: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": new_event_loop,
}

# Seconds after which a test hangs. It decides nothing: pytest-timeout cannot interrupt a loop of uvloop's.
HANG: Final = 25

# RFC 6455, 1.3: the example.
KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


# The server


class _Complaints(logging.Handler):
    """Everything that was logged as a warning or worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(self.format(record))


def upgrade(request: bunws.Request, server: bunws.Server) -> bunws.Response | None:
    """The plainest `fetch`: everybody may have a WebSocket."""
    return None if server.upgrade(request) else bunws.Response("no websocket", status=400)


@contextlib.asynccontextmanager
async def serving(
    websocket: Mapping[str, object] | None = None,
    *,
    fetch: Callable[..., object] = upgrade,
    in_thread: bool = False,
    complains: bool = False,
    **options: Any,
) -> AsyncIterator[bunws.Server]:
    """
    Serve until the block ends, on the running loop or `in_thread`; then everybody is dropped.

    A server that logs a warning or an error has failed its test, unless it is one that `complains`.
    """
    complaints = _Complaints()
    logging.getLogger().addHandler(complaints)
    try:

        def serve() -> bunws.Server:
            table = {} if websocket is None else websocket
            return bunws.serve(fetch=fetch, websocket=table, hostname="127.0.0.1", port=0, **options)

        # No loop runs in the helper thread, so there the server makes a thread of its own.
        server = await asyncio.to_thread(serve) if in_thread else serve()
        try:
            async with asyncio.timeout(HANG):
                yield server
        finally:
            async with asyncio.timeout(HANG):
                await server.stop(close_active_connections=True)
    finally:
        logging.getLogger().removeHandler(complaints)
    assert complains is bool(complaints.heard), complaints.heard


# What a client sends


def frame(
    opcode: int,
    payload: bytes | str = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = b"\x12\x34\x56\x78",
    size: int | None = None,
    size_bytes: int | None = None,
) -> bytes:
    """
    One frame as a client sends it, good unless told otherwise.

    rsv: the three bits as a number. mask: None leaves it away. size: what the header says in place of the truth.
    size_bytes: 0, 2 or 8 bytes for the extended length; default as few as will do.
    """
    payload = payload.encode() if isinstance(payload, str) else payload
    size = len(payload) if size is None else size
    if size_bytes is None:
        size_bytes = 0 if size < 126 else 2 if size < 65_536 else 8
    masked = 0 if mask is None else 0x80
    head = bytes((fin << 7 | rsv << 4 | opcode, masked | {0: size, 2: 126, 8: 127}[size_bytes]))
    if size_bytes:
        head += size.to_bytes(size_bytes, "big")
    return head + payload if mask is None else head + mask + _masked(payload, mask)


def _masked(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def text(payload: bytes | str = b"", **oddities: Any) -> bytes:
    return frame(TEXT, payload, **oddities)


def binary(payload: bytes = b"", **oddities: Any) -> bytes:
    return frame(BINARY, payload, **oddities)


def cont(payload: bytes | str = b"", **oddities: Any) -> bytes:
    return frame(CONT, payload, **oddities)


def ping(payload: bytes = b"", **oddities: Any) -> bytes:
    return frame(PING, payload, **oddities)


def pong(payload: bytes = b"", **oddities: Any) -> bytes:
    return frame(PONG, payload, **oddities)


def close(code: int | None = None, reason: bytes | str = b"", **oddities: Any) -> bytes:
    reason = reason.encode() if isinstance(reason, str) else reason
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason, **oddities)


FIELDS: Final = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def handshake(changes: Mapping[str, str | list[str] | None] | None = None, *, line: str = "GET / HTTP/1.1") -> bytes:
    """An opening handshake with these changes to its fields: None leaves one away, a list is several lines."""
    head = f"{line}\r\n"
    for name, value in {**FIELDS, **(changes or {})}.items():
        for each in value if isinstance(value, list) else [] if value is None else [value]:
            head += f"{name}: {each}\r\n"
    return f"{head}\r\n".encode("latin-1")


# What a client receives


class Frame(NamedTuple):
    """One frame of the server."""

    opcode: int
    payload: bytes

    @classmethod
    def text(cls, payload: str) -> Frame:
        return cls(TEXT, payload.encode())

    @classmethod
    def binary(cls, payload: bytes) -> Frame:
        return cls(BINARY, payload)

    @classmethod
    def ping(cls, payload: bytes = b"") -> Frame:
        return cls(PING, payload)

    @classmethod
    def pong(cls, payload: bytes = b"") -> Frame:
        return cls(PONG, payload)

    @classmethod
    def close(cls, code: int | None = None, reason: str = "") -> Frame:
        return cls(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason.encode())


class Answer(NamedTuple):
    """The head of an HTTP answer, names of fields in lower case, and its body."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for field, value in self.fields if field == name.lower()]


class Client:
    """One TCP connection, from the client's side."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._unread = bytearray()
        self.reads = 0  # how often something was read from the kernel
        self.answer: Answer  # of the opening handshake

    # Sending

    async def send(self, *frames: bytes) -> None:
        """Send everything in one packet, as far as TCP allows."""
        await asyncio.get_running_loop().sock_sendall(self.socket, b"".join(frames))

    def end(self) -> None:
        """Send FIN; the other half stays open."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # Receiving

    async def receive(self) -> Frame:
        """The next frame. Raises EOFError where there is none."""
        first, second = await self._take(2)
        assert first & 0x80, "the server fragmented a message"
        assert not first & 0x70, "the server set an RSV bit"
        assert not second & 0x80, "the server masked a frame"
        size = second
        if size == 126:
            size = int.from_bytes(await self._take(2), "big")
            assert size >= 126, "not the minimal length"
        elif size == 127:
            size = int.from_bytes(await self._take(8), "big")
            assert size >= 65_536, "not the minimal length"
        return Frame(first & 0x0F, await self._take(size))

    async def receive_all(self) -> list[Frame]:
        """All frames until the server ends the connection. Fails where it breaks off inside one."""
        frames = []
        while self._unread or await self._read():
            frames.append(await self.receive())
        return frames

    async def receive_until_dropped(self) -> list[Frame]:
        """All whole frames until the connection ends, in good order or not."""
        frames = []
        with contextlib.suppress(EOFError, ConnectionResetError):
            while True:
                frames.append(await self.receive())
        return frames

    async def receive_answer(self) -> Answer:
        """An HTTP answer with all of its body."""
        while b"\r\n\r\n" not in self._unread:
            if not await self._read():
                raise EOFError(f"the server ended the connection after {bytes(self._unread)!r}")
        head = (await self._take(self._unread.index(b"\r\n\r\n") + 4)).decode("latin-1")
        line, *lines = head[:-4].split("\r\n")
        fields = [(name.lower(), value.strip()) for name, _, value in (each.partition(":") for each in lines)]
        size = next((int(value) for name, value in fields if name == "content-length"), 0)
        return Answer(int(line.split()[1]), fields, await self._take(size))

    async def has_ended(self) -> bool:
        """Wait for what comes next: True when it is the end of the connection, in good order."""
        return not self._unread and not await self._read()

    async def _take(self, size: int) -> bytes:
        while len(self._unread) < size:
            if not await self._read():
                raise EOFError(f"the server ended the connection after {bytes(self._unread[:100])!r}")
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data

    async def _read(self) -> bool:
        data = await asyncio.get_running_loop().sock_recv(self.socket, 1 << 20)
        self._unread += data
        self.reads += 1
        return bool(data)


class TLSClient:
    """TLS over a socket of which every byte is ours to keep."""

    def __init__(self, client: Client, context: ssl.SSLContext) -> None:
        self.client = client
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")

    async def shake_hands(self) -> None:
        await self._do(self._tls.do_handshake)

    async def send(self, data: bytes) -> None:
        await self.client.send(self.records(data))

    def records(self, data: bytes) -> bytes:
        """What `data` is on the wire."""
        self._tls.write(data)
        return self._out.read()

    async def receive(self) -> bytes:
        data: bytes = await self._do(lambda: self._tls.read(65_536))
        return data

    async def _do(self, call: Callable[[], Any]) -> Any:
        loop = asyncio.get_running_loop()
        while True:
            try:
                return call()
            except ssl.SSLWantReadError:
                await self.client.send(self._out.read())
                data = await loop.sock_recv(self.client.socket, 65_536)
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
            finally:
                if self._out.pending:
                    await self.client.send(self._out.read())


@contextlib.asynccontextmanager
async def connection(server: bunws.Server, *, receive_buffer: int | None = None) -> AsyncIterator[Client]:
    """A TCP connection that has said nothing yet. `receive_buffer`: bytes that its kernel may take ahead."""
    with socket.socket() as sock:
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", server.port))
        yield Client(sock)


@contextlib.asynccontextmanager
async def connected(
    server: bunws.Server,
    changes: Mapping[str, str | list[str] | None] | None = None,
    *,
    receive_buffer: int | None = None,
    line: str = "GET / HTTP/1.1",
) -> AsyncIterator[Client]:
    """An open WebSocket."""
    async with connection(server, receive_buffer=receive_buffer) as client:
        await client.send(handshake(changes, line=line))
        client.answer = await client.receive_answer()
        assert client.answer.status == 101
        assert client.answer.all("Sec-WebSocket-Accept") == [accept_key(KEY)]
        yield client


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that happens on this loop and that nobody is told of, such as what the kernel has taken."""
    while not condition():  # noqa: ASYNC110 - nobody could set an event
        await asyncio.sleep(0.001)


async def on_loop(server: bunws.Server, call: Callable[[], T]) -> T:
    """Run `call` in the thread of the server."""

    async def run() -> T:
        return call()

    coroutine: Coroutine[Any, Any, T] = run()
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, server.loop))
