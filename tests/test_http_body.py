"""Body: what the connection feeds is what one reader reads."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given, strategies as st

from bunws.http.body import EMPTY, HIGH_WATER, Body, ClientDisconnected, decode_json, decode_text, encode_json


async def waiting(body: Body) -> asyncio.Task[bytes]:
    """A task that has begun to read and found nothing."""
    begun = asyncio.Event()

    async def read() -> bytes:
        begun.set()
        return await body.read()

    task = asyncio.create_task(read())
    await begun.wait()
    assert not task.done()
    return task


async def test_body_that_arrived_before_is_read_at_once() -> None:
    body = Body()
    body.feed(b"ab")
    body.feed(b"c")
    body.end()
    assert await body.read() == b"abc"


async def test_reader_waits_until_the_body_is_complete() -> None:
    body = Body()
    task = await waiting(body)
    body.feed(b"a")
    body.feed(b"b")
    assert not task.done()
    body.end()
    assert await task == b"ab"


async def test_reader_hears_that_the_client_left() -> None:
    body = Body()
    task = await waiting(body)
    body.feed(b"a")
    body.fail(ClientDisconnected("the client left"))
    with pytest.raises(ClientDisconnected, match="the client left"):
        await task
    assert issubclass(ClientDisconnected, ConnectionError)


async def test_reader_that_comes_late_hears_that_the_client_left() -> None:
    body = Body()
    body.feed(b"a")
    body.fail(ClientDisconnected("the client left"))
    assert body.buffered == 0
    with pytest.raises(ClientDisconnected):
        await body.read()


async def test_complete_body_outlives_its_client() -> None:
    body = Body()
    body.feed(b"a")
    body.end()
    body.fail(ClientDisconnected("the client left"))
    assert await body.read() == b"a"


async def test_cancelled_reader_does_not_disturb_the_connection() -> None:
    body = Body()
    task = await waiting(body)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    body.feed(b"a")
    body.end()
    assert await body.read() == b"a"


async def test_body_of_a_request_without_one_is_complete_and_stays_so() -> None:
    EMPTY.fail(ClientDisconnected("the client left"))
    assert await EMPTY.read() == b""


def test_body_says_how_it_is() -> None:
    body = Body()
    body.feed(b"abc")
    assert repr(body) == "<Body arriving buffered=3>"
    body.end()
    assert repr(body) == "<Body complete buffered=3>"
    failed = Body()
    failed.fail(ClientDisconnected())
    assert repr(failed) == "<Body failed buffered=0>"


# Piece by piece


class Source:
    """Counts how often it was asked."""

    def __init__(self) -> None:
        self.wanted = 0

    def body_wanted(self) -> None:
        self.wanted += 1


async def test_body_is_read_piece_by_piece_as_it_arrives() -> None:
    body = Body()
    chunks = []

    async def read() -> None:
        async for chunk in body:
            chunks.append(chunk)  # noqa: PERF401  # the test looks at it in between

    task = asyncio.create_task(read())
    for piece in (b"a", b"bc"):
        await asyncio.sleep(0)
        body.feed(piece)
        await asyncio.sleep(0)
    assert chunks == [b"a", b"bc"]
    body.end()
    await task
    assert chunks == [b"a", b"bc"]


async def test_rest_of_a_body_can_be_read_as_one() -> None:
    body = Body()
    body.feed(b"a")
    assert await anext(body) == b"a"
    body.feed(b"b")
    body.feed(b"c")
    body.end()
    assert await body.read() == b"bc"


async def test_who_reads_piece_by_piece_hears_that_the_client_left() -> None:
    body = Body()
    body.feed(b"a")
    body.fail(ClientDisconnected("the client left"))
    with pytest.raises(ClientDisconnected):
        await anext(body)


async def test_failed_body_takes_nothing_and_keeps_its_first_failure() -> None:
    body = Body()
    body.fail(ValueError("first"))
    body.fail(ValueError("second"))
    body.feed(b"a")
    assert body.buffered == 0
    with pytest.raises(ValueError, match="first"):
        await body.read()


async def test_body_is_full_until_somebody_takes_something_or_wants_all_of_it() -> None:
    body = Body(source=(source := Source()))
    body.feed(b"x" * (HIGH_WATER - 1))
    assert not body.is_full
    body.feed(b"x")
    assert body.is_full
    assert len(await anext(body)) == HIGH_WATER
    assert (body.is_full, source.wanted) == (False, 1)
    body.feed(b"x" * HIGH_WATER)
    assert body.is_full
    task = await waiting(body)
    await asyncio.sleep(0)
    assert (body.is_full, source.wanted) == (False, 2)
    body.end()
    assert len(await task) == HIGH_WATER


async def test_source_is_asked_only_for_what_has_not_arrived() -> None:
    body = Body(source=(source := Source()))
    body.feed(b"a")
    await anext(body)
    assert source.wanted == 0
    body.feed(b"b")
    body.end()
    assert await body.read() == b"b"
    assert source.wanted == 0


@given(st.lists(st.binary(max_size=20)))
def test_pieces_are_read_as_one(pieces: list[bytes]) -> None:
    body = Body()
    for piece in pieces:
        body.feed(piece)
    body.end()
    assert asyncio.run(body.read()) == b"".join(pieces)


@pytest.mark.parametrize(
    ("content", "text"), [(b"caf\xc3\xa9", "café"), (b"\xef\xbb\xbfa", "a"), (b"a\xff", "a\ufffd"), (b"", "")]
)
def test_text_is_utf_8_as_fetch_decodes_it(content: bytes, text: str) -> None:
    assert decode_text(content) == text


def test_json_may_begin_with_a_byte_order_mark() -> None:
    assert decode_json(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-Infinity", '{"a": [NaN]}', "1e999", "-1e999", "[1" + "0" * 400 + ".0]"]
)
def test_what_is_no_number_of_json_is_none_when_it_is_read(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        decode_json(text.encode())


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
)
_texts_of_utf_16 = st.text(st.sampled_from('a"\\\ud800\udbff\udc00\udfff'))


@given(_values | _texts_of_utf_16 | st.dictionaries(_texts_of_utf_16, _texts_of_utf_16))
def test_json_that_was_read_can_be_written_and_read_again(value: object) -> None:
    # What a peer sends, who may escape everything.
    read = decode_json(json.dumps(value).encode())
    assert decode_json(encode_json(read)) == read


def test_a_lone_surrogate_in_json_is_an_escape_and_a_letter_is_none() -> None:
    assert encode_json({"\ud800": "é\udead"}) == '{"\\ud800":"é\\udead"}'.encode()
