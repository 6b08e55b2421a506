"""
Outbox: how bytes leave one socket, and what a sender is told about it.

Rule 1: what was accepted is never lost or reordered while the connection lives; what cannot be accepted is refused
with 0, at once.
Rule 2: a socket whose transport did not take everything keeps a backlog of references to the shared buffers, so a
thousand slow readers of one feed hold one copy of it.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Final, Protocol

from . import descriptor
from .frames import TEXT_HEADERS, Message, Opcode, control_header, header, parts
from .handler import Handler
from .late import Late
from .topics import BACKPRESSURE, DROPPED, Level, Run
from .turn import MessageDeflater, Turn


__all__ = ["ByteTransport", "Outbox"]

logger = logging.getLogger("bunws")

# Bytes of a message to one socket that is not copied behind its header: a second write costs less than the pages of a
# copy (an echo of 1 MiB takes 0.88 instead of 1.11 ms of CPU; one of 128 KiB gains nothing).
HUGE_MESSAGE: Final = 256 * 1024

_huge_message = HUGE_MESSAGE  # where this is compiled, a C integer


class ByteTransport(Protocol):
    """
    Where the bytes go: an asyncio transport whose write buffer limit is 0.

    So it calls `Outbox.pause_writing` (within `write`) when something is left over, and `resume_writing` when nothing
    is left.
    """

    def write(self, data: bytes | memoryview, /) -> None: ...

    def get_write_buffer_size(self) -> int: ...

    def is_closing(self) -> bool: ...


class Outbox:
    """The way out of one socket. Open until `_shut` is called."""

    __slots__ = (
        "_backlog",
        "_backlog_size",
        "_behind",
        "_descriptor",
        "_handler",
        "_hurdle",
        "_level",
        "_open",
        "_private",
        "_run",
        "_stuck",
        "_transport",
        "_turn",
        "deflater",
    )

    def __init__(
        self, turn: Turn, transport: ByteTransport, handler: Handler, deflater: MessageDeflater | None
    ) -> None:
        self.deflater = deflater
        self._turn = turn
        self._transport = transport
        self._handler = handler
        self._open = True
        self._stuck = False  # the transport has something left
        self._backlog: deque[bytes | Late] | None = None  # what waits for the transport to empty
        self._backlog_size = 0
        self._level = Level.FLOWING
        self._behind = False  # whether the level is another
        self._hurdle = False  # not open, or not flowing: the one question of the hot path
        self._private: list[bytes] | None = None  # what it is sent while nothing is published in this turn
        self._run: Run | None = None  # what it is sent otherwise, in its own list
        self._descriptor = -1  # where the transport writes what it is given, as it is

    # Sending

    def send(self, message: Message, compress: bool = False) -> int:
        """
        Send a text (`str`) or binary message (`bytes`, `bytearray`, `memoryview`).

        `compress`: deflate it, where that was negotiated and makes it shorter. Returns the bytes accepted, -1 behind
        backpressure, 0 when dropped. Raises TypeError for anything else.
        """
        if type(message) is str:
            text = message
            payload = text.encode()
            size = len(payload)
            head = TEXT_HEADERS[size] if size < 126 else header(Opcode.TEXT, size)
        else:
            head, payload = parts(message)
        return self._put(head, payload, compress)

    def ping(self, data: Message = b"") -> int:
        """Send a Ping of at most 125 bytes. Returns what `send` returns."""
        payload = _control_payload(data)
        return self._put(control_header(Opcode.PING, payload), payload, False)

    def pong(self, data: Message = b"") -> int:
        """Send a Pong nobody asked for, of at most 125 bytes; pings are answered without your help."""
        payload = _control_payload(data)
        return self._put(control_header(Opcode.PONG, payload), payload, False)

    def publish(self, topic: str, message: Message, compress: bool = False) -> int:
        """
        Send a message to all who hear `topic`, but for this socket (see `publish_to_self`).

        The socket need not hear the topic itself, and may be closed. Returns the worst that happens to a receiver: 0
        when somebody misses it or nobody listens, -1 when somebody is behind, else the bytes of the payload.
        """
        sender = None if self._handler.publish_to_self else self
        return self._turn.publish(sender, topic, message, compress)

    def _put(self, head: bytes, payload: bytes, compress: bool) -> int:
        """Queue one frame for the end of the turn. Returns what `send` returns."""
        if self._hurdle and self._refuses():
            return DROPPED
        if compress and self.deflater is None:
            compress = False
        pieces = self._private
        if pieces is None or compress:
            pieces = self._pieces(compress)
        pieces.append(head)
        pieces.append(payload)
        size = len(payload)
        self._turn.count(size)
        return BACKPRESSURE if self._hurdle else size

    def _pieces(self, compress: bool) -> list[bytes]:
        """What the next frame is to be added to."""
        turn = self._turn
        if self._run is None and not compress and not turn.topics.dirty:
            if self._private is None:
                turn.keep_private(self)
                self._private = []
            return self._private
        if self._private is not None:
            turn.mingle()
        run = self._run
        if run is None or turn.topics.dirty or run.compress is not compress:
            run = self._run = turn.topics.own(self, compress)
            turn.schedule()
        return run.pieces

    def _refuses(self) -> bool:
        if self._open and self._level is not Level.OVER:
            return False
        if self._open:
            self.dropped()
        return True

    def _shut(self, last_frame: bytes) -> None:
        """Nothing is accepted from now on; `last_frame` goes out behind all that was."""
        self._open = False
        self._hurdle = True
        if last_frame:
            self._pieces(False).append(last_frame)
        self._turn.topics.unsubscribe_all(self)

    def _unwritten(self) -> int:
        """Bytes that wait for the end of the turn, of what only this socket is sent."""
        return sum(map(len, self._private or ())) + self._turn.topics.size_of_own(self)

    def _buffered(self) -> int:
        """Bytes that the kernel has not taken yet; what is still to be deflated counts as it is."""
        return self._backlog_size + self._transport.get_write_buffer_size()

    def _not_ready(self) -> int:
        """The size of what is still being made while nothing else is in the way: its peer is not slow, we are."""
        if self._stuck or not self._backlog:
            return 0
        first = self._backlog[0]
        return first.size if isinstance(first, Late) and first.data is None else 0

    def _forget_backlog(self) -> None:
        for data in self._backlog or ():
            if isinstance(data, Late):
                data.forget(self)
        self._backlog = None
        self._backlog_size = 0

    # What the flush tells: turn.Correspondent

    def deliver(self, data: bytes) -> None:
        """Write, or keep a reference to what has to wait."""
        if self._behind:
            self._keep(data, len(data))
            return
        # uvloop's `write` takes 1,000 instructions more (callgrind): with it a copy from one publisher to each of 1,000
        # takes 1.48 us of CPU instead of 1.27.
        taken = descriptor.write(self._descriptor, data)
        if taken < len(data):
            self._transport.write(memoryview(data)[taken:] if taken else data)
            if self._stuck or self._transport.is_closing():
                self._written()

    def deliver_private(self) -> None:
        pieces = self._private
        if pieces is None:
            return  # the connection is gone
        self._private = None
        last = pieces[-1]
        if len(last) < _huge_message:
            self.deliver(b"".join(pieces))
        else:
            del pieces[-1]
            self.deliver(b"".join(pieces))
            self.deliver(last)

    def mingle_private(self) -> None:
        if self._private is not None:
            run = self._run = self._turn.topics.own(self, False)
            run.pieces += self._private
            self._private = None

    def _written(self) -> None:
        """Not all of it was taken."""
        self._measure()
        if self._open and self._transport.is_closing():
            # The peer has reset the connection: a transport takes and forgets what it is given until it tells so, in a
            # later pass of the loop. Who sends until it is told to stop would not be told.
            self.broken()

    def deliver_late(self, late: Late) -> None:
        late.wait(self)
        self._keep(late, late.size)

    def _keep(self, data: bytes | Late, size: int) -> None:
        if self._backlog is None:
            self._backlog = deque()
        self._backlog.append(data)
        self._backlog_size += size
        self._measure()

    def delivered_own(self) -> None:
        self._run = None

    def deliver_own(self, data: bytes) -> None:
        self._run = None
        if data:
            self.deliver(data)

    def dropped(self) -> None:
        """It was over its limit, and missed something."""

    def broken(self) -> None:
        """The transport raised."""

    # What the transport tells

    def pause_writing(self) -> None:
        """The transport has something left. Called within `write`."""
        self._stuck = True

    def stuck(self) -> None:
        """The transport has had something left since before it was this socket's."""
        self._stuck = True
        self._measure()

    def resume_writing(self) -> None:
        """Nothing is left: refill from the backlog."""
        self._stuck = False
        self._refill()

    def late_ready(self) -> None:
        """late.Waiting"""
        if self._backlog and not self._stuck:
            try:
                self._refill()
            except Exception as exc:  # the others that wait for the same bytes are not to be disturbed
                logger.error("bunws: a transport failed while it was written to", exc_info=exc)
                self.broken()

    def _refill(self) -> None:
        """Write from the backlog, oldest first, as far as the bytes are there and the transport takes them."""
        backlog = self._backlog
        while backlog and not self._stuck:
            data: bytes | Late | None = backlog[0]
            if isinstance(data, Late):
                size, data = data.size, data.data
                if data is None:
                    break
            else:
                assert data is not None
                size = len(data)
            backlog.popleft()
            self._backlog_size -= size
            self._transport.write(data)
            if self._transport.is_closing():
                self._written()
        if not backlog:
            self._backlog = None
        self._measure()
        if not self._behind:
            self._drained()

    def _drained(self) -> None:
        """The backlog is gone."""

    def _measure(self) -> None:
        """See how far behind the socket is now."""
        if self._open and self._transport.is_closing():
            level = Level.OVER
        elif not (self._stuck or self._backlog):
            level = Level.FLOWING
        else:
            # Like Bun's, the limit is soft: one turn's share or one message may reach past it.
            limit = self._handler.backpressure_limit
            level = Level.OVER if limit and self._buffered() - self._not_ready() > limit else Level.BEHIND
        if level is not self._level:
            self._level = level
            self._behind = level is not Level.FLOWING
            self._hurdle = not self._open or self._behind
            self._turn.topics.set_level(self, level)


def _control_payload(data: object) -> bytes:
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise TypeError(f"a ping or pong expects str, bytes, bytearray or memoryview, got {type(data).__name__}")
