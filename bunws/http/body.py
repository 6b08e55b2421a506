"""
Body: the content of one request while it arrives.

Rule 1: the connection feeds it and ends it (or fails it) once; one reader reads it once, `Request` sees to that.
Rule 2: it has no limit of its own, but it knows when it `is_full`: then the connection feeds it no more. A reader that
wants the whole is never full: the parser has refused what is longer than `max_body_size` before it gets here.
Rule 3: a future is made only when somebody waits for content that has not arrived.
"""

from __future__ import annotations

import asyncio
import json
from math import isinf
from typing import Any, Final, NoReturn, Protocol, Self


__all__ = [
    "Body",
    "BodySource",
    "ClientDisconnected",
    "EMPTY",
    "HIGH_WATER",
    "decode_json",
    "decode_text",
    "encode_json",
    "encode_json_text",
]

# Bytes that wait for a reader before the connection stops reading: those of one read of the socket, more or less.
HIGH_WATER: Final = 64 * 1024


class ClientDisconnected(ConnectionError):
    """The client went away before it had sent the whole body of its request."""


class BodySource(Protocol):
    """Where a body comes from: its connection."""

    def body_wanted(self) -> None:
        """A reader waits for content that has not arrived, or has made room for more. May be called often."""


class Body:
    """Bytes that arrive in pieces. They are read as one, or piece by piece: `async for chunk in body`."""

    __slots__ = ("_content", "_ended", "_error", "_source", "_waiter", "_whole")

    def __init__(self, content: bytes | None = None, *, source: BodySource | None = None) -> None:
        """An open body, which comes from `source`; with `content`, one that is complete."""
        # One object, however small the pieces are in which a peer sends it.
        self._content = bytearray(content or b"")
        self._ended = content is not None
        self._error: BaseException | None = None
        self._source = source
        self._waiter: asyncio.Future[None] | None = None
        self._whole = False  # somebody waits for all of it

    def __repr__(self) -> str:
        state = "failed" if self._error else "complete" if self._ended else "arriving"
        return f"<Body {state} buffered={self.buffered}>"

    @property
    def buffered(self) -> int:
        """Bytes that have arrived and were not read yet."""
        return len(self._content)

    # The connection's side

    @property
    def is_full(self) -> bool:
        """Whether it should be fed no more until the reader has taken something."""
        return len(self._content) >= HIGH_WATER and not self._whole

    def feed(self, data: bytes) -> None:
        """Add a piece. One that has failed forgets it."""
        if self._error is None:
            self._content += data
            if not self._whole:
                self._wake()

    def end(self) -> None:
        """The body is complete."""
        self._ended = True
        self._wake()

    def fail(self, exc: BaseException) -> None:
        """The rest will never come: who reads gets `exc`. A body that is complete stays so."""
        if not self._ended and self._error is None:
            self._error = exc
            self._content.clear()
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # The reader's side

    async def read(self) -> bytes:
        """Wait for what is left and return it. Raises what `fail()` was given."""
        self._whole = True
        try:
            while not self._ended:
                await self._more()
        finally:
            self._whole = False  # a reader that gave up takes no more
        return self._take()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """What has arrived since the last call, never b"". Raises what `fail()` was given."""
        while not self._content:
            if self._ended:
                raise StopAsyncIteration
            await self._more()
        had_been_full = self.is_full
        chunk = self._take()
        if had_been_full and self._source is not None and not self._ended:
            self._source.body_wanted()
        return chunk

    async def _more(self) -> None:
        if self._source is not None and self._error is None:
            self._source.body_wanted()  # which may fail it
        if self._error is not None:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _take(self) -> bytes:
        content = bytes(self._content)
        self._content.clear()
        return content


EMPTY: Final = Body(b"")
"""The body of every request that has none. It is complete, so nothing can change it."""


# What text() and json() make of a body, for requests and responses


def decode_text(content: bytes) -> str:
    """Fetch, "UTF-8 decode": a byte order mark is dropped, what is no UTF-8 becomes U+FFFD."""
    return content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")


def decode_json(content: bytes) -> Any:
    """Parse JSON; raises `json.JSONDecodeError`. What comes out is the peer's, hence `Any`."""
    return _decode(decode_text(content))


def encode_json(data: Any) -> bytes:
    """Make JSON; raises `TypeError` or `ValueError` for what it cannot say, such as a set or NaN."""
    return encode_json_text(_encode(data))


def encode_json_text(text: str) -> bytes:
    """The bytes of JSON. A lone surrogate becomes an escape, as with `JSON.stringify`."""
    # RFC 8259, 8.2: "the ABNF in this specification allows member names and string values to contain bit sequences that
    # cannot encode Unicode characters; for example, "\uDEAD"". So a peer may send one, and whoever keeps what was read
    # must be able to write it again. Nothing else has no UTF-8, and Python's escape is that of JSON.
    return text.encode("utf-8", "backslashreplace")


def _refuse_constant(name: str) -> NoReturn:
    # RFC 8259, 6: "Numeric values that cannot be represented in the grammar below (such as Infinity and NaN) are not
    # permitted."
    raise json.JSONDecodeError(f"{name} is not permitted", name, 0)


def _decode_float(text: str) -> float:
    # RFC 8259, 6: "This specification allows implementations to set limits on the range and precision of numbers
    # accepted." 1e999 would be an infinity, which could never be written again. 0.2 µs for each float.
    number = float(text)
    if isinf(number):
        raise json.JSONDecodeError("the number is too large", text, 0)
    return number


# One for all: `json.loads` and `json.dumps` make one for each call that has options, which takes 0.5 µs.
_decode: Final = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_decode_float).decode
_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
