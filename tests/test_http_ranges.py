"""Ranges: parts of a representation (RFC 9110, 14)."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage

import pytest
from hypothesis import example, given, strategies as st

from bunws.http.ranges import MAX_RANGES, ByteRange, ByteRanges, parse_range


def parse(text: str, size: int = 10_000) -> list[tuple[int, int]] | None:
    found = parse_range([text], size)
    return None if found is None else [(part.start, part.stop) for part in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes=0-499", [(0, 500)]),  # these four: RFC 9110, 14.1.2
        ("bytes=500-999", [(500, 1000)]),
        ("bytes=-500", [(9500, 10000)]),
        ("bytes=9500-", [(9500, 10000)]),
        ("bytes=0-0,-1", [(0, 1), (9999, 10000)]),
        ("bytes= 0-999, 4500-5499, -1000", [(0, 1000), (4500, 5500), (9000, 10000)]),
        ("bytes=500-700,601-999", [(500, 1000)]),
        ("BYTES=0-0", [(0, 1)]),
        ("bytes=0-99999", [(0, 10000)]),
        ("bytes=-99999", [(0, 10000)]),
        ("bytes=000000000000000000000000005-0000000000000000000000000000000006", [(5, 7)]),
        (f"bytes=0-{'9' * 8000}", [(0, 10000)]),
        (f"bytes=-{'9' * 8000}", [(0, 10000)]),
        ("bytes=,\t0-0 ,,", [(0, 1)]),
    ],
)
def test_range_is_read(text: str, expected: list[tuple[int, int]]) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text", ["bytes=10000-", "bytes=10000-10001", "bytes=-0", "bytes=-0,20000-", f"bytes={'9' * 8000}-"]
)
def test_range_behind_the_end_cannot_be_satisfied(text: str) -> None:
    assert parse(text) == []


@pytest.mark.parametrize(
    "text",
    [
        *("", "bytes", "bytes=", "bytes=,", "bytes=-", "bytes=--1", "bytes=1", "bytes=a-b", "bytes=1-2-3", "bytes=5-4"),
        *("bytes =0-1", "bytes=0 -1", "bytes=+0-1", "bytes=0x0-1", "bytes=0-1;", "bytes=\u0661-", "bytes=0-0,x"),
        *("lines=0-1", "0-1", "=0-1", "bytes=0-1\x00", "bytes=1_0-2_0"),
    ],
)
def test_range_that_is_none_is_ignored(text: str) -> None:
    assert parse(text) is None


def test_range_that_comes_twice_is_ignored() -> None:
    assert parse_range(["bytes=0-1", "bytes=0-1"], 10) is None
    assert parse_range([], 10) is None


@pytest.mark.parametrize(("text", "expected"), [("bytes=0-", []), ("bytes=-1", None), ("bytes=-0", [])])
def test_nothing_of_an_empty_file_is_all_of_it_or_cannot_be_satisfied(
    text: str, expected: list[tuple[int, int]] | None
) -> None:
    assert parse(text, 0) == expected


def test_number_of_ranges_is_bounded() -> None:
    def ranges(count: int) -> str:
        return "bytes=" + ",".join(f"{1000 * at}-{1000 * at}" for at in range(count))

    assert len(parse(ranges(MAX_RANGES), 10**6) or ()) == MAX_RANGES
    assert parse(ranges(MAX_RANGES + 1), 10**6) is None
    assert parse("bytes=0-0" + "," * 10_000) is None


def test_ranges_are_sent_in_the_order_of_the_request() -> None:
    assert parse("bytes=5000-5001,1000-1001,9000-") == [(5000, 5002), (1000, 1002), (9000, 10000)]


def test_ranges_that_are_close_are_sent_as_one_where_the_first_was_asked_for() -> None:
    assert parse("bytes=5000-5001,1000-1001,5003-5003,4990-4991") == [(4990, 5004), (1000, 1002)]


SPECS = st.one_of(
    st.tuples(st.integers(0, 3000), st.integers(0, 3000)).map(lambda pair: f"{min(pair)}-{max(pair)}"),
    st.integers(0, 3000).map("{}-".format),
    st.integers(0, 3000).map("-{}".format),
)


def positions(spec: str, size: int) -> set[int]:
    """A plain model of RFC 9110, 14.1.2."""
    first, _, last = spec.partition("-")
    if not first:
        return set(range(size)[-int(last) :]) if int(last) else set()
    return {at for at in range(int(first), int(last) + 1 if last else size) if at < size}


@given(st.lists(SPECS, min_size=1, max_size=MAX_RANGES), st.integers(1, 2000))
@example(["0-0", "2-2"], 3)
def test_what_is_sent_is_what_was_asked_for_and_small_gaps(specs: list[str], size: int) -> None:
    asked = set().union(*(positions(spec, size) for spec in specs))
    parts = parse_range([f"bytes={','.join(specs)}"], size)
    assert parts is not None
    sent = [at for part in parts for at in range(*part)]
    assert len(sent) == len(set(sent))  # no byte twice
    assert asked <= set(sent) <= set(range(size))
    assert bool(sent) == bool(asked)
    for part in parts:
        assert part.start in asked
        assert part.stop - 1 in asked
        gap = 0
        for at in range(*part):
            gap = 0 if at in asked else gap + 1
            assert gap <= 160
    places = [min(at for at, spec in enumerate(specs) if positions(spec, size) & set(range(*part))) for part in parts]
    assert places == sorted(places)


@given(st.text(alphabet="bytes=0123456789-, \t", max_size=60) | st.text(max_size=20), st.integers(0, 10**6))
def test_no_text_makes_more_of_a_file_than_it_is(text: str, size: int) -> None:
    parts = parse_range([text], size) or []
    assert len(parts) <= MAX_RANGES
    assert all(0 <= part.start < part.stop <= size for part in parts)
    assert sum(part.stop - part.start for part in parts) <= size


# Several parts


class Bytes:
    """A part that is in memory."""

    def __init__(self, content: bytes) -> None:
        self.size = len(content)
        self.closed = 0
        self._chunks = [content[at : at + 7] for at in range(0, len(content), 7)]

    async def __anext__(self) -> bytes:
        if not self._chunks:
            raise StopAsyncIteration
        return self._chunks.pop(0)

    def close(self) -> None:
        self.closed += 1


CONTENT = bytes(range(65, 91)) * 4


def make(*ranges: tuple[int, int]) -> tuple[ByteRanges, list[Bytes]]:
    parts = [Bytes(CONTENT[start:stop]) for start, stop in ranges]
    pairs = [(ByteRange(*span), part) for span, part in zip(ranges, parts, strict=True)]
    return ByteRanges(pairs, len(CONTENT), "text/plain"), parts


async def test_parts_are_a_multipart_message_of_the_size_that_was_told() -> None:
    stream, _ = make((90, 104), (0, 1), (10, 60))
    body = b"".join([chunk async for chunk in stream])
    assert len(body) == stream.size
    message = email.message_from_bytes(
        f"Content-Type: {stream.content_type}\r\n\r\n".encode() + body,
        _class=EmailMessage,
        policy=email.policy.HTTP,
    )
    assert message.get_content_type() == "multipart/byteranges"
    assert message.defects == []
    found = [
        (part["Content-Range"], part["Content-Type"], part.get_payload(decode=True)) for part in message.iter_parts()
    ]
    assert found == [
        ("bytes 90-103/104", "text/plain", CONTENT[90:104]),
        ("bytes 0-0/104", "text/plain", CONTENT[:1]),
        ("bytes 10-59/104", "text/plain", CONTENT[10:60]),
    ]


async def test_parts_are_sent_once_and_closed_with_the_stream() -> None:
    stream, parts = make((0, 1), (10, 60))
    await anext(aiter(stream))
    with pytest.raises(ValueError, match="sent once"):
        aiter(stream)
    stream.close()
    assert [part.closed for part in parts] == [1, 1]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


def test_stream_that_was_closed_cannot_be_sent() -> None:
    stream, _ = make((0, 1), (10, 60))
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        aiter(stream)


def test_boundary_cannot_be_guessed() -> None:
    assert make((0, 1), (2, 3))[0].content_type != make((0, 1), (2, 3))[0].content_type
