"""
Stream: a body that is made while it is sent.

Rule 1: it is asked for one chunk at a time, by one reader.
Rule 2: what makes it is closed once, however the sending ends: what was given, and what iterates over it where that is
something else.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence, Set
from typing import Final, TypeAlias, TypeGuard


__all__ = ["Chunk", "Stream", "StreamInit", "is_stream"]


Chunk: TypeAlias = str | bytes | bytearray | memoryview
"""What a stream may be made of; str is sent as UTF-8."""

StreamInit: TypeAlias = Iterable[Chunk] | AsyncIterable[Chunk]
"""What makes a stream. See `Stream` for what else it may have."""

# These hold all that they have: `b"".join(...)`, or JSON, is what somebody meant who gave one of them as a body.
_CONTAINERS: Final = (Mapping, Sequence, Set)


def is_stream(body: object) -> TypeGuard[StreamInit]:
    """Whether a response can be made of `body` chunk by chunk."""
    return isinstance(body, AsyncIterable | Iterable) and not isinstance(body, _CONTAINERS)


class Stream:
    """
    An iterable that becomes a body.

    Three attributes of the iterable mean something, where it has them. `size: int` is how many bytes it will yield.
    `heartbeat: tuple[float, bytes] | None` are seconds of silence, and what is sent between two chunks when it was
    silent for so long. `aclose()`, or else `close()`, is called once in the end.
    """

    __slots__ = ("_iterator", "_source", "heartbeat", "is_live", "size")

    def __init__(self, source: StreamInit) -> None:
        self._source: StreamInit | None = source
        self._iterator: AsyncIterator[Chunk] | Iterator[Chunk] | None = None
        size = getattr(source, "size", None)
        self.size: int | None = size if isinstance(size, int) else None
        self.heartbeat: tuple[float, bytes] | None = getattr(source, "heartbeat", None)
        #: Whether it is made while it is sent, and may have no end.
        self.is_live: bool = getattr(source, "is_live", True)

    def __repr__(self) -> str:
        return f"<Stream {'closed' if self._source is None else 'open'} size={self.size}>"

    async def next(self) -> bytes | None:
        """The next chunk, which may be b""; None behind the last. Raises what the iterable raises."""
        assert self._source is not None, "it is closed"
        if self._iterator is None:
            source = self._source
            self._iterator = aiter(source) if isinstance(source, AsyncIterable) else iter(source)
        if isinstance(self._iterator, AsyncIterator):
            try:
                return _to_bytes(await anext(self._iterator))
            except StopAsyncIteration:
                return None
        for chunk in self._iterator:
            return _to_bytes(chunk)
        return None

    async def read(self) -> bytes:
        """All that is left, and close it."""
        content = bytearray()
        try:
            while (chunk := await self.next()) is not None:
                content += chunk
        finally:
            await self.close()
        return bytes(content)

    async def close(self) -> None:
        """Close what makes it; a second call does nothing. Raises what that raises."""
        iterator, self._iterator = self._iterator, None
        source, self._source = self._source, None
        try:
            await _close(iterator)
        finally:
            if source is not iterator:
                await _close(source)


async def _close(resource: object) -> None:
    close = getattr(resource, "aclose", None) or getattr(resource, "close", None)
    if close is not None:
        closing = close()
        if inspect.isawaitable(closing):
            await closing


def _to_bytes(chunk: Chunk) -> bytes:
    if isinstance(chunk, bytes):
        return chunk
    if isinstance(chunk, str):
        return chunk.encode()
    if isinstance(chunk, bytearray | memoryview):
        return bytes(chunk)
    raise TypeError(f"a stream must yield str, bytes, bytearray or memoryview, not {type(chunk).__name__}")
