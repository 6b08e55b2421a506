"""
ServerWebSocket: one open socket, as its handlers see it.

Rule 1: one `open`, then exactly one `close`.
Rule 2: an exception from a handler goes to the `error` handler; without one it is logged and the socket closes with
1011. The peer never sees its text.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from .errors import RAISED
from .frames import CloseCode, check_close, close_frame
from .handler import Callback, Handler
from .inbox import Inbox, as_awaitable
from .outbox import ByteTransport, Outbox
from .turn import MessageDeflater, Turn, check_topic


__all__ = ["ReadyState", "ServerWebSocket", "Wire"]

T = TypeVar("T")
R = TypeVar("R")

Binary: TypeAlias = bytes | bytearray | memoryview

logger = logging.getLogger("bunws")


class ReadyState(enum.IntEnum):
    """RFC 6455, section 4, in the numbers of the WebSocket standard. A handler sees OPEN and CLOSED only."""

    CONNECTING, OPEN, CLOSING, CLOSED = range(4)


class Wire(Protocol):
    """What a socket asks of the engine below it."""

    def hold(self, reason: PauseReason) -> None:
        """Stop reading, for this reason."""

    def release(self, reason: PauseReason) -> None:
        """Go on reading, if there is no other reason not to."""

    def busy(self, busy: bool) -> None:
        """Whether messages have to pass `ServerWebSocket._deliver_message`, or may go straight to the handler."""

    def finish(self, now: bool) -> None:
        """All bytes are with the transport. End the connection: `now`, or when the peer has said Close as well."""

    def drop(self) -> None:
        """Drop the connection at once."""


class PauseReason(enum.IntFlag):
    """Why a socket is not read."""

    USER = enum.auto()  # `ws.pause()`
    INBOX = enum.auto()  # an async handler lags
    PRESS = enum.auto()  # it sends so much that the others would have to wait
    WORK = enum.auto()  # one read has made enough work for one turn
    TAIL = enum.auto()  # what came behind the request is not handled yet
    FAILURE = enum.auto()  # nothing behind the broken frame counts


class ServerWebSocket(Outbox, Generic[T]):
    """
    One WebSocket. Its methods belong to the thread of its server.

    `send`, `publish`, `ping` and `pong` answer in Bun's numbers: the bytes of the payload when it was accepted (0 for
    an empty one), -1 when it was queued behind backpressure (wait for `drain`), 0 when it was dropped (the socket is
    closed, or over its `backpressure_limit`). All that is sent in one turn of the event loop leaves in one write.
    """

    __slots__ = (
        "__weakref__",
        "_doomed",
        "_end_now",
        "_inbox",
        "_last_topics",
        "_paused",
        "_spawn",
        "_wire",
        "data",
        "protocol",
        "remote_address",
    )

    def __init__(
        self,
        turn: Turn,
        transport: ByteTransport,
        handler: Handler,
        wire: Wire,
        spawn: Callable[[Coroutine[object, object, None]], object],
        *,
        data: T,
        protocol: str,
        remote_address: str,
        deflater: MessageDeflater | None = None,
    ) -> None:
        super().__init__(turn, transport, handler, deflater)
        #: Whatever was given to `server.upgrade(data=)`.
        self.data = data
        #: The subprotocol that was chosen; "" when none was.
        self.protocol = protocol
        #: The peer's IP address as text; "" on a Unix socket. Still readable when closed.
        self.remote_address = remote_address
        self._wire = wire
        self._spawn = spawn
        self._inbox: Inbox | None = None  # while an async handler runs
        self._paused = False
        self._doomed = False  # the end of the turn is its end
        self._last_topics: list[str] | None = None  # once closed: the topics it had
        self._end_now: bool | None = None  # once the last frame was flushed and has to drain

    # State

    @property
    def ready_state(self) -> ReadyState:
        """OPEN, or CLOSED as soon as either side closes."""
        return ReadyState.OPEN if self._open else ReadyState.CLOSED

    @property
    def buffered_amount(self) -> int:
        """Bytes that were accepted and that the kernel has not taken yet (frames included); 0 when closed."""
        return self._buffered() + self._unwritten() if self._open else 0

    @property
    def subscriptions(self) -> list[str]:
        """The names of its topics, sorted; in `close` and later, those it had."""
        if self._last_topics is not None:
            return list(self._last_topics)
        return self._turn.topics.topics_of(self)

    @property
    def is_paused(self) -> bool:
        """Whether `pause` was called."""
        return self._paused

    def __repr__(self) -> str:
        name = self.remote_address or "unix"
        return (
            f"<ServerWebSocket {name} {self.ready_state.name} topics={len(self.subscriptions)} "
            f"buffered={self.buffered_amount}>"
        )

    # Sending

    def send_text(self, message: str, compress: bool = False) -> int:
        """Like `send`, for a `str` only."""
        return self.send(_text("send_text", message), compress)

    def send_binary(self, message: Binary, compress: bool = False) -> int:
        """Like `send`, for bytes only."""
        return self.send(_bytes("send_binary", message), compress)

    def cork(self, callback: Callable[[ServerWebSocket[T]], R]) -> R:
        """
        Call `callback(self)` and return what it returns.

        Here for those who come from Bun: everything sent in one turn leaves in one write, corked or not.
        """
        return callback(self)

    # Topics

    def subscribe(self, topic: str) -> bool:
        """
        Hear what is published to `topic` from now on.

        Returns False when the socket is closed, or hears `max_subscriptions` topics already (which is logged).
        """
        check_topic(topic)
        if not self._open:
            return False
        topics, most = self._turn.topics, self._handler.max_subscriptions
        if most and topics.size_of(self) >= most and not topics.is_subscribed(self, topic):
            self._handler.too_many_topics.tell()
            return False
        topics.subscribe(self, topic)
        return True

    def unsubscribe(self, topic: str) -> bool:
        """Hear `topic` no more; what was published before still arrives. Returns whether it was subscribed."""
        check_topic(topic)
        return self._turn.topics.unsubscribe(self, topic)

    def is_subscribed(self, topic: str) -> bool:
        """Whether the socket hears `topic`; in `close` and later, whether it did."""
        if self._last_topics is not None:
            return topic in self._last_topics
        return self._turn.topics.is_subscribed(self, topic)

    def publish_text(self, topic: str, message: str, compress: bool = False) -> int:
        """Like `publish`, for a `str` only."""
        return self.publish(topic, _text("publish_text", message), compress)

    def publish_binary(self, topic: str, message: Binary, compress: bool = False) -> int:
        """Like `publish`, for bytes only."""
        return self.publish(topic, _bytes("publish_binary", message), compress)

    # Reading

    def pause(self) -> None:
        """Stop reading from the peer; the idle timeout rests. What was read already is still delivered."""
        if self._open and not self._paused:
            self._paused = True
            self._wire.hold(PauseReason.USER)

    def resume(self) -> None:
        """Read again."""
        if self._paused:
            self._paused = False
            self._wire.release(PauseReason.USER)

    # Closing

    def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """
        Send what was accepted, then a Close frame; the `close` handler runs before this returns.

        `code` is 1000 to 1003, 1007 to 1014, or 3000 to 4999, `reason` at most 123 bytes of UTF-8; anything else
        raises ValueError. Does nothing on a closed socket.
        """
        frame = close_frame(code, check_close(code, reason))
        if self._open:
            self._end(frame, code, reason, now=False)

    def terminate(self) -> None:
        """Drop the connection without a Close frame; what was accepted is written as far as the peer takes it."""
        if self._open:
            self._end(b"", CloseCode.ABNORMAL_CLOSURE, "", now=True)
            self._wire.drop()

    # What the engine tells

    def _opened(self) -> None:
        self._emit(self._handler.open)

    def _deliver_message(self, message: str | bytes) -> None:
        """A message while a handler runs, or from an uncommon frame."""
        if self._open:
            self._emit(self._handler.message, message)

    def _pinged(self, data: bytes) -> None:
        if self._open:
            # RFC 6455, 5.5.2: "an endpoint MUST send a Pong frame in response, unless it already received a Close
            # frame". A peer that does not read its pongs runs into the backpressure limit like any other.
            self.pong(data)
            self._emit(self._handler.ping, data)

    def _ponged(self, data: bytes) -> None:
        if self._open:
            self._emit(self._handler.pong, data)

    def _close_received(self, code: int, reason: str) -> None:
        """The peer's Close frame; `code` is 1005 when it was empty."""
        if self._open:
            # RFC 6455, 5.5.1: "the endpoint typically echos the status code it received". And its reason, as others do:
            # it is what a browser shows to the page that has closed.
            self._end(close_frame(code, reason.encode()), code, reason, now=True)
        elif self._end_now is False:
            # Both have said Close; ours may still wait for the end of the turn, or behind a backlog.
            self._end_now = True
            self._turn.afterwards(self._last_frame_flushed)

    def _fail(self, code: int, phrase: str) -> None:
        """_Fail the WebSocket Connection_ (RFC 6455, 7.1.7)."""
        if self._open:
            self._end(close_frame(code, phrase.encode()), CloseCode.ABNORMAL_CLOSURE, phrase, now=True)

    def _timed_out(self) -> None:
        if self._open:
            self._end(
                b"",
                CloseCode.ABNORMAL_CLOSURE,
                "WebSocket timed out from inactivity",
                now=True,
            )
        self._wire.drop()

    def _lost(self) -> None:
        """The connection is gone."""
        topics = self._turn.topics
        if self._open:
            self._last_topics = topics.topics_of(self)
            self._open, self._hurdle = False, True
            topics.forget(self)
            self._tell_close(int(CloseCode.ABNORMAL_CLOSURE), "")
        topics.forget(self)
        self._run = self._private = None
        self._descriptor = -1  # the number may be another file's from now on
        self._forget_backlog()
        self._wire = _GONE

    # What the outbox tells

    def dropped(self) -> None:
        if self._handler.close_on_backpressure_limit:
            self.broken()

    def broken(self) -> None:
        if not self._doomed:
            self._doomed = True
            self._turn.afterwards(self.terminate)

    def _drained(self) -> None:
        if self._end_now is not None:
            if self._run is None and self._private is None:  # else the last frame waits for the end of the turn
                self._wire.finish(self._end_now)
        elif self._open:
            self._emit(self._handler.drain)

    # Private

    def _end(self, last_frame: bytes, code: int, reason: str, *, now: bool) -> None:
        """`now`: the connection ends when all is written; else the peer may say Close first."""
        self._last_topics = self._turn.topics.topics_of(self)
        self._shut(last_frame)
        self._wire.busy(True)
        self._paused = False
        self._wire.release(PauseReason.USER)
        if last_frame:
            self._end_now = now
            self._turn.afterwards(self._last_frame_flushed)
        self._tell_close(int(code), reason)

    def _last_frame_flushed(self) -> None:
        if not self._behind and self._end_now is not None:
            self._wire.finish(self._end_now)

    def _tell_close(self, code: int, reason: str) -> None:
        if self._inbox is not None:
            self._inbox.put_last(self._handler.close, self, code, reason)
        else:
            self._await(self._call(self._handler.close, self, code, reason))

    def _emit(self, callback: Callback, *args: object) -> None:
        """Run a handler now, or let it wait for the one that runs."""
        if self._inbox is not None:
            self._inbox.put(callback, self, *args)
        else:
            self._await(self._call(callback, self, *args))

    def _await(self, awaitable: Awaitable[object] | None) -> None:
        """An async handler runs from now on."""
        if awaitable is None:
            return
        if self._inbox is not None:  # its own `close` or `error` has begun to run meanwhile
            self._inbox.put(lambda: awaitable)
            return
        self._inbox = Inbox(self)
        self._wire.busy(True)
        self._spawn(self._inbox.run(awaitable))

    def _call(self, callback: Callback, *args: object) -> Awaitable[object] | None:
        try:
            result = callback(*args)
        except RAISED as exc:
            return self._raised(exc)
        return None if result is None else as_awaitable(result)

    def _raised(self, exc: BaseException) -> Awaitable[object] | None:
        error = self._handler.error
        if error is None:
            self._give_up(exc)
            return None
        try:
            result = error(self, exc)
        except RAISED as second:
            self._give_up(second)
            return None
        return None if result is None else as_awaitable(result)

    def _give_up(self, exc: BaseException) -> None:
        logger.error("bunws: a websocket handler raised", exc_info=exc)
        self.close(CloseCode.INTERNAL_ERROR)

    def _inbox_full(self, full: bool) -> None:
        if full:
            self._wire.hold(PauseReason.INBOX)
        else:
            self._wire.release(PauseReason.INBOX)

    def _inbox_empty(self) -> None:
        self._inbox = None
        self._wire.busy(not self._open)


class _Gone:
    """The wire of a socket whose connection is gone."""

    def hold(self, reason: PauseReason) -> None: ...

    def release(self, reason: PauseReason) -> None: ...

    def busy(self, busy: bool) -> None: ...

    def finish(self, now: bool) -> None: ...

    def drop(self) -> None: ...


_GONE: Final = _Gone()


def _text(method: str, message: str) -> str:
    if not isinstance(message, str):
        raise TypeError(f"{method} expects a str, got {type(message).__name__}")
    return message


def _bytes(method: str, message: Binary) -> Binary:
    if not isinstance(message, bytes | bytearray | memoryview):
        raise TypeError(f"{method} expects bytes, bytearray or memoryview, got {type(message).__name__}")
    return message
