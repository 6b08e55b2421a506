"""Fakes for the pure rooms: a transport that can fill up, a wire that notes, and a turn that ends when it is told."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine

from bunws.handler import Handler
from bunws.turn import MessageDeflater, Turn
from bunws.websocket import PauseReason, ServerWebSocket


class FakeTransport:
    """Takes `room` bytes at most until they are read, as a kernel does; keeps the rest, as asyncio does."""

    def __init__(self, room: int = 1 << 60) -> None:
        self.room = room
        self.taken = bytearray()
        self.writes: list[bytes] = []
        self.times_empty = 0  # that it has told its socket that nothing is left
        self._left = b""
        self.socket: ServerWebSocket[object]

    def write(self, data: bytes | memoryview, /) -> None:
        assert not self._left, "written to while something is left"
        self.writes.append(bytes(data))
        self._take(bytes(data))
        if self._left:
            self.socket.pause_writing()

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return len(self._left)

    def read(self, size: int) -> None:
        """The peer reads, so there is room again."""
        self.room += size
        if self._left:
            self._take(self._left)
            if not self._left:
                self.times_empty += 1
                self.socket.resume_writing()

    def _take(self, data: bytes) -> None:
        size = min(len(data), self.room)
        self.taken += data[:size]
        self.room -= size
        self._left = data[size:]


class FakeWire:
    """Notes what a socket asks of its engine."""

    def __init__(self) -> None:
        self.held = PauseReason(0)
        self.is_busy = False
        self.finished: list[bool] = []
        self.is_dropped = False

    def hold(self, reason: PauseReason) -> None:
        self.held |= reason

    def release(self, reason: PauseReason) -> None:
        self.held &= ~reason

    def busy(self, busy: bool) -> None:
        self.is_busy = busy

    def finish(self, now: bool) -> None:
        self.finished.append(now)

    def drop(self) -> None:
        self.is_dropped = True


class FakeLoop:
    """The end of a turn, on demand."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []
        self._jobs: deque[tuple[Callable[[], bytes], Callable[[bytes], None]]] = deque()
        self.spawned: list[Coroutine[object, object, None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def aside(self, job: Callable[[], bytes], done: Callable[[bytes], None], /) -> None:
        self._jobs.append((job, done))

    def do_jobs(self, most: int = 1 << 30) -> None:
        """Do some of what is to be done beside the loop."""
        while self._jobs and most:
            most -= 1
            job, done = self._jobs.popleft()
            done(job())

    def end_turn(self) -> None:
        while self._callbacks:
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                callback()


class FakeServer:
    """Makes sockets that share a turn and a handler table."""

    def __init__(self, **table: object) -> None:
        self.loop = FakeLoop()
        self.turn = Turn(self.loop.call_soon, self.loop.aside)
        self.handler = Handler(table)
        self.wires: dict[ServerWebSocket[object], FakeWire] = {}
        self.transports: dict[ServerWebSocket[object], FakeTransport] = {}

    def connect(
        self, room: int = 1 << 60, data: object = None, *, deflater: MessageDeflater | None = None
    ) -> ServerWebSocket[object]:
        transport, wire = FakeTransport(room), FakeWire()
        ws: ServerWebSocket[object] = ServerWebSocket(
            self.turn,
            transport,
            self.handler,
            wire,
            self.loop.spawned.append,
            data=data,
            protocol="",
            remote_address="192.0.2.1",
            deflater=deflater,
        )
        transport.socket = ws
        self.wires[ws], self.transports[ws] = wire, transport
        return ws

    def received(self, ws: ServerWebSocket[object]) -> list[bytes]:
        """The payloads that the peer of `ws` has been sent so far, whole frames only."""
        return [payload for _, payload in frames(bytes(self.transports[ws].taken))]


def frames(wire: bytes) -> list[tuple[int, bytes]]:
    """The first byte and the payload of each whole frame of a server."""
    found = []
    at = 0
    while len(wire) - at >= 2:
        first, size = wire[at], wire[at + 1]
        begin = at + 2
        if size == 126:
            size, begin = int.from_bytes(wire[at + 2 : at + 4], "big"), at + 4
        elif size == 127:
            size, begin = int.from_bytes(wire[at + 2 : at + 10], "big"), at + 10
        if len(wire) < begin + size:
            break
        found.append((first, wire[begin : begin + size]))
        at = begin + size
    return found
