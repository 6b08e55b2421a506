"""Events: what is written, read back by a client that does what WHATWG HTML, 9.2.6 says; and how a stream ends."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple, cast

import httpx
import pytest
from hypothesis import given, strategies as st

import bunws
from bunws.http.events import Event, EventStream
from bunws.http.request import Request
from bunws.http.stream import Stream, StreamInit
from tests.clients import EACH_LOOP, serving
from tests.support import until


LOOP_FACTORIES = EACH_LOOP


class Dispatched(NamedTuple):
    """What a page gets."""

    type: str
    data: str
    last_event_id: str


class Page:
    """9.2.6, "Interpreting an event stream", step by step and with nothing else in mind."""

    def __init__(self) -> None:
        self.events: list[Dispatched] = []
        self.comments: list[str] = []
        self.reconnection_time: int | None = None  # milliseconds
        self.last_event_id = ""
        self._data = ""
        self._type = ""
        self._id = ""

    def read(self, stream: bytes) -> Page:
        """The whole stream; an event that has no empty line behind it is discarded, as it says."""
        # "UTF-8 decode" strips one leading BOM, if any.
        text = stream.removeprefix(b"\xef\xbb\xbf").decode()
        *lines, _ = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for line in lines:
            if not line:
                self._dispatch()
            elif line[0] == ":":
                self.comments.append(line[1:].removeprefix(" "))
            else:
                name, _, value = line.partition(":")
                self._process(name, value.removeprefix(" "))
        return self

    def _process(self, name: str, value: str) -> None:
        if name == "event":
            self._type = value
        elif name == "data":
            self._data += value + "\n"
        elif name == "id":
            if "\0" not in value:
                self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.reconnection_time = int(value)

    def _dispatch(self) -> None:
        self.last_event_id = self._id
        data, self._data = self._data, ""
        kind, self._type = self._type, ""
        if data:
            self.events.append(Dispatched(kind or "message", data.removesuffix("\n"), self.last_event_id))


def opened(response: EventStream) -> Stream:
    """What the connection has of it."""
    return Stream(cast("StreamInit", response.body))


def read(*events: Event) -> Page:
    return Page().read(b"".join(event.encode() for event in events))


# What may be in an event: any character, since JSON strings and chat lines hold any; not half a surrogate pair.
texts = st.text(st.characters(exclude_categories=["Cs"]))
lines = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"))
ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="".join(map(chr, (*range(32), 127))))).filter(
    lambda text: text == text.strip(" ")
)


def as_lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


@given(
    st.lists(
        st.builds(
            Event,
            texts,
            st.none() | lines,
            st.none() | ids,
            st.none() | st.floats(0, 1e6),
            st.none() | texts,
        )
    )
)
def test_a_page_gets_every_event_as_it_was_written(events: list[Event]) -> None:
    page = read(*events)

    last_id = ""
    expected = []
    for event in events:
        last_id = last_id if event.id is None else event.id
        assert event.data is not None
        expected.append(Dispatched(event.event or "message", as_lines(event.data), last_id))
    assert page.events == expected
    assert page.comments == [
        line for event in events if event.comment is not None for line in as_lines(event.comment).split("\n")
    ]


@given(st.lists(texts), st.data())
def test_a_heartbeat_between_two_events_changes_nothing(data: list[str], draw: st.DataObject) -> None:
    heartbeat = opened(EventStream([])).heartbeat
    assert heartbeat is not None
    _, beat = heartbeat
    pieces = [Event(text).encode() for text in data]
    beaten = [beat * draw.draw(st.integers(0, 2)) + piece for piece in pieces] + [beat]

    assert Page().read(b"".join(beaten)).events == Page().read(b"".join(pieces)).events


@pytest.mark.parametrize(
    ("event", "wire"),
    [
        (Event("hello"), b"data: hello\n\n"),
        (Event(""), b"data: \n\n"),
        (Event("a\nb\r\nc\rd"), b"data: a\ndata: b\ndata: c\ndata: d\n\n"),
        (Event("\n"), b"data: \ndata: \n\n"),
        (Event(" two leading"), b"data:  two leading\n\n"),
        (Event("a\u2028b\x85c\x0bd"), "data: a\u2028b\x85c\x0bd\n\n".encode()),
        (Event("\ufeffbom"), b"data: \xef\xbb\xbfbom\n\n"),
        (Event("x", "join", "7", 2.5), b"event: join\nid: 7\nretry: 2500\ndata: x\n\n"),
        (Event("x", event=""), b"data: x\n\n"),
        (Event("x", id=""), b"id: \ndata: x\n\n"),
        (Event(None, retry=10), b"retry: 10000\n\n"),
        (Event(None, retry=0), b"retry: 0\n\n"),
        (Event(None, retry=0.0001), b"retry: 1\n\n"),
        (Event(None, id="9"), b"id: 9\n\n"),
        (Event(None, comment="hi\nyou"), b": hi\n: you\n\n"),
        (Event.json({"a": "ö", "b": [1, None]}, "state"), 'event: state\ndata: {"a":"ö","b":[1,null]}\n\n'.encode()),
    ],
)
def test_an_event_on_the_wire(event: Event, wire: bytes) -> None:
    assert event.encode() == wire


def test_an_event_of_json_can_be_parsed_by_the_page() -> None:
    value = {"text": "two\nlines", "n": 1}
    assert json.loads(read(Event.json(value)).events[0].data) == value


def test_an_event_of_json_may_hold_a_lone_surrogate() -> None:
    assert Event.json("\ud800").encode() == b'data: "\\ud800"\n\n'


def test_retry_is_in_seconds_here_and_in_milliseconds_there() -> None:
    assert read(Event(None, retry=1.5)).reconnection_time == 1500


def test_an_event_cannot_be_changed_once_it_is_encoded() -> None:
    event = Event("x")
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.data = "y"  # type: ignore[misc]  # it is what is tried here
    assert event == Event("x") != Event("y")
    assert repr(event) == "Event(data='x', event=None, id=None, retry=None, comment=None)"


@pytest.mark.parametrize("name", ["event", "id"])
@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\r\nb", "\n", "x\ndata: forged"])
def test_a_line_break_in_an_event_type_or_an_id_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name):
        Event("x", **{name: value})  # type: ignore[arg-type]  # mypy takes every value for every field


@pytest.mark.parametrize("value", ["a\0b", "\0", "a\tb", "\x7f", " a", "a "])
def test_an_id_that_would_not_come_back_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="id must"):
        Event("x", id=value)


@pytest.mark.parametrize("retry", [-1, math.inf, math.nan])
def test_a_retry_that_is_no_time_is_refused(retry: float) -> None:
    with pytest.raises(ValueError, match="retry"):
        Event("x", retry=retry)


@pytest.mark.parametrize(
    "arguments",
    [{"data": b"x"}, {"data": 1}, {"data": "x", "id": 7}, {"data": "x", "event": b"e"}, {"data": "x", "retry": "5"}],
)
def test_what_is_no_text_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(TypeError, match="must be"):
        Event(**arguments)  # type: ignore[arg-type]  # it is what is tried here


def test_an_event_that_says_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs data"):
        Event(None)
    with pytest.raises(ValueError, match="not dispatched"):
        Event(None, event="join")


def test_half_a_surrogate_pair_is_refused_when_the_event_is_made() -> None:
    with pytest.raises(UnicodeEncodeError):
        Event("\ud800")


# The stream


async def chunks(response: EventStream) -> list[bytes]:
    stream = opened(response)
    found = []
    while (chunk := await stream.next()) is not None:
        found.append(chunk)
    await stream.close()
    return found


def test_the_head_of_a_stream_says_what_it_is_and_keeps_caches_and_proxies_out() -> None:
    stream = EventStream([])
    assert stream.status == 200
    assert dict(stream.headers) == {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
    }


def test_the_head_of_a_stream_can_say_something_else() -> None:
    stream = EventStream([], headers={"cache-control": "no-cache", "Access-Control-Allow-Origin": "*"}, status=201)
    assert stream.status == 201
    assert stream.headers.getall("Cache-Control") == ["no-cache"]
    assert stream.headers["Access-Control-Allow-Origin"] == "*"
    assert stream.headers["Content-Type"] == "text/event-stream"


async def test_each_event_is_one_chunk_and_text_is_an_event() -> None:
    async def source() -> AsyncIterator[Event | str]:
        yield "one"
        yield Event("two", id="2")

    assert await chunks(EventStream(source())) == [b"data: one\n\n", b"id: 2\ndata: two\n\n"]


async def test_a_plain_iterable_can_feed_a_stream() -> None:
    assert await chunks(EventStream(iter(("one", Event("two"))))) == [b"data: one\n\n", b"data: two\n\n"]


async def test_bytes_are_text_in_utf_8_and_what_is_none_does_not_end_the_stream() -> None:
    sent = await chunks(EventStream(["ü".encode(), b"a\xffb"]))
    assert sent == ["data: ü\n\n".encode(), "data: a\ufffdb\n\n".encode()]


@pytest.mark.parametrize("item", [bytearray(b"x"), {"data": "x"}, 7, None])
async def test_a_stream_takes_events_and_text_only(item: object) -> None:
    with pytest.raises(TypeError, match="takes Event, str and bytes"):
        await chunks(EventStream([item]))  # type: ignore[list-item]  # it is what is tried here


@pytest.mark.parametrize("source", ["text", b"bytes", {"data": "x"}, 7, None, Event("x")])
def test_a_source_that_is_no_iterable_of_events_is_refused(source: object) -> None:
    with pytest.raises(TypeError, match="source must be"):
        EventStream(source)  # type: ignore[arg-type]  # it is what is tried here


@pytest.mark.parametrize("heartbeat", [0, None])
def test_a_stream_without_a_heartbeat_asks_for_none(heartbeat: float | None) -> None:
    assert opened(EventStream([], heartbeat=heartbeat)).heartbeat is None


@pytest.mark.parametrize(("heartbeat", "error"), [(-1, ValueError), (math.inf, ValueError), ("15", TypeError)])
def test_a_heartbeat_that_is_no_time_is_refused(heartbeat: float, error: type[Exception]) -> None:
    with pytest.raises(error, match="heartbeat"):
        EventStream([], heartbeat=heartbeat)


class Closeable:
    """A source that has something of its own to close, beside what iterates over it."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    async def __aiter__(self) -> AsyncIterator[str]:
        try:
            yield "one"
            yield "two"
        finally:
            self.closed.append("iterator")

    def close(self) -> None:
        self.closed.append("source")


async def test_closing_a_stream_closes_its_source_and_what_iterates_over_it() -> None:
    source = Closeable()
    stream = opened(EventStream(source))
    assert await stream.next() == b"data: one\n\n"
    await stream.close()
    assert source.closed == ["iterator", "source"]


async def test_closing_a_stream_that_was_not_begun_closes_its_source() -> None:
    source = Closeable()
    await opened(EventStream(source)).close()
    assert source.closed == ["source"]


async def test_closing_a_stream_closes_a_plain_generator() -> None:
    closed = []

    def source() -> Iterator[str]:
        try:
            yield "one"
        finally:
            closed.append(True)

    stream = opened(EventStream(source()))
    await stream.next()
    await stream.close()
    assert closed == [True]


# The way back


@given(ids)
def test_the_last_event_id_comes_back_as_it_was_sent(value: str) -> None:
    sent = read(Event("x", id=value)).last_event_id
    # 9.2.3: the id is "encoded as UTF-8", and bunws reads a field as Latin-1.
    field = sent.encode().decode("latin-1")
    if any("\x80" <= character <= "\x9f" for character in field):
        # A client sends them all the same; in the process they may not be written.
        return
    request = Request("http://localhost/", headers={"Last-Event-ID": field})
    assert EventStream.last_event_id(request) == (value or None)


def test_a_client_that_saw_no_event_has_no_last_id() -> None:
    assert EventStream.last_event_id(Request("http://localhost/")) is None


def test_a_last_event_id_that_is_no_utf8_is_repaired() -> None:
    request = Request("http://localhost/", headers={"Last-Event-ID": "a\xff"})
    assert EventStream.last_event_id(request) == "a\ufffd"


# Over a socket


async def test_a_stream_is_open_before_its_first_event_and_resumes_where_it_was_cut() -> None:
    gate = asyncio.Event()
    closed: list[str] = []

    async def source(since: int) -> AsyncIterator[Event]:
        try:
            await gate.wait()
            yield Event(f"tick {since + 1}", id=f"№{since + 1}")
            await asyncio.Event().wait()
        finally:
            closed.append(f"since {since}")

    def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response:
        last = EventStream.last_event_id(request)
        return EventStream(source(int(last[1:]) if last else 0))

    async with serving(fetch=fetch) as server, httpx.AsyncClient() as client:
        headers: dict[bytes, bytes] = {}
        for number in (1, 2):
            gate.clear()
            async with client.stream("GET", str(server.url), headers=headers) as response:
                assert response.headers["Content-Type"] == "text/event-stream"
                gate.set()  # the head was there before the first event
                page = Page().read(await anext(response.aiter_raw()))
            assert page.events == [Dispatched("message", f"tick {number}", f"№{number}")]
            headers = {b"Last-Event-ID": page.last_event_id.encode()}
            await until(lambda: len(closed) == number)  # noqa: B023  # it is awaited here
    assert closed == ["since 0", "since 1"]


async def test_a_silent_stream_says_a_comment_now_and_then_and_outlives_the_idle_timeout() -> None:
    async def source() -> AsyncIterator[str]:
        yield "first"
        await asyncio.Event().wait()

    def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response:
        return EventStream(source(), heartbeat=0.05)

    # The idle timeout is over long before the fourth heartbeat: each is at least one tick after the last.
    async with (
        serving(fetch=fetch, idle_timeout=0.1) as server,
        httpx.AsyncClient() as client,
        client.stream("GET", str(server.url)) as response,
    ):
        received = b""
        async for piece in response.aiter_raw():
            received += piece
            if received.count(b":\n\n") == 4:
                break
    assert received == b"data: first\n\n" + b":\n\n" * 4


async def test_a_stream_that_ends_ends_its_response_and_the_connection_stays() -> None:
    def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response:
        return EventStream(iter(["one", "two"]))

    async with serving(fetch=fetch) as server, httpx.AsyncClient() as client:
        for _ in range(2):
            response = await client.get(str(server.url))
            assert [event.data for event in Page().read(response.content).events] == ["one", "two"]
        assert server.pending_requests == 0
