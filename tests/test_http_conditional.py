"""Conditional: what of a file a request is answered with: all of it, parts, or nothing (RFC 9110, 13)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from bunws.http.conditional import answer_file, check_if_range, check_preconditions, format_date, parse_date
from bunws.http.files import File
from bunws.http.ranges import ByteRanges
from bunws.http.request import Request
from bunws.http.response import Response


MODIFIED = 1_500_000_000
SAME = "Fri, 14 Jul 2017 02:40:00 GMT"
BEFORE = "Fri, 14 Jul 2017 02:39:59 GMT"
AFTER = "Fri, 14 Jul 2017 02:40:01 GMT"
CONTENT = bytes(range(256)) * 4


def fields(text: str) -> CIMultiDictProxy[str]:
    """Fields as `Name: value | Name: value`."""
    lines = [line.partition(": ") for line in text.split(" | ") if line]
    return CIMultiDictProxy(CIMultiDict([(name, value) for name, _, value in lines]))


# Preconditions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 200),
        # 13.1.1: If-Match, by strong comparison
        ('If-Match: "a"', 200),
        ('If-Match: "b", "a"', 200),
        ('If-Match: "b" | If-Match: "a"', 200),
        ("If-Match: *", 200),
        ('If-Match: "b"', 412),
        ('If-Match: W/"a"', 412),
        ("If-Match: a", 412),
        ("If-Match: ", 412),
        ('If-Match: *, "b"', 412),
        # 13.1.4: If-Unmodified-Since
        (f"If-Unmodified-Since: {SAME}", 200),
        (f"If-Unmodified-Since: {AFTER}", 200),
        (f"If-Unmodified-Since: {BEFORE}", 412),
        ("If-Unmodified-Since: yesterday", 200),
        (f"If-Unmodified-Since: {BEFORE} | If-Unmodified-Since: {BEFORE}", 200),
        # 13.1.2: If-None-Match, by weak comparison
        ('If-None-Match: "a"', 304),
        ('If-None-Match: W/"a"', 304),
        ('If-None-Match: "b",,\t"a" ', 304),
        ('If-None-Match: "b" | If-None-Match: "a"', 304),
        ("If-None-Match: *", 304),
        (" If-None-Match:  * ".strip(), 304),
        ('If-None-Match: "b"', 200),
        ('If-None-Match: "A"', 200),
        ('If-None-Match: w/"a"', 200),
        ("If-None-Match: a", 200),
        ('If-None-Match: "b" "a"', 200),
        ('If-None-Match: "b, "a"', 200),
        # 13.1.3: If-Modified-Since
        (f"If-Modified-Since: {SAME}", 304),
        (f"If-Modified-Since: {AFTER}", 304),
        (f"If-Modified-Since: {BEFORE}", 200),
        ("If-Modified-Since: 0", 200),
        (f"If-Modified-Since: {SAME} | If-Modified-Since: {SAME}", 200),
        # 13.2.2: which comes first, and which are not looked at
        (f'If-Match: "a" | If-Unmodified-Since: {BEFORE}', 200),
        ('If-Match: "b" | If-None-Match: "a"', 412),
        ('If-Match: "a" | If-None-Match: "a"', 304),
        (f'If-Unmodified-Since: {BEFORE} | If-None-Match: "a"', 412),
        (f'If-None-Match: "b" | If-Modified-Since: {SAME}', 200),
        (f'If-None-Match: "a" | If-Modified-Since: {BEFORE}', 304),
        (f"If-Unmodified-Since: {SAME} | If-Modified-Since: {SAME}", 304),
    ],
)
def test_preconditions_are_evaluated_in_the_order_of_the_rfc(text: str, expected: int) -> None:
    assert check_preconditions("GET", fields(text), '"a"', MODIFIED) == expected
    assert check_preconditions("HEAD", fields(text), '"a"', MODIFIED) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('If-None-Match: "a"', 412),
        ("If-None-Match: *", 412),
        (f"If-Modified-Since: {SAME}", 200),
        ('If-Match: "b"', 412),
    ],
)
def test_other_methods_are_never_answered_with_304(text: str, expected: int) -> None:
    assert check_preconditions("PUT", fields(text), '"a"', MODIFIED) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [('If-Match: W/"a"', 412), ('If-Match: "a"', 412), ("If-Match: *", 200), ('If-None-Match: "a"', 304)],
)
def test_weak_tag_is_compared_as_such(text: str, expected: int) -> None:
    assert check_preconditions("GET", fields(text), 'W/"a"', MODIFIED) == expected


def test_dates_are_ignored_where_no_modification_date_is_known() -> None:
    text = f"If-Unmodified-Since: {BEFORE} | If-Modified-Since: {AFTER}"
    assert check_preconditions("GET", fields(text), '"a"', None) == 200


def test_tag_may_hold_a_comma_and_latin_1() -> None:
    assert check_preconditions("GET", fields('If-None-Match: "x", "a,\xe9"'), '"a,\xe9"', None) == 304
    assert check_preconditions("GET", fields('If-None-Match: "a,b"'), '"a"', None) == 200


@given(st.text(alphabet='W/"a, *\x80b', max_size=40))
def test_no_value_of_a_tag_list_is_an_error(text: str) -> None:
    headers = CIMultiDictProxy(CIMultiDict({"If-None-Match": text}))
    assert check_preconditions("GET", headers, '"a"', None) in (200, 304)


@given(
    st.lists(st.sampled_from(['"a"', 'W/"a"', '"b"', '""', '"a,"', 'W/"W/"']), min_size=1),
    st.sampled_from([",", " , ", ",,"]),
)
def test_tag_is_found_in_every_list(tags: list[str], comma: str) -> None:
    headers = CIMultiDictProxy(CIMultiDict({"If-None-Match": comma.join(tags), "If-Match": comma.join(tags)}))
    none_match = 304 if '"a"' in tags or 'W/"a"' in tags else 200
    assert check_preconditions("GET", headers, '"a"', None) == (none_match if '"a"' in tags else 412)


@pytest.mark.parametrize(
    ("text", "etag", "expected"),
    [
        ("", '"a"', True),
        ('If-Range: "a"', '"a"', True),
        ('If-Range: "b"', '"a"', False),
        ('If-Range: W/"a"', '"a"', False),
        ('If-Range: W/"a"', 'W/"a"', False),
        ('If-Range: "b", "a"', '"a"', False),
        ('If-Range: "a" | If-Range: "a"', '"a"', False),
        (f"If-Range: {SAME}", '"a"', True),
        (f"If-Range: {SAME}", 'W/"a"', False),
        (f"If-Range: {AFTER}", '"a"', False),
        (f"If-Range: {BEFORE}", '"a"', False),
        ("If-Range: a", '"a"', False),
        ("If-Range: *", '"a"', False),
    ],
)
def test_if_range_holds_for_exactly_what_the_client_has(text: str, etag: str, expected: bool) -> None:
    assert check_if_range(fields(text), etag, MODIFIED) is expected


def test_if_range_with_a_date_fails_where_none_is_known() -> None:
    assert check_if_range(fields(f"If-Range: {SAME}"), '"a"', None) is False


# Dates


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",  # these three: RFC 9110, 5.6.7
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    ],
)
def test_three_formats_of_a_date_are_read(text: str) -> None:
    assert parse_date(text) == 784_111_777


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "0",
            "yesterday",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 6 Nov 1994 08:49:37 GMT",
        ),
        *(
            "sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT;",
            "784111777",
        ),
        *("Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Nov 1994 08:49:61 GMT"),
        *(
            "Sun, 06 Nov 0000 08:49:37 GMT",
            "Sun, \u0660\u0666 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 +0000",
        ),
    ],
)
def test_what_is_no_date_is_none(text: str) -> None:
    assert parse_date(text) is None


def test_leap_second_is_the_second_before() -> None:
    assert parse_date("Sat, 31 Dec 2016 23:59:60 GMT") == parse_date("Sat, 31 Dec 2016 23:59:59 GMT")


def test_year_of_two_digits_is_at_most_50_years_ahead() -> None:
    this_year = time.gmtime().tm_year
    for ahead, year in [(50, this_year + 50), (51, this_year - 49), (0, this_year), (-49, this_year - 49)]:
        text = f"Sunday, 06-Nov-{(this_year + ahead) % 100:02} 08:49:37 GMT"
        assert parse_date(text) == parse_date(f"Sun, 06 Nov {year} 08:49:37 GMT"), text


@given(st.integers(0, 253_402_300_799))
def test_date_that_was_written_is_read_again(seconds: int) -> None:
    assert parse_date(format_date(seconds)) == seconds


@given(st.text(alphabet="SunNov, :-0123456789GMT", max_size=40))
def test_no_text_of_a_date_is_an_error(text: str) -> None:
    assert parse_date(text) is None or isinstance(parse_date(text), int)


# Answers


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "a.bin"
    path.write_bytes(CONTENT)
    later = time.time_ns() + 3600 * 10**9  # so that tags are strong
    monkeypatch.setattr(time, "time_ns", lambda: later)
    return path


def request(text: str = "", method: str = "GET") -> Request:
    return Request("http://localhost/a", method=method, headers=fields(text))


async def test_file_is_answered_with_its_validators(path: Path) -> None:
    response = Response.file(path)
    before = list(response.headers.items())
    answer = answer_file(request(), response)
    file = File(path)
    assert file.last_modified is not None
    assert (answer.status, dict(answer.headers)) == (
        200,
        {
            "Content-Type": "application/octet-stream",
            "ETag": file.etag,
            "Last-Modified": format_date(file.last_modified),
            "Accept-Ranges": "bytes",
        },
    )
    assert await answer.bytes() == CONTENT
    assert list(response.headers.items()) == before
    file.close()


async def test_range_is_answered_with_206(path: Path) -> None:
    file = File(path)
    answer = answer_file(request("Range: bytes=10-19"), Response(file, headers={"X-A": "b"}))
    assert file.closed  # the answer has it
    assert (answer.status, answer.headers["Content-Range"], answer.headers["X-A"]) == (206, "bytes 10-19/1024", "b")
    assert answer.headers["ETag"].startswith('"')
    assert await answer.bytes() == CONTENT[10:20]


async def test_ranges_are_answered_with_multipart(path: Path) -> None:
    response = Response(File(path, content_type="a/b"))
    answer = answer_file(request("Range: bytes=0-9, 500-509"), response)
    assert (answer.status, "Content-Range" in answer.headers) == (206, False)
    assert answer.headers["Content-Type"].startswith("multipart/byteranges; boundary=")
    assert isinstance(answer.body, ByteRanges)
    size = answer.body.size
    body = await answer.bytes()
    assert len(body) == size
    assert b"Content-Type: a/b\r\nContent-Range: bytes 500-509/1024\r\n\r\n" + CONTENT[500:510] + b"\r\n--" in body


async def test_ranges_that_become_one_are_no_multipart(path: Path) -> None:
    answer = answer_file(request("Range: bytes=0-9, 5-19"), Response.file(path))
    assert (answer.status, answer.headers["Content-Range"]) == (206, "bytes 0-19/1024")
    assert await answer.bytes() == CONTENT[:20]


def test_range_behind_the_end_is_answered_with_416_and_the_length(path: Path) -> None:
    file = File(path)
    headers = {"Cache-Control": "max-age=60", "X-A": "b", "Content-Disposition": "inline"}
    answer = answer_file(request("Range: bytes=1024-"), Response(file, headers=headers))
    assert (answer.status, answer.body, dict(answer.headers)) == (
        416,
        None,
        {"X-A": "b", "Content-Range": "bytes */1024"},
    )
    assert file.closed


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("Range: bytes=x", 200),
        ("Range: lines=1-2", 200),
        ('If-Range: "x" | Range: bytes=0-1', 200),
        ("If-Range: x", 200),
    ],
)
async def test_range_that_does_not_apply_is_answered_with_the_whole(path: Path, text: str, status: int) -> None:
    answer = answer_file(request(text), Response.file(path))
    assert (answer.status, await answer.bytes()) == (status, CONTENT)


async def test_range_of_what_the_client_has_is_answered(path: Path) -> None:
    file = File(path)
    assert file.last_modified is not None
    for value in (file.etag, format_date(file.last_modified)):
        answer = answer_file(request(f"If-Range: {value} | Range: bytes=0-1"), Response.file(path))
        assert (answer.status, await answer.bytes()) == (206, CONTENT[:2])
    file.close()


def test_head_has_no_ranges(path: Path) -> None:
    file = File(path)
    answer = answer_file(request("Range: bytes=0-1", "HEAD"), Response(file))
    assert (answer.status, answer.body) == (200, file)
    file.close()


def test_304_has_what_a_cache_needs_and_closes_the_file(path: Path) -> None:
    file = File(path)
    headers = {"Cache-Control": "no-cache", "Vary": "A", "Content-Encoding": "br", "X-A": "b", "Content-Type": "a/b"}
    answer = answer_file(request(f"If-None-Match: {file.etag} | Range: bytes=0-1"), Response(file, headers=headers))
    assert (answer.status, answer.body) == (304, None)
    assert dict(answer.headers) == {"Cache-Control": "no-cache", "Vary": "A", "X-A": "b", "ETag": file.etag}
    assert file.closed


def test_412_says_nothing_of_the_file_and_closes_it(path: Path) -> None:
    file = File(path)
    answer = answer_file(request('If-Match: "b"'), Response(file, headers={"Cache-Control": "max-age=9"}))
    assert (answer.status, answer.body, dict(answer.headers)) == (412, None, {})
    assert file.closed


def test_validators_of_the_caller_decide(path: Path) -> None:
    headers = {"etag": '"mine"', "last-modified": SAME}
    for text in ('If-None-Match: "mine"', f"If-Modified-Since: {SAME}"):
        answer = answer_file(request(text), Response(File(path), headers=headers))
        assert (answer.status, answer.headers["ETag"]) == (304, '"mine"')


async def test_caller_may_refuse_ranges(path: Path) -> None:
    answer = answer_file(request("Range: bytes=0-1"), Response(File(path), headers={"Accept-Ranges": "none"}))
    assert (answer.status, answer.headers["Accept-Ranges"], len(await answer.bytes())) == (200, "none", 1024)


@pytest.mark.parametrize("size", [0, 1])
async def test_empty_file_has_no_ranges(tmp_path: Path, size: int) -> None:
    (tmp_path / "a").write_bytes(bytes(size))
    answer = answer_file(request("Range: bytes=0-"), Response.file(tmp_path / "a"))
    assert (answer.status, answer.headers["Content-Range"]) == ((206, "bytes 0-0/1") if size else (416, "bytes */0"))
    assert await answer.bytes() == bytes(size)


def test_file_that_keeps_no_date_is_answered_without_one(path: Path) -> None:
    file = File(path)
    file.last_modified = None
    answer = answer_file(request(f"If-Modified-Since: {AFTER}"), Response(file))
    assert (answer.status, "Last-Modified" in answer.headers) == (200, False)
    file.close()


@pytest.mark.parametrize(("method", "status"), [("GET", 404), ("GET", 206), ("POST", 200), ("GET", 201)])
def test_other_answers_with_a_file_are_sent_as_they_are(path: Path, method: str, status: int) -> None:
    file = File(path)
    response = Response(file, status)
    assert answer_file(request("If-None-Match: * | Range: bytes=0-1", method), response) is response
    file.close()


def test_response_without_a_file_is_sent_as_it_is() -> None:
    response = Response("hello", headers={"ETag": '"a"'})
    assert answer_file(request('If-None-Match: "a"'), response) is response


async def test_reason_of_the_caller_is_kept(path: Path) -> None:
    answer = answer_file(request(), Response(File(path), status_text="Fine"))
    assert answer.status_text == "Fine"
    await answer.bytes()
