"""Stream: an iterable that becomes a body."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import given, strategies as st

from bunws.http.body import Body
from bunws.http.response import Response
from bunws.http.stream import Chunk, Stream, is_stream


class Source:
    """Notes how often it was closed."""

    def __init__(self, *chunks: Chunk) -> None:
        self.chunks = deque(chunks)
        self.closed = 0

    def __aiter__(self) -> Source:
        return self

    async def __anext__(self) -> Chunk:
        if not self.chunks:
            raise StopAsyncIteration
        return self.chunks.popleft()

    async def aclose(self) -> None:
        self.closed += 1


class SyncSource:
    """Yields by another object, and both are to be closed."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    def __iter__(self) -> Iterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            self.closed.append("iterator")

    def close(self) -> None:
        self.closed.append("source")


async def read(stream: Stream) -> list[bytes]:
    chunks = []
    while (chunk := await stream.next()) is not None:
        chunks.append(chunk)
    return chunks


CHUNKS: list[Chunk] = ["é", b"b", bytearray(b"c"), memoryview(b"def")[1:], "", b""]
ENCODED = [b"\xc3\xa9", b"b", b"c", b"ef", b"", b""]


async def test_chunks_of_any_kind_become_bytes() -> None:
    assert await read(Stream(Source(*CHUNKS))) == ENCODED
    assert await read(Stream(iter(CHUNKS))) == ENCODED


@given(st.lists(st.text() | st.binary()))
def test_a_stream_holds_what_its_iterable_yields(chunks: list[str | bytes]) -> None:
    whole = b"".join(chunk.encode() if isinstance(chunk, str) else chunk for chunk in chunks)
    assert asyncio.run(Stream(iter(chunks)).read()) == whole


async def test_a_chunk_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="not int"):
        await Stream(iter([5])).next()  # type: ignore[arg-type]  # the mistake is what is tested


async def test_it_asks_for_one_chunk_at_a_time() -> None:
    source = Source("a", "b", "c")
    stream = Stream(source)
    assert await stream.next() == b"a"
    assert len(source.chunks) == 2


async def test_what_iterates_and_what_was_given_are_both_closed_once() -> None:
    source = SyncSource()
    stream = Stream(source)
    assert await stream.next() == b"a"
    await stream.close()
    await stream.close()
    assert source.closed == ["iterator", "source"]
    assert repr(stream) == "<Stream closed size=None>"


async def test_a_source_that_iterates_itself_is_closed_once() -> None:
    source = Source("a")
    stream = Stream(source)
    await read(stream)
    await stream.close()
    assert source.closed == 1


async def test_a_stream_that_was_never_read_is_closed_all_the_same() -> None:
    source = Source("a")
    await Stream(source).close()
    assert source.closed == 1
    generator = (str(number) for number in range(3))
    await Stream(generator).close()
    assert list(generator) == []


async def test_the_source_is_closed_though_its_iterator_raises_when_it_is() -> None:
    closed = []

    class Bad:
        async def __aiter__(self) -> AsyncIterator[str]:
            try:
                yield "a"
            finally:
                raise ValueError("no")

        def close(self) -> None:
            closed.append(self)

    stream = Stream(Bad())
    await stream.next()
    with pytest.raises(ValueError, match="no"):
        await stream.close()
    assert len(closed) == 1


async def test_reading_all_closes_it_whatever_happens() -> None:
    source = Source("a", 5)  # type: ignore[arg-type]  # the mistake is what is tested
    with pytest.raises(TypeError):
        await Stream(source).read()
    assert source.closed == 1


def test_size_and_heartbeat_are_those_of_the_iterable() -> None:
    class Told(Source):
        size = 5
        heartbeat = (1.0, b":\n")

    assert (Stream(Told()).size, Stream(Told()).heartbeat) == (5, (1.0, b":\n"))
    assert (Stream(Source()).size, Stream(Source()).heartbeat) == (None, None)
    assert repr(Stream(Told())) == "<Stream open size=5>"


@pytest.mark.parametrize("body", [{}, [], (), set(), frozenset(), range(3), "a", b"a", bytearray(), 5, None, object()])
def test_what_holds_all_it_has_is_no_stream(body: object) -> None:
    assert not is_stream(body)


@pytest.mark.parametrize("body", [iter([]), Source(), SyncSource(), (x for x in "ab"), map(str, []), Body()])
def test_what_can_only_be_iterated_is_a_stream(body: object) -> None:
    assert is_stream(body)


# As the body of a response, in the process


async def test_a_response_reads_its_stream_once() -> None:
    source = Source("a", "b")
    response = Response(source)
    assert repr(response) == "<Response 200 stream>"
    assert (response.body, response.body_used) == (source, False)
    assert await response.text() == "ab"
    assert (response.body_used, source.closed) == (True, 1)
    with pytest.raises(RuntimeError, match="already"):
        await response.bytes()


async def test_a_future_is_no_stream_though_it_can_be_iterated() -> None:
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    with pytest.raises(TypeError, match="await it first"):
        Response(future)


def test_a_stream_has_no_content_type_of_its_own() -> None:
    assert dict(Response(iter("ab")).headers) == {}
