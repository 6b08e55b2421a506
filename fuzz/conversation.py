"""
Conversation: one client of a real server, over a connection that splits its bytes exactly where it is told to.

Rule 1: everything behind the transport is what serves in production; the transport alone is made up, and keeps the
contract that asyncio documents for its own.
Rule 2: it waits for nothing but the loop: a server that has not done its part when the loop has nothing more to do, has
hung.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any, Final

import bunws
from bunws.connection import Connection


__all__ = ["Complaints", "Outcome", "PeerTransport", "converse", "hears_no_complaint"]

# Turns of the loop in which nothing happens before a server counts as quiet, and before it counts as hung.
_QUIET: Final = 8
_HUNG: Final = 2_000


class PeerTransport(asyncio.Transport):
    """The transport of one connection whose peer reads everything at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__({"peername": ("192.0.2.1", 50_000)})
        self._loop = loop
        self._protocol: asyncio.BaseProtocol | None = None
        self._paused = False
        self.sent = bytearray()
        self.ended = False  # the server has closed its half
        self.closing = False
        self.aborted = False
        self.lost = False

    # What the server asks

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended, "written to behind the end"
        if not self.closing:
            self.sent += data

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self._loop.call_soon(self._lose)

    def abort(self) -> None:
        self.aborted = True
        self.close()

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        assert not self._paused or self.closing, "paused twice"
        self._paused = True

    def resume_reading(self) -> None:
        assert self._paused or self.closing, "resumed though it was not paused"
        self._paused = False

    def is_reading(self) -> bool:
        return not self._paused and not self.closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def _lose(self) -> None:
        self.lost = True
        self.get_protocol().connection_lost(None)

    # What the peer does

    def receive(self, data: bytes) -> bytes:
        """Hand over what one read takes, and return the rest."""
        protocol: Any = self.get_protocol()  # Any: those of bunws fit without inheriting
        if not hasattr(protocol, "get_buffer"):
            protocol.data_received(data)
            return b""
        buffer = protocol.get_buffer(-1)
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        protocol.buffer_updated(size)
        return data[size:]

    def receive_end(self) -> None:
        protocol: Any = self.get_protocol()
        if not protocol.eof_received():
            self.close()


class Outcome:
    """What a server has made of one conversation."""

    def __init__(self, transport: PeerTransport) -> None:
        #: All that it sent.
        self.sent = bytes(transport.sent)
        #: Whether it ended the connection by itself, before the client did.
        self.ended = transport.ended or transport.closing
        self.aborted = transport.aborted


async def converse(server: bunws.Server, chunks: Sequence[bytes], *, reset: bool = False) -> Outcome:
    """
    Send the chunks, each in a read of its own, and see what comes back; then the client closes.

    reset: the connection breaks at once behind the last chunk, whatever the server is doing.
    """
    transport = PeerTransport(asyncio.get_running_loop())
    connection = Connection(server._site)
    transport.set_protocol(connection)
    connection.connection_made(transport)
    for chunk in chunks:
        rest = chunk
        while rest:
            await _until_read(transport)
            if transport.closing:
                break
            rest = transport.receive(rest)
        await asyncio.sleep(0)
    if reset:
        transport.close()
    await _quiet(server, transport)
    outcome = Outcome(transport)
    if not transport.closing:
        await _until_read(transport)
        if not transport.closing:
            transport.receive_end()
    for _ in range(_HUNG):
        if transport.lost and not server._guests.tasks:
            break
        await asyncio.sleep(0)
    assert transport.lost, "the client has closed its half, the server never does"
    _check_nothing_is_left(server)
    return outcome


async def _until_read(transport: PeerTransport) -> None:
    for _ in range(_HUNG):
        if transport.is_reading() or transport.closing:
            return
        await asyncio.sleep(0)
    raise AssertionError("the server stopped reading for good")


async def _quiet(server: bunws.Server, transport: PeerTransport) -> None:
    """Let the server finish what it can without another byte."""
    still = turns = 0
    while still < _QUIET:
        before = (len(transport.sent), transport.ended, transport.closing, len(server._guests.tasks))
        await asyncio.sleep(0)
        after = (len(transport.sent), transport.ended, transport.closing, len(server._guests.tasks))
        still = still + 1 if before == after and (transport.is_reading() or transport.closing) else 0
        turns += 1
        assert turns < _HUNG, "the server stopped reading for good"


def _check_nothing_is_left(server: bunws.Server) -> None:
    guests = server._guests
    assert not guests.connections, "a connection leaked"
    assert not guests.engines, "a WebSocket leaked"
    assert not guests.tasks, "a task leaked"
    assert not len(server._turn.topics), "a topic leaked"
    assert not server.pending_websockets
    assert not server.pending_requests


# The log


class Complaints(logging.Handler):
    """Everything that was logged as a warning or worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(self.format(record))


@contextlib.contextmanager
def hears_no_complaint() -> Iterator[None]:
    """Whatever a client sends, nothing is logged: no traceback, no storm."""
    complaints = Complaints()
    logger = logging.getLogger()
    logger.addHandler(complaints)
    try:
        yield
    finally:
        logger.removeHandler(complaints)
    assert not complaints.heard, complaints.heard
