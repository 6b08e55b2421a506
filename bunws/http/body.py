"""
Body: the content of one request while it arrives.

Rule 1: the connection feeds it and ends it (or fails it) once; one reader reads it once, `Request` sees to that.
Rule 2: no limit here. The parser has refused what is longer than `max_body_size` before it gets here.
Rule 3: a future is made only when somebody waits for content that has not arrived.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final


__all__ = ["Body", "ClientDisconnected", "EMPTY", "decode_text", "decode_json"]


class ClientDisconnected(ConnectionError):
    """The client went away before it had sent the whole body of its request."""


class Body:
    """Bytes that arrive in pieces and are read as one."""

    __slots__ = ("_content", "_ended", "_error", "_waiter")

    def __init__(self, content: bytes | None = None) -> None:
        """An open body; with `content`, one that is complete."""
        # One object, however small the pieces are in which a peer sends it.
        self._content = bytearray(content or b"")
        self._ended = content is not None
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        state = "failed" if self._error else "complete" if self._ended else "arriving"
        return f"<Body {state} size={self.size}>"

    @property
    def size(self) -> int:
        """Bytes that have arrived and were not read yet."""
        return len(self._content)

    # The connection's side

    def feed(self, data: bytes) -> None:
        """Add a piece."""
        self._content += data

    def end(self) -> None:
        """The body is complete."""
        self._ended = True
        self._wake()

    def fail(self, exc: BaseException) -> None:
        """The rest will never come: `read()` raises `exc`. A body that is complete stays so."""
        if not self._ended:
            self._error = exc
            self._content.clear()
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # The reader's side

    async def read(self) -> bytes:
        """Wait for the whole body and return it. Raises what `fail()` was given."""
        while not self._ended:
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return bytes(self._content)


EMPTY: Final = Body(b"")
"""The body of every request that has none. It is complete, so nothing can change it."""


# What text() and json() make of a body, for requests and responses


def decode_text(content: bytes) -> str:
    """Fetch, "UTF-8 decode": a byte order mark is dropped, what is no UTF-8 becomes U+FFFD."""
    return content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")


def decode_json(content: bytes) -> Any:
    """Parse JSON; raises `json.JSONDecodeError`. What comes out is the peer's, hence `Any`."""
    return json.loads(decode_text(content))
