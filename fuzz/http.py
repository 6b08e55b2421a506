"""
What an HTTP client sends: requests, and the fields and bodies that are read out of them.

Rule: a target returns, or it has found something.
"""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import unquote

from multidict import CIMultiDict, CIMultiDictProxy

from bunws.exceptions import HTTPError
from bunws.http.coding import ContentCoder, parse_compression, weights
from bunws.http.conditional import answer_file, check_if_range, check_preconditions, format_date, parse_date
from bunws.http.cookies import delete_cookie_header, parse_cookies, set_cookie_header
from bunws.http.files import File
from bunws.http.form import FormData, FormLimits, UploadFile, read_form
from bunws.http.headers import is_token
from bunws.http.ranges import MAX_RANGES, parse_range
from bunws.http.request import Request
from bunws.http.response import Response
from bunws.http.routes import Router, RouteTable
from bunws.http.wire import EndOfRequest, Event, RequestHead, RequestParser

from .stage import plain_stage, splits


__all__ = [
    "Answer",
    "codings",
    "conditional",
    "conversation",
    "cookies",
    "forms",
    "ranges",
    "read_answers",
    "requests",
    "routes",
]

_T = TypeVar("_T")

#: What a request that breaks RFC 9110 or 9112, or a limit, may be answered with. 500 is not among them.
REFUSALS: Final = {400, 408, 413, 414, 417, 431, 501, 505}


# Whole requests


def requests(data: bytes) -> None:
    """Bytes on a connection: the same facts however they are split, each of them sound."""
    found = [_parse(chunks) for chunks in splits(data)]
    assert all(facts == found[0] for facts in found[1:]), found
    for fact in found[0]:
        if isinstance(fact, RequestHead):
            _check_head(fact)
        elif isinstance(fact, HTTPError):
            assert fact.status in REFUSALS, fact
            assert fact is found[0][-1], "something came behind a mistake"


class _Refusal(HTTPError):
    """Refusals that are told alike are alike."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Refusal) and (self.status, self.phrase) == (other.status, other.phrase)

    __hash__ = None  # type: ignore[assignment]  # nobody looks it up


def _parse(chunks: list[bytes]) -> list[Event]:
    parser = RequestParser(max_body_size=5_000, max_head_size=2_000, max_headers=20)
    facts: list[Event] = []
    for chunk in chunks:
        events = parser.feed(chunk)
        while events:
            for event in events:
                _add(facts, event)
            if not isinstance(events[-1], EndOfRequest):
                break
            events = parser.resume()
    return facts


def _add(facts: list[Event], event: Event) -> None:
    """Pieces of a body that came by themselves are one; before a mistake it is open how many of them are told."""
    if isinstance(event, HTTPError):
        event = _Refusal(event.status, event.phrase)
        if facts and isinstance(facts[-1], bytes):
            facts.pop()
    if isinstance(event, bytes) and facts and isinstance(last := facts[-1], bytes):
        facts[-1] = last + event
    else:
        facts.append(event)


def _check_head(head: RequestHead) -> None:
    assert is_token(head.method)
    assert head.target.isascii()
    assert head.target.isprintable()
    assert " " not in head.target
    assert head.target[0] == "/" or (head.target == "*" and head.method == "OPTIONS")
    assert head.http_version in ("1.0", "1.1")
    assert head.body_length is None or 0 <= head.body_length <= 5_000
    for name, value in head.headers.items():
        assert is_token(name)
        assert value == value.strip(" \t")
        assert not any(character in value for character in "\r\n\0")
    # RFC 9112, 6.1: both together are "an attempt to perform request smuggling or response splitting".
    assert "Content-Length" not in head.headers or "Transfer-Encoding" not in head.headers
    request = Request.from_head(head, scheme="http")
    assert request.url.absolute
    assert request.url.host is not None
    assert all(request.cookies)
    dict(request.url.query)


def conversation(data: bytes) -> None:
    """The same against a whole server: answers that are complete, none of them 500, and nothing behind the last."""
    answers = [_statuses(plain_stage().converse(chunks).sent) for chunks in splits(data)]
    assert all(statuses == answers[0] for statuses in answers[1:]), answers
    assert set(answers[0]) <= {*REFUSALS, 101, 200, 403, 405, 426}, answers[0]


def _statuses(sent: bytes) -> list[int]:
    answers, rest = read_answers(sent)
    assert not rest or (answers and answers[-1].status == 101), rest[:100]
    return [answer.status for answer in answers]


class Answer(NamedTuple):
    """One answer of the server."""

    status: int
    fields: CIMultiDict[str]
    body: bytes


def read_answers(sent: bytes) -> tuple[list[Answer], bytes]:
    """
    The whole answers in what a server sent, and what is behind them: an answer that has not ended, or a WebSocket's.

    Raises AssertionError for what is no answer. 100 is left out: it is said or not, as the body is late or there.
    """
    answers: list[Answer] = []
    while not answers or answers[-1].status != 101:
        head, blank, rest = sent.partition(b"\r\n\r\n")
        if not blank:
            break
        line, *lines = head.decode("latin-1").split("\r\n")
        fields = CIMultiDict((name, value.strip()) for name, _, value in (each.partition(":") for each in lines))
        version, text, _ = line.split(" ", 2)
        assert version == "HTTP/1.1", line
        status = int(text)
        if status == 100:
            assert not lines
            sent = rest
            continue
        to_head = fields.get("X-Seen", "").startswith("HEAD ") or (status >= 400 and not rest)
        size = 0 if status in (101, 204) or to_head else int(fields["Content-Length"])
        if len(rest) < size:
            break
        assert status == 101 or "Date" in fields
        answers.append(Answer(status, fields, rest[:size]))
        sent = rest[size:]
        if fields.get("Connection") == "close":
            assert not sent, "something came behind the last answer"
    return answers, sent


# Cookies


def cookies(data: bytes) -> None:
    """Values of Cookie never raise; what set_cookie takes comes back as it was."""
    lines = data.decode("latin-1").split("\n")
    for name, value in parse_cookies(lines).items():
        assert name
        assert name == name.strip(" \t")
        assert isinstance(value, str)
    name, _, value = data.decode("utf-8", "surrogateescape").partition("=")
    value, _, path = value.partition("\n")
    try:
        line = set_cookie_header(name, value, path=path or "/", secure=not name.startswith("a"))
    except ValueError:
        return
    assert line.isascii()
    assert line.isprintable()
    pair = line.partition(";")[0]
    assert parse_cookies([pair]) == {name: value}
    assert parse_cookies([f"before=1; {pair}; after=2"])[name] in (value, "1")
    delete_cookie_header(name, path=path or "/")


# Forms

_LIMITS: Final = FormLimits(
    max_fields=8, max_files=4, max_field_size=200, max_fields_size=1_000, max_file_size=500, max_header_size=300
)


def forms(data: bytes) -> None:
    """A Content-Type, a newline, a body: a form within its limits, or a status; however the body is split."""
    content_type, _, body = data.partition(b"\n")
    found = [_form(content_type.decode("latin-1"), chunks) for chunks in splits(body)]
    assert all(form == found[0] for form in found[1:]), found


def _form(content_type: str, chunks: list[bytes]) -> object:
    async def body() -> AsyncIterator[bytes]:
        for chunk in chunks:
            if chunk:
                yield chunk

    try:
        form = _run(read_form(content_type, body(), _LIMITS))
    except HTTPError as error:
        form, status = FormData(), error.status
    else:
        status = 200
    assert status in (200, 400, 413, 415), status
    if status != 200:
        return "refused"  # of two mistakes the one that is seen first may be either
    facts = [(name, _entry(value)) for name, value in form.items()]
    _check_limits(form)
    _run(form.close())
    assert all(value._spool.closed for value in form.values() if isinstance(value, UploadFile))
    return facts


def _entry(value: str | UploadFile) -> object:
    if isinstance(value, str):
        return value
    name = value.safe_name
    assert name
    assert "/" not in name
    assert "\\" not in name
    assert name[0] != "."
    assert len(name.encode()) <= 255
    assert not any(ord(character) < 32 for character in name)
    return value.filename, value.content_type, sorted(value.headers.items()), _run(value.read())


def _check_limits(form: FormData) -> None:
    texts = [value for value in form.values() if isinstance(value, str)]
    files = [value for value in form.values() if isinstance(value, UploadFile)]
    assert len(texts) <= _LIMITS.max_fields
    assert len(files) <= _LIMITS.max_files
    # Bytes that are no UTF-8 become U+FFFD each, which has three.
    assert all(len(text) <= _LIMITS.max_field_size for text in texts)
    assert all(file.size <= 500 for file in files)


def _run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run what has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: _T = stop.value
        return value
    coroutine.close()
    raise AssertionError("it waits for something")


# Ranges and preconditions


def ranges(data: bytes) -> None:
    """Values of Range, and the size of what they are ranges of in the first two bytes."""
    size = int.from_bytes(data[:2], "big")
    found = parse_range(data[2:].decode("latin-1").split("\n"), size)
    if not found:
        return
    assert len(found) <= MAX_RANGES
    covered = 0
    last = -1
    for part in sorted(found):
        assert last < part.start <= part.stop <= size, "they overlap, or are empty, or reach too far"
        assert part.start < part.stop or size == 0
        last = part.stop
        covered += part.stop - part.start
    assert covered <= size


@cache
def _path() -> Path:
    directory = tempfile.TemporaryDirectory(prefix="bunws-fuzz-")
    path = Path(directory.name) / "file.txt"
    path.write_bytes(bytes(range(256)) * 4)
    _directories.append(directory)
    return path


_directories: Final[list[tempfile.TemporaryDirectory[str]]] = []


def conditional(data: bytes) -> None:
    """Header lines with preconditions, and a file: a status of RFC 9110, 13.2.2, and an answer that adds up."""
    fields = CIMultiDict[str]()
    for line in data.decode("latin-1").split("\n"):
        name, colon, value = line.partition(":")
        if colon and is_token(name) and not any(character in value for character in "\r\0"):
            fields.add(name, value.strip(" \t"))
    headers = CIMultiDictProxy(fields)
    for etag in ('"a"', 'W/"a"'):
        for method in ("GET", "PUT"):
            assert check_preconditions(method, headers, etag, 1_700_000_000) in (200, 304, 412)
        check_if_range(headers, etag, 1_700_000_000)
    for value in fields.values():
        moment = parse_date(value)
        if moment is not None and moment >= 0:
            assert parse_date(format_date(moment)) == moment
    request = Request("http://localhost/file.txt")
    request.headers = headers
    response = answer_file(request, Response(File(_path())))
    assert response.status in (200, 206, 304, 412, 416)
    body = plain_stage().loop.run_until_complete(_read(response))  # the disk may have to be waited for
    if response.status == 200:
        assert len(body) == 1024
    elif response.status == 206 and "Content-Range" in response.headers:
        first, last = response.headers["Content-Range"].removeprefix("bytes ").partition("/")[0].split("-")
        assert body == (bytes(range(256)) * 4)[int(first) : int(last) + 1]
    elif response.status != 206:
        assert not body


async def _read(response: Response) -> bytes:
    body = response.body
    if body is None or isinstance(body, bytes):
        return body or b""
    return b"".join([chunk async for chunk in body])  # type: ignore[union-attr, misc]  # it is a File or its ranges


# Routes

_PATTERNS: Final = (
    *("/", "/a", "/a/", "/a/b", "/a/:x", "/a/:x/b", "/a/:x/:y", "/:x/b", "/a/*", "/a/:x/c/*", "/é", "/%25/:x", "/d/*"),
)


@cache
def _table() -> RouteTable[str]:
    return RouteTable("routes", {pattern: pattern for pattern in _PATTERNS})


def routes(data: bytes) -> None:
    """A path: the route that a plain search finds in the path of the URL. A pattern: a table, or an error."""
    text = data.decode("utf-8", "replace")
    try:
        RouteTable("routes", {text: 1, "/a/:x": 2})
        Router({text: lambda request: None})
    except (TypeError, ValueError):
        pass
    target = data.decode("latin-1")
    events = RequestParser(max_body_size=0).feed(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode("latin-1"))
    if not events or not isinstance(head := events[0], RequestHead):
        return
    found = _table().match(head.target)
    url = Request.from_head(head, scheme="http").url
    segments = [unquote(segment) for segment in url.raw_path[1:].split("/")]
    expected = _search(list(_PATTERNS), segments)
    assert (found[0] if found else None) == expected, (head.target, url, found, expected)
    if found:
        assert all(found[1].values()) or found[1].get("*") == ""


def _search(patterns: list[str], segments: list[str], at: int = 0) -> str | None:
    """Segment by segment: an exact one before a parameter before the wildcard, and back where that leads nowhere."""
    if at == len(segments):
        whole = [pattern for pattern in patterns if len(pattern[1:].split("/")) == at]
        return whole[0] if whole and not whole[0].endswith("*") else None
    segment = segments[at]

    def behind(fits: Callable[[str], bool]) -> list[str]:
        split = [(pattern, pattern[1:].split("/")) for pattern in patterns]
        return [pattern for pattern, parts in split if len(parts) > at and fits(parts[at])]

    exact = behind(lambda part: part[:1] not in (":", "*") and unquote(part) == segment)
    found = _search(exact, segments, at + 1) if exact else None
    if found is None and segment and (parameters := behind(lambda part: part[:1] == ":")):
        found = _search(parameters, segments, at + 1)
    if found is None and (wildcards := behind(lambda part: part == "*")):
        found = wildcards[0]
    return found


# Codings

_TEXT: Final = b"something to compress, " * 100


@cache
def _coder() -> ContentCoder:
    options = parse_compression({"codings": ["gzip"]})
    assert options is not None
    return ContentCoder(options)


def codings(data: bytes) -> None:
    """Values of Accept-Encoding: weights, and an answer that its client can read."""
    lines = data.decode("latin-1").split("\n")
    asked = weights(lines)
    assert all(0.0 <= weight <= 1.0 for weight in asked.values())
    assert all(is_token(name) for name in asked)
    headers = CIMultiDict[str]([("Accept-Encoding", line) for line in lines])
    response = _coder().encode(headers, "GET", Response(_TEXT, headers={"Content-Type": "text/plain"}))
    body = response.body
    assert isinstance(body, bytes)
    coding = response.headers.get("Content-Encoding")
    if coding is None:
        assert body == _TEXT
        weight, plain = (asked.get(name, asked.get("*", 0.0)) for name in ("gzip", "identity"))
        assert not weight or weight < plain, "it asked for gzip, and may have it"
    else:
        assert coding == "gzip"
        assert asked.get("gzip", asked.get("*", 0.0)) > 0.0
        assert gzip.decompress(body) == _TEXT
