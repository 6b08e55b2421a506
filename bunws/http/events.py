"""
Events: server-sent events, the format of `text/event-stream` (WHATWG HTML, 9.2).

Rule 1: what a client would read as something else than was written is refused when the event is made.
Rule 2: an event is encoded once, however many streams send it, and is one chunk of each: whatever is written between
two chunks (a heartbeat) is between two events.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeAlias

from .body import encode_json
from .headers import HeadersInit
from .request import Request
from .response import Response


__all__ = ["Event", "EventStream", "EventsInit", "HEARTBEAT"]

# Seconds. 9.2.7: "authors can include a comment line (one starting with a ':' character) every 15 seconds or so."
HEARTBEAT: Final = 15.0

_COMMENT: Final = b":\n\n"

# 9.2.5: 'end-of-line = ( cr lf / cr / lf )'. `str.splitlines` knows seven more, which are data here.
_END_OF_LINE: Final = re.compile(r"\r\n|\r|\n")

# An id comes back as a field of a request. RFC 9110, 5.5: "Field values containing CR, LF, or NUL characters are
# invalid and dangerous"; the other control characters "are also invalid", and servers answer them with 400.
_NOT_IN_ID: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Event:
    """
    One event.

    data: what the page finds as `event.data`; several lines are sent as several. CRLF and CR arrive as LF. None: no
        event for the page, only what else is said here.
    event: its type, for `addEventListener(type)`; None or "" is "message".
    id: what the client sends as Last-Event-ID when it connects again; "" makes it forget the last.
    retry: seconds (on the wire: milliseconds) until a client that lost its connection tries again.
    comment: text for whoever reads the stream itself; clients skip it.

    Raises TypeError for what is no text, ValueError for an `event` or `id` that a client would read differently.
    """

    data: str | None
    event: str | None = None
    id: str | None = None
    retry: float | None = None
    comment: str | None = None
    _wire: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_wire", self._encode())

    @classmethod
    def json(
        cls, value: Any, event: str | None = None, id: str | None = None, retry: float | None = None
    ) -> Self:  # `Any`: whatever JSON can say, as with `Response.json`
        """
        An event whose data is `value` as JSON.

        Raises TypeError or ValueError for what JSON cannot say, such as a set or NaN.
        """
        return cls(encode_json(value).decode(), event, id, retry)

    def encode(self) -> bytes:
        """The event as it is sent."""
        return self._wire

    def _encode(self) -> bytes:
        lines = ""
        if self.comment is not None:
            lines += _lines("", "comment", self.comment)
        if self.event is not None:
            if self.data is None:
                # 9.2.6: 'If the data buffer is an empty string, set the data buffer and the event type buffer to the
                # empty string and return.'
                raise ValueError("an event without data is not dispatched, so it has no type: leave event= away")
            lines += _line("event", self.event) if self.event else ""
        if self.id is not None:
            lines += _id(self.id)
        if self.retry is not None:
            lines += f"retry: {_milliseconds(self.retry)}\n"
        if self.data is not None:
            lines += _lines("data", "data", self.data)
        if not lines:
            raise ValueError("an event needs data, or at least an id, a retry or a comment")
        # 9.2.5: "Event streams in this format must always be encoded as UTF-8."
        return f"{lines}\n".encode()


EventsInit: TypeAlias = AsyncIterable[Event | str | bytes] | Iterable[Event | str | bytes]
"""What can feed a stream. A str is the data of an event, and so are bytes, which must be UTF-8."""


class EventStream(Response):
    """
    A response that goes on: each event of `source` is sent when the source gives it.

    The head is sent at once. The next event is asked for when the last has been handed to the kernel. When the client
    leaves, or the server stops waiting for it, the source is closed (`aclose()` or `close()`). The idle timeout of
    HTTP does not hold while a response is being sent.

    source: an iterable, better an async one, of `Event`, str and bytes (UTF-8). A topic is one:
        `EventStream(server.subscribe("x"))`.
    heartbeat: seconds of silence after which a comment is sent, so that nobody on the way takes the connection for
        dead; 0 or None for never.
    headers: more headers, or others in place of these: `Content-Type: text/event-stream`, `Cache-Control: no-store`,
        `X-Accel-Buffering: no` (which tells nginx to pass events on at once).

    Raises TypeError or ValueError for what cannot be sent.
    """

    __slots__ = ()

    def __init__(
        self,
        source: EventsInit,
        *,
        heartbeat: float | None = HEARTBEAT,
        headers: HeadersInit | None = None,
        status: int = 200,
    ) -> None:
        super().__init__(_Stream(source, heartbeat), status, headers)
        self.headers.setdefault("Content-Type", "text/event-stream")
        self.headers.setdefault("Cache-Control", "no-store")
        self.headers.setdefault("X-Accel-Buffering", "no")

    @staticmethod
    def last_event_id(request: Request) -> str | None:
        """The id of the last event that the client saw before it lost its connection; None when it saw none."""
        value = request.headers.get("Last-Event-ID")
        if not value:
            return None
        # 9.2.3: 'the EventSource object's last event ID string, encoded as UTF-8'. A field comes as Latin-1.
        return value.encode("latin-1").decode("utf-8", "replace")


class _Stream:
    """The chunks of an `EventStream`: one for each event."""

    __slots__ = ("_iterator", "_source", "heartbeat")

    def __init__(self, source: EventsInit, heartbeat: float | None) -> None:
        if isinstance(source, str | bytes | bytearray | memoryview | Mapping | Event):
            raise TypeError(f"source must be an iterable of events, not {type(source).__name__}: write [...] around it")
        if not isinstance(source, AsyncIterable | Iterable):
            raise TypeError(f"source must be an (async) iterable of events, not {type(source).__name__}")
        #: Seconds of silence, and what is written then.
        self.heartbeat = (_positive("heartbeat", heartbeat), _COMMENT) if heartbeat else None
        self._source = source
        self._iterator: AsyncIterator[Event | str | bytes] | Iterator[Event | str | bytes] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        iterator = self._iterator
        if iterator is None:
            source = self._source
            iterator = self._iterator = aiter(source) if isinstance(source, AsyncIterable) else iter(source)
        if isinstance(iterator, AsyncIterator):
            item = await anext(iterator)
        else:
            try:
                item = next(iterator)
            except StopIteration:
                raise StopAsyncIteration from None
        return _to_event(item).encode()

    async def aclose(self) -> None:
        """Close the source, begun or not: it may hold more than its iterator does."""
        for held in (self._iterator, self._source):
            aclose = getattr(held, "aclose", None)
            if aclose is not None:
                await aclose()
            elif (close := getattr(held, "close", None)) is not None:
                close()
            if held is self._source:
                return


def _to_event(item: object) -> Event:
    if isinstance(item, Event):
        return item
    if isinstance(item, str):
        return Event(item)
    if isinstance(item, bytes):
        # A peer that may publish bytes is not to end the streams of all others.
        return Event(item.decode("utf-8", "replace"))
    raise TypeError(f"an event stream takes Event, str and bytes, not {type(item).__name__}; use Event.json(...)")


# The syntax of 9.2.5


def _lines(name: str, what: str, text: str) -> str:
    """A field (or, without a name, a comment) for each line of `text`."""
    _check_str(what, text)
    # 9.2.6: 'If value starts with a U+0020 SPACE character, remove it from value.' So there is always one to remove.
    if "\n" in text or "\r" in text:
        return "".join([f"{name}: {line}\n" for line in _END_OF_LINE.split(text)])
    return f"{name}: {text}\n"


def _line(name: str, value: str) -> str:
    _check_str(name, value)
    if "\n" in value or "\r" in value:
        raise ValueError(f"{name} must be one line, not {value!r}")
    return f"{name}: {value}\n"


def _id(value: str) -> str:
    _check_str("id", value)
    # 9.2.6: 'If the field value does not contain U+0000 NULL, then set the last event ID buffer to the field value.
    # Otherwise, ignore the field.'
    if _NOT_IN_ID.search(value):
        raise ValueError(f"id must hold no control characters, since it comes back in a header: {value!r}")
    # RFC 9110, 5.5: "A field value does not include leading or trailing whitespace."
    if value != value.strip(" "):
        raise ValueError(f"id must not begin or end with a space, since it comes back in a header: {value!r}")
    return f"id: {value}\n"


def _milliseconds(seconds: float) -> int:
    # 9.2.6: 'If the field value consists of only ASCII digits, then interpret the field value as an integer in base
    # ten, and set the event stream's reconnection time to that integer.'
    return 0 if seconds == 0 else max(1, round(_positive("retry", seconds) * 1000))


def _positive(name: str, seconds: object) -> float:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise TypeError(f"{name} must be a number of seconds, not {type(seconds).__name__}")
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{name} must be more than 0 seconds and finite, not {seconds}")
    return float(seconds)


def _check_str(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be str, not {type(value).__name__}")
