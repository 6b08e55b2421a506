"""
Engine: the only room that imports picows.

picows parses frames and unmasks them, in C. It is the protocol of a live transport after the handshake, but never sees
that: in the transport's place stands a facade, which lets nothing through and only notes what picows wanted. Why:

* picows parses frame N+1 before it delivers frame N, and answers a broken N+1 with a Close frame at once. What it
  wanted to send is noted here, frame N is answered first, and then the engine fails the connection with its own phrase.
* It would set TCP options on a Unix socket before its own transport exists, and crash the process.
* It would write its own 101, with texts of exceptions in its error answers.

So its parser is all that is used: no pings, no pongs, no writes, no log.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

import picows.picows  # whole, for so it is cimported as well (engine.pxd)
from picows import WSAutoPingStrategy, WSMsgType, WSUpgradeResponse, WSUpgradeResponseWithListener
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # no public API; see test_engine.py

from .errors import RAISED
from .exceptions import ProtocolError
from .extension import Extension
from .facade import SILENCE, Facade
from .frames import CloseCode, Opcode, parse_close
from .handler import Handler
from .inbox import as_awaitable
from .messages import MessageAssembler, MessageInflater
from .transport import descriptor_of, pause_while_left
from .websocket import PauseReason, ServerWebSocket


__all__ = ["CLOSE_TIMEOUT", "Engine", "Host"]

logger = logging.getLogger("bunws")

# The most that is read at once, and the most within a message that is larger than that. picows doubles its buffer when
# a read fills it, and never gives the memory back.
READ_SIZE: Final = 64 * 1024
LARGE_READ_SIZE: Final = 256 * 1024

# Bytes: behind a read of no more, the view of the empty buffer can be used again, which saves 750 of the 7,800
# instructions of an echo (callgrind). A read that fills more than half of it may make picows move it.
SMALL_READ: Final = 512

# Bytes that the compressed messages of one peer may become in one turn, before the rest of what was read waits for the
# next: 1 MiB takes up to 4 ms (deflate.py). A message counts for 1 KiB more, since an empty one takes 4 us as well.
INFLATE_BUDGET: Final = 1024 * 1024
MESSAGE_COST: Final = 1024

# Seconds that a peer has for its Close frame, or to close its side of the connection.
CLOSE_TIMEOUT: Final = 8.0

# The read buffer of an idle connection, in bytes: the least that picows takes.
READ_BUFFER_SIZE: Final = 2048

_HANDSHAKE: Final = (
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)

# What picows believes to have answered; one for all, since nobody looks at it.
_RESPONSE: Final = WSUpgradeResponse.create_101_response()

# How the reason of the Close frame that picows wanted to send begins, and what the peer is told instead.
_FAILURES: Final = (
    (b"Received frame with invalid opcode", "Received invalid opcode"),
    (b"Received fragmented control frame", "Received fragmented control frame"),
    (b"Received un-masked frame", "Received an incorrectly masked frame"),
    (b"Received control frame with payload size", "Received too big control frame"),
    (b"Received frame with invalid 16-bit", "Received invalid payload length"),
    (b"Received frame with invalid 64-bit", "Received invalid payload length"),
    (b"Received frame with payload size exceeding", "Received too big message"),
    (b"Received CLOSE with invalid close code size", "Received invalid close payload"),
    (b"Received CLOSE with invalid close code", "Received invalid close code"),
    (b"Received CLOSE with invalid UTF-8", "Received invalid UTF-8"),
)

_small_read = SMALL_READ  # where this is compiled, a C integer

_TEXT: Final = WSMsgType.TEXT
_BINARY: Final = WSMsgType.BINARY


class _Reader(Extension, asyncio.BufferedProtocol):
    """The protocol of the live transport: picows's parser, and a look at each read before it begins."""

    # Not a subclass of the parser: that took 400 instructions more for each read (callgrind).
    __slots__ = ("_buffer_updated", "_empty", "_engine", "_get_buffer", "_parser")

    def __init__(self, engine: Engine, parser: WSProtocol) -> None:
        self._engine = engine
        self._parser = parser
        self._get_buffer: Callable[[int], memoryview] = parser.get_buffer
        self._buffer_updated: Callable[[int], None] = parser.buffer_updated
        self._empty: memoryview | None = None  # all of its buffer, while nothing is in it

    def get_buffer(self, size_hint: int) -> memoryview:
        view = self._empty
        if view is not None:
            return view
        view = self._get_buffer(size_hint)
        engine = self._engine
        if len(view) > READ_SIZE:
            engine._is_grown = True
            # Where no frame has ended in the last read, this is within one.
            return view[: LARGE_READ_SIZE if engine._tail < 0 else READ_SIZE]
        if engine._tail == 0:
            self._empty = view
        return view

    def buffer_updated(self, nbytes: int) -> None:
        engine = self._engine
        engine._silent_ticks = 0  # the peer lives
        engine._tail = -1
        empty, self._empty = self._empty, None
        is_grown = engine._is_grown
        engine._is_grown_used = engine._is_grown_used or is_grown
        try:
            self._buffer_updated(nbytes)
        except BaseException:  # such as a handler's KeyboardInterrupt: picows is left in the middle of its buffer
            engine._tail = -1
            raise
        if not is_grown:
            if nbytes <= _small_read and engine._tail == 0:
                self._empty = empty
            return
        # libuv reads on, up to 32 times, as long as each read fills its buffer. One such read of frames for each pass
        # of the loop leaves the others their share.
        if engine._tail >= 0 and nbytes >= READ_SIZE // 2:
            engine._press()

    def connection_lost(self, exc: Exception | None) -> None:
        self._parser.connection_lost(exc)

    def eof_received(self) -> bool:
        return False  # the transport closes itself

    def pause_writing(self) -> None:
        self._engine.pause_writing()

    def resume_writing(self) -> None:
        self._engine.resume_writing()


class _Linger:
    """The protocol of a connection that has said all: it waits for the peer's end and reads nothing more."""

    # RFC 6455, 7.1.1: closing at once, with bytes of the peer still unread, would make TCP send a RST, and the peer
    # could lose the Close frame.
    __slots__ = ("_engine",)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def connection_made(self, transport: object) -> None: ...

    def data_received(self, data: bytes) -> None: ...

    def eof_received(self) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None:
        self._engine._connection_lost()


class _Frame(NamedTuple):
    """What is to be known of a frame behind the callback that it is valid in."""

    opcode: Opcode
    fin: bool
    rsv1: bool
    rsv2_or_rsv3: bool
    payload: bytes


class Host(Protocol):
    """What an engine asks of its server."""

    loop: asyncio.AbstractEventLoop
    close_ticks: int  # how many ticks a peer has for its part of the closing

    def engine_gone(self, engine: Engine) -> None:
        """Its connection is gone, and so is its socket."""


class Engine(picows.picows.WSListener):
    """One WebSocket's connection, from behind the 101 to its end."""

    __slots__ = (
        "_assembler",
        "_busy",
        "_deferred",
        "_failure",
        "_finishing_ticks",
        "_handler",
        "_holds",
        "_host",
        "_inflated",
        "_inflater",
        "_is_grown",
        "_is_grown_used",
        "_last_left",
        "_quick",
        "_renew",
        "_silent_ticks",
        "_stalled_ticks",
        "_tail",
        "_transport",
        "ws",
    )

    ws: ServerWebSocket[Any]

    def __init__(
        self, host: Host, transport: asyncio.Transport, handler: Handler, inflater: MessageInflater | None
    ) -> None:
        self._host = host
        self._transport = transport
        self._handler = handler
        self._inflater = inflater
        self._inflated = 0  # bytes, since frames were last left for the next turn
        self._deferred: deque[_Frame] | None = None  # frames that are left for the next turn
        self._assembler: MessageAssembler | None = None  # while a message is unfinished
        self._failure: ProtocolError | None = None
        self._holds = PauseReason(0)
        self._busy = False
        self._is_grown = False  # the read buffer has
        self._is_grown_used = False  # … and was read into since the last tick
        self._tail = 0  # bytes behind the last frame of the last read; -1: no frame has ended in it
        self._renew = False  # the parser is to be replaced, at the next frame that ends its read
        self._quick = True  # not busy, no failure, nothing unfinished: the one question of the hot path
        self._silent_ticks = 0  # since the peer was last heard
        self._last_left = 0  # bytes that the transport held at the last tick
        self._stalled_ticks = 0  # since a closed peer took something of its backlog
        self._finishing_ticks = 0  # that are left for the peer to end the connection; 0: not finishing

    def start(self, accept: bytes, tail: bytes) -> None:
        """Take over the transport and send the 101, `accept`; `tail` is what came behind the request."""
        self._install_parser()
        self._transport.write(accept)
        pause_while_left(self._transport)
        # HTTP answers that the client has not read yet may have paused the protocol before.
        if self._transport.get_write_buffer_size():
            self.ws.stuck()
        self.ws._descriptor = descriptor_of(self._transport)
        if tail:
            self.hold(PauseReason.TAIL)
            self._host.loop.call_soon(self._feed, tail)

    # Reading

    def on_ws_frame(self, transport: picows.picows.WSTransport, frame: picows.picows.WSFrame) -> None:
        try:
            if frame.last_in_buffer:
                self._tail = frame.tail_size
            if not self._quick or not frame.fin or frame.rsv1 or frame.rsv2 or frame.rsv3:
                self._on_uncommon_frame(frame)
                return
            opcode = frame.msg_type
            if opcode == _TEXT:
                try:
                    message: str | bytes = frame.get_payload_as_utf8_text()
                except UnicodeDecodeError:
                    self._fail(ProtocolError(CloseCode.INVALID_DATA, "Received invalid UTF-8"))
                    return
            elif opcode == _BINARY:
                message = frame.get_payload_as_bytes()
            else:
                self._on_uncommon_frame(frame)
                return
            ws = self.ws
            try:
                result = self._handler.message(ws, message)
            except RAISED as exc:
                ws._await(ws._raised(exc))
                return
            if result is not None:
                ws._await(as_awaitable(result))
        except Exception as exc:  # such as a MemoryError: picows would go on with the next frame, and say nothing
            self._fail_internally(exc)

    def _on_uncommon_frame(self, frame: picows.picows.WSFrame) -> None:
        facts = _Frame(
            Opcode(frame.msg_type.value),
            bool(frame.fin),
            bool(frame.rsv1),
            bool(frame.rsv2 or frame.rsv3),
            frame.get_payload_as_bytes(),
        )
        if self._deferred is not None:
            self._deferred.append(facts)
        else:
            self._take(facts)
        if self._renew and frame.last_in_buffer and not frame.tail_size and not self._failure:
            self._renew = False
            self._install_parser()
        self._refresh()

    def _take(self, frame: _Frame) -> None:
        try:
            self._handle(frame)
        except ProtocolError as error:
            self._fail(error)
        except Exception as exc:
            self._fail_internally(exc)

    def _handle(self, frame: _Frame) -> None:
        # RFC 6455, 5.2: RSV1 to RSV3 "MUST be 0 unless an extension is negotiated that defines meanings".
        if frame.rsv2_or_rsv3:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "Received unexpected RSV2 or RSV3 bit")
        if frame.opcode >= Opcode.CLOSE:
            # RFC 7692, 6: an endpoint "MUST NOT set the RSV1 bit of control frames".
            if frame.rsv1:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, "Received unexpected RSV1 bit")
            if frame.opcode is Opcode.CLOSE:
                self.ws._close_received(*parse_close(frame.payload))
            elif frame.opcode is Opcode.PING:
                self.ws._pinged(frame.payload)
            else:
                self.ws._ponged(frame.payload)
            return
        if not self.ws._open:
            return
        assembler = self._assembler
        if assembler is None:
            assembler = self._assembler = MessageAssembler(self._handler.max_payload_length, self._inflater)
        message = assembler.add(frame.opcode, frame.fin, frame.rsv1, frame.payload)
        if frame.rsv1 or assembler.inflated:
            self._count_inflated(assembler.inflated + (MESSAGE_COST if frame.rsv1 else 0))
        if message is not None:
            self._assembler = None
            self.ws._deliver_message(message)

    def _count_inflated(self, size: int) -> None:
        """Few bytes can become many: what a peer lets us inflate in one turn is bounded."""
        self._inflated += size
        if self._inflated > INFLATE_BUDGET and self._deferred is None:
            self._deferred = deque()
            self.hold(PauseReason.WORK)
            self._host.loop.call_soon(self._work_off)

    def _work_off(self) -> None:
        """A turn has passed: take what was left."""
        if self._holds & PauseReason.INBOX and self._deferred is not None:
            return  # `release` calls again: what nobody takes yet stays small
        frames, self._deferred, self._inflated = self._deferred, None, 0
        while frames and self._deferred is None:
            self._take(frames.popleft())
            if frames and self._holds & PauseReason.INBOX:
                self._deferred = deque()
        if self._deferred is not None:
            self._deferred.extend(frames or ())
        else:
            self.release(PauseReason.WORK)
            self._fail_noted()
        self._refresh()

    def _feed(self, tail: bytes) -> None:
        """Give the parser what came behind the request."""
        view = memoryview(tail)
        try:
            while view and self._failure is None and isinstance(reader := self._transport.get_protocol(), _Reader):
                buffer = reader.get_buffer(-1)
                size = min(len(buffer), len(view))
                buffer[:size] = view[:size]
                reader.buffer_updated(size)
                view = view[size:]
        except Exception as exc:  # such as a MemoryError
            self._fail_internally(exc)
        self.release(PauseReason.TAIL)

    def _install_parser(self) -> None:
        """A new parser, with an empty buffer."""
        self._is_grown = self._is_grown_used = False
        self._tail = 0
        parser = WSProtocol(
            None,  # host_port
            None,  # ws_path
            False,  # is_client_side
            lambda _: WSUpgradeResponseWithListener(_RESPONSE, self),  # ws_listener_factory
            SILENCE,
            False,  # disconnect_on_exception
            None,  # websocket_handshake_timeout
            False,  # enable_auto_ping: it costs one task per connection
            0,  # auto_ping_idle_timeout
            0,  # auto_ping_reply_timeout
            WSAutoPingStrategy.PING_WHEN_IDLE,
            False,  # enable_auto_pong: `ping` would never be called
            self._handler.max_payload_length,
            None,  # extra_headers
            READ_BUFFER_SIZE,
        )
        parser.connection_made(Facade(self._note_failure))
        parser.get_buffer(-1)[: len(_HANDSHAKE)] = _HANDSHAKE
        parser.buffer_updated(len(_HANDSHAKE))
        self._transport.set_protocol(_Reader(self, parser))

    def _press(self) -> None:
        """Read no more in this pass of the loop."""
        if not self._holds & PauseReason.PRESS:
            self.hold(PauseReason.PRESS)
            self._host.loop.call_soon(self.release, PauseReason.PRESS)

    def _shrink(self) -> None:
        """
        Give a read buffer up that was not needed in the last tick.

        Not at once: an echo of 1 MiB whose buffer was made anew for each message took 2.9 times as long.
        """
        if self._is_grown_used:
            self._is_grown_used = False
        elif not (self._tail or self._failure) and self.ws._open:
            self._install_parser()

    def renew(self) -> None:
        """The limits of the handler have changed, and maybe the length of a tick."""
        self._silent_ticks = 0
        self._renew = True
        self._quick = False
        if self._assembler is not None:
            self._assembler.max_payload_length = self._handler.max_payload_length

    def _refresh(self) -> None:
        self._quick = not (self._busy or self._renew or self._failure or self._assembler or self._deferred is not None)

    # Failing

    def _note_failure(self, close: bytes) -> None:
        """What picows wanted to send; the frame before is still to be delivered."""
        if self._failure is not None:
            return
        body = close[2:] if close[1] < 126 else close[4:]
        phrase = next((ours for theirs, ours in _FAILURES if body.startswith(theirs, 2)), None)
        self._failure = ProtocolError(int.from_bytes(body[:2], "big"), phrase or "Received a broken frame")
        # picows would take the bytes behind a frame that is too big for its payload, without bound.
        self.hold(PauseReason.FAILURE)
        self._host.loop.call_soon(self._fail_noted)

    def _fail_noted(self) -> None:
        if self._failure is not None and self._deferred is None:
            self.ws._fail(self._failure.close_code, self._failure.phrase)

    def _fail(self, error: ProtocolError) -> None:
        # One that was only noted lies behind this one.
        self._failure = error
        self._quick = False
        self.hold(PauseReason.FAILURE)
        self.ws._fail(error.close_code, error.phrase)

    def _fail_internally(self, exc: Exception) -> None:
        """A message is lost, and it is no fault of the peer's; it is told 1011, for what follows may make no sense."""
        logger.error("bunws: a frame could not be received", exc_info=exc)
        self._fail(ProtocolError(CloseCode.INTERNAL_ERROR, "Internal error"))

    # What the transport tells, through picows

    def on_ws_connected(self, transport: Any) -> None:
        # Nobody will ask for the head of the canonical request, and it takes 1 KB.
        transport.request.headers = None

    def pause_writing(self) -> None:
        self.ws.pause_writing()

    def resume_writing(self) -> None:
        self.ws.resume_writing()

    def on_ws_disconnected(self, _: object) -> None:
        self._connection_lost()

    def _connection_lost(self) -> None:
        self._host.engine_gone(self)
        self.ws._lost()

    # websocket.Wire

    def hold(self, reason: PauseReason) -> None:
        if not self._holds and not self._transport.is_closing():
            self._transport.pause_reading()
        self._holds |= reason

    def release(self, reason: PauseReason) -> None:
        if self._holds & reason:
            self._holds &= ~reason
            if reason & PauseReason.INBOX and self._deferred is not None:
                self._host.loop.call_soon(self._work_off)
            if not self._holds and not self._transport.is_closing():
                self._silent_ticks = 0
                self._transport.resume_reading()

    def busy(self, busy: bool) -> None:
        self._busy = busy
        self._refresh()

    def finish(self, now: bool) -> None:
        if not self._finishing_ticks:
            self._finishing_ticks = self._host.close_ticks
        if now and not self._transport.is_closing():
            if self._transport.can_write_eof():
                try:
                    self._transport.write_eof()
                except OSError:  # asyncio's own transports raise when the peer has reset the connection
                    self._transport.abort()
                    return
                self._transport.set_protocol(_Linger(self))  # type: ignore[arg-type]  # it need not inherit
                self.release(self._holds)
            else:
                self._transport.close()  # TLS says close_notify, and waits for the peer's

    def drop(self) -> None:
        # What was accepted is written as far as the peer takes it, a Close frame among it.
        self.ws._turn.flush()
        self._transport.abort()

    # timeouts.Ticking

    def tick(self) -> None:
        if self._is_grown:
            self._shrink()
        if self._finishing_ticks:
            self._finishing_ticks -= 1
            if not self._finishing_ticks:
                self._transport.abort()
            return
        if not self.ws._open:
            self._tick_draining()
            return
        if self._holds:
            return  # nobody can tell whether a peer lives that is not read
        left = self._transport.get_write_buffer_size()
        if self._last_left and left != self._last_left:
            self._silent_ticks = 0  # slow, but alive: it has taken some of what waited
        self._last_left = left
        self._silent_ticks += 1
        patience = self._handler.patience
        if patience.close and self._silent_ticks >= patience.close:
            self.ws._timed_out()
        elif self._silent_ticks == patience.ping:
            self.ws.ping()

    def _tick_draining(self) -> None:
        """All is said, but it waits behind a backlog: the peer may be slow, but has to take some of it."""
        if self.ws._not_ready():
            return  # it waits for us
        left = self.ws._buffered()
        self._stalled_ticks = self._stalled_ticks + 1 if left == self._last_left else 0
        self._last_left = left
        if self._stalled_ticks >= self._host.close_ticks:
            self._transport.abort()
