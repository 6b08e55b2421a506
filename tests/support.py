"""
Clients that speak raw bytes, scripts in a process of their own, and ways to wait for a thing without sleeping.

Rule: every wait ends, with an error, after `PATIENCE` seconds.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple, Self

from multidict import CIMultiDict

import bunws
import bunws.topics
from bunws.timeouts import Patience


__all__ = [
    "COMPILED",
    "PATIENCE",
    "Answer",
    "RawClient",
    "RawWebSocket",
    "Script",
    "closed",
    "eventually",
    "hello",
    "quiet",
    "stale_rooms",
    "until",
    "patience",
]

PATIENCE = 20.0  # seconds
ROOT = Path(__file__).parent.parent
KEY = "dGhlIHNhbXBsZSBub25jZQ=="

#: Whether the hot rooms run as Cython made them. Nobody can put a spy into their classes then.
COMPILED = not bunws.topics.__file__.endswith(".py")


def stale_rooms() -> list[str]:
    """The rooms that were changed since they were compiled."""
    package = Path(bunws.__file__).parent
    return [
        str(room.relative_to(package))
        for types in sorted(package.rglob("*.pxd"))
        for room in (types.with_suffix(".py"), types)
        for built in types.parent.glob(f"{types.stem}.*.so")
        if room.stat().st_mtime > built.stat().st_mtime
    ]


def hello(request: bunws.Request, server: bunws.Server) -> bunws.Response:
    """The simplest fetch handler."""
    return bunws.Response("hello")


async def until(condition: Callable[[], object]) -> None:
    """Let the running loop work until `condition` holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  # states of a server have no events
            await asyncio.sleep(0)


def eventually(condition: Callable[[], object]) -> None:
    """The same for a thread that looks at a server in another one."""
    ticks = threading.Event()
    for _ in range(int(PATIENCE * 1000)):
        if condition():
            return
        ticks.wait(0.001)
    raise AssertionError("it did not come about")


def closed(server: bunws.Server) -> None:
    """Stop a server that runs in its own thread, and wait until it has stopped."""

    async def wait() -> None:
        async with asyncio.timeout(PATIENCE):
            await server.stop()

    asyncio.run(wait())


@contextmanager
def quiet(server: bunws.Server) -> Iterator[bunws.Server]:
    """A server whose clients need not say goodbye, and the end of its thread."""
    with server:
        try:
            yield server
        finally:
            server.stop(close_active_connections=True)


class Answer(NamedTuple):
    """One response."""

    status: int
    headers: CIMultiDict[str]
    body: bytes


class RawClient:
    """A blocking client: bytes out, answers in."""

    def __init__(self, address: int | str | tuple[str, int], *, receive_buffer: int | None = None) -> None:
        """`address` is a port on 127.0.0.1, a (host, port), or the path of a Unix socket."""
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
        else:
            if isinstance(address, int):
                address = ("127.0.0.1", address)
            self.socket = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.connect(address)
        except BaseException:
            self.socket.close()
            raise
        self.file: IO[bytes] = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> Self:
        self.socket.sendall(data)
        return self

    def get(self, path: str = "/", *fields: str, method: str = "GET") -> Self:
        """Send a request without a body."""
        head = "".join(f"{field}\r\n" for field in fields)
        return self.send(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode())

    def answer(self, method: str = "GET") -> Answer:
        """Read one response; one to HEAD has no body."""
        line = self.file.readline()
        assert line, "the connection ended before an answer"
        version, status, _ = line.decode().split(" ", 2)
        assert version == "HTTP/1.1"
        headers: CIMultiDict[str] = CIMultiDict()
        while (field := self.file.readline()) != b"\r\n":
            name, _, value = field.decode("latin-1").partition(":")
            headers.add(name, value.strip())
        bodyless = method == "HEAD" or int(status) in (100, 101, 204, 304)
        body = b"" if bodyless else self.file.read(int(headers["Content-Length"]))
        return Answer(int(status), headers, body)

    def rest(self) -> bytes:
        """All until the server closes its side."""
        return self.file.read()

    def half_close(self) -> Self:
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self) -> None:
        """Go away without a goodbye: TCP sends a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def close(self) -> None:
        self.file.close()
        self.socket.close()


class RawWebSocket(RawClient):
    """A client that has shaken hands; it answers nothing by itself."""

    def __init__(self, address: int | str | tuple[str, int], path: str = "/") -> None:
        super().__init__(address)
        self.handshake = self.upgrade(path)

    def upgrade(self, path: str) -> Answer:
        fields = ("Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13")
        return self.get(path, *fields).answer()

    def say(self, message: str | bytes, opcode: int | None = None) -> Self:
        """Send one frame, masked with zeros."""
        payload = message.encode() if isinstance(message, str) else message
        if opcode is None:
            opcode = 1 if isinstance(message, str) else 2
        size = len(payload)
        if size < 126:
            length = bytes([0x80 | size])
        else:
            length = b"\xfe" + size.to_bytes(2, "big") if size < 65_536 else b"\xff" + size.to_bytes(8, "big")
        return self.send(bytes([0x80 | opcode]) + length + bytes(4) + payload)

    def hear(self) -> tuple[int, bytes]:
        """The opcode and the payload of the next frame."""
        first, size = self._exactly(2)
        if size == 126:
            size = int.from_bytes(self._exactly(2), "big")
        elif size == 127:
            size = int.from_bytes(self._exactly(8), "big")
        return first & 0x0F, self._exactly(size)

    def hear_text(self) -> str:
        opcode, payload = self.hear()
        assert opcode == 1, (opcode, payload)
        return payload.decode()

    def hear_close(self) -> tuple[int, str]:
        """The code and the reason of a Close frame, which comes next."""
        opcode, payload = self.hear()
        assert opcode == 8, (opcode, payload)
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    def say_close(self, code: int = 1000) -> Self:
        return self.say(code.to_bytes(2, "big"), 8)

    def _exactly(self, size: int) -> bytes:
        data = self.file.read(size)
        assert len(data) == size, "the connection ended within a frame"
        return data


class Script:
    """A program in a process of its own, which prints what it has to say line by line."""

    def __init__(self, code: str, *, stdin: bool = False) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_hear_signals,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.end()

    def line(self) -> str:
        """What it prints next; "" when it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def enter(self) -> None:
        """Let its `input()` return."""
        assert self.process.stdin is not None
        with self.process.stdin as stdin:
            stdin.write("\n")

    def signal(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)

    def is_asleep(self) -> bool:
        """
        Whether all its threads are. A signal that reaches CPython just before it falls asleep waits until it wakes up,
        so one that is to be seen at once must not follow another too quickly.
        """
        tasks = Path(f"/proc/{self.process.pid}/task")
        return all(stat.read_text().rpartition(")")[2].split()[0] == "S" for stat in tasks.glob("*/stat"))

    def end(self) -> tuple[int, str, str]:
        """Wait for its end: exit code, the rest of its output, its errors."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        # Not `communicate`: it does not know what `line` has left in its buffer.
        out, err = ("" if file.closed else file.read() for file in (self.process.stdout, self.process.stderr))
        self.process.stdout.close()
        self.process.stderr.close()
        return self.process.wait(PATIENCE), out, err


def _hear_signals() -> None:
    """In the child: whoever was started in the background by a shell ignores SIGINT, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def patience(server: bunws.Server) -> Patience:
    """What the sockets of a server with one handler table have, in ticks."""
    assert server._tables is not None
    (table,) = server._tables
    return table.handler.patience
