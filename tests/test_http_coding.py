"""Content codings: what a client accepts, which responses are compressed, and what becomes of them."""

from __future__ import annotations

import asyncio
import importlib
import re
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

import bunws
from bunws.http.coding import CODINGS, Coding, CodingOptions, ContentCoder, parse_compression, weights
from bunws.http.response import BodyInit, Response
from bunws.http.stream import Stream
from tests.clients import serving


TEXT = "All work and no play makes Jack a dull boy. " * 100


class FakeCompressor:
    """Says what it was asked for, letter by letter, and is the same everywhere."""

    threads: list[str]  # of those that compressed or finished

    def __init__(self, level: int) -> None:
        self.held = f"{level}<".encode()
        FakeCompressor.threads = []

    def compress(self, data: bytes, /) -> bytes:
        FakeCompressor.threads.append(threading.current_thread().name)
        self.held += bytes(data[:3])
        return b""

    def flush(self) -> bytes:
        held, self.held = self.held + b"|", b""
        return held

    def finish(self) -> bytes:
        FakeCompressor.threads.append(threading.current_thread().name)
        return self.held + b">"


def fake(name: str, filler: bytes | None = b"~") -> Coding:
    return Coding(name, FakeCompressor, level=1, levels=range(1, 10), filler=filler)


FAKES = (fake("zstd", filler=None), fake("br"), fake("gzip"))


def coder_of(*codings: Coding, streams: bool = False, threshold: int = 10, types: Iterable[str] = ()) -> ContentCoder:
    names = frozenset(types) or frozenset({"text/*", "+json", "application/json"})
    return ContentCoder(CodingOptions(threshold, names, tuple((coding, coding.level) for coding in codings), streams))


FAKE = coder_of(*FAKES, streams=True)


def coder(compression: object = True) -> ContentCoder:
    options = parse_compression(compression)
    assert options is not None
    return ContentCoder(options)


def encode(
    response: Response, accept: str | None = "gzip, br, zstd", *, by: ContentCoder = FAKE, method: str = "GET"
) -> Response:
    headers = CIMultiDict({} if accept is None else {"Accept-Encoding": accept})
    return by.encode(headers, method, response)


def coding_of(response: Response) -> str | None:
    return response.headers.get("Content-Encoding")


# What a client accepts


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], {}),
        ([""], {}),
        ([" , ,"], {}),
        (["gzip"], {"gzip": 1.0}),
        (["GZip;Q=0.5"], {"gzip": 0.5}),
        (["x-gzip"], {"gzip": 1.0}),
        (["gzip, deflate, br, zstd"], {"gzip": 1.0, "deflate": 1.0, "br": 1.0, "zstd": 1.0}),
        (["gzip", "br;q=0.3"], {"gzip": 1.0, "br": 0.3}),
        # RFC 9110, 12.5.3, its examples
        (["compress;q=0.5, gzip;q=1.0"], {"compress": 0.5, "gzip": 1.0}),
        (["gzip;q=1.0, identity; q=0.5, *;q=0"], {"gzip": 1.0, "identity": 0.5, "*": 0.0}),
        # 12.4.2: at most three digits, and at most 1
        (["a;q=0, b;q=0., c;q=0.0, d;q=0.123"], {"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.123}),
        (["a;q=1, b;q=1., c;q=1.000"], {"a": 1.0, "b": 1.0, "c": 1.0}),
        (["a\t ;\t q=0.7"], {"a": 0.7}),
        (["a;q=1.001, b;q=2, c;q=0.1234, d;q=.5, e;q=-1, f;q=1e0, g;q=, h;q, i;, j;x=1"], {}),
        (["a;q=0.5;q=1, b ;q= 0.5, c; q =0.5, d e, f;q=nan, g;q=inf, h;q=\u0661"], {}),
        (['"gzip", gz/ip, gzip;q="1"'], {}),
        # one that comes twice is wanted no more than its smaller weight
        (["gzip;q=0.9, gzip;q=0.2"], {"gzip": 0.2}),
        (["gzip;q=0, gzip"], {"gzip": 0.0}),
        (["x-gzip, gzip;q=0"], {"gzip": 0.0}),
    ],
)
def test_weights_are_read_to_the_letter(lines: list[str], expected: dict[str, float]) -> None:
    assert weights(lines) == expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        # RFC 9110, 12.5.3: without the field "any content coding is considered acceptable", which asks for none
        (None, None),
        # "An Accept-Encoding header field with a field value that is empty implies that the user agent does not want
        # any content coding in response."
        ("", None),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate, br", "br"),
        ("gzip, deflate", "gzip"),
        ("deflate, compress", None),
        ("br;q=0.9, gzip", "gzip"),
        ("br;q=0.9, gzip;q=0.9, zstd;q=0.8", "br"),
        ("zstd;q=0, gzip;q=0.1", "gzip"),
        ("gzip;q=0", None),
        ("*", "zstd"),
        ("*;q=0", None),
        ("gzip, *;q=0", "gzip"),
        ("zstd;q=0, *", "br"),
        ("zstd;q=0.5, *;q=0.8", "br"),
        ("identity", None),
        ("identity, gzip", "gzip"),
        ("identity, gzip;q=0.5", None),
        ("identity;q=0.5, gzip;q=0.5", "gzip"),
        ("identity;q=0.2, gzip;q=0.3", "gzip"),
        ("gzip;q=0.5, *;q=0.6, br;q=0, zstd;q=0", None),  # "*" is identity's weight too
        ("identity;q=0", None),
        ("identity;q=0, br;q=0.001", "br"),
        ("x-gzip", "gzip"),
        ("GZIP", "gzip"),
    ],
)
def test_the_acceptable_coding_with_the_highest_weight_is_used(accept: str | None, expected: str | None) -> None:
    made = encode(Response(TEXT), accept)
    assert coding_of(made) == expected
    assert made.headers["Vary"] == "Accept-Encoding"


def test_all_lines_of_accept_encoding_count() -> None:
    headers = CIMultiDict([("Accept-Encoding", "gzip"), ("accept-encoding", "br")])
    assert coding_of(FAKE.encode(headers, "GET", Response(TEXT))) == "br"


def test_at_equal_weights_the_servers_order_counts() -> None:
    assert coding_of(encode(Response(TEXT), "zstd, br, gzip", by=coder_of(*reversed(FAKES)))) == "gzip"


NAMES = st.sampled_from(["gzip", "br", "zstd", "identity", "*", "deflate"])
WEIGHTS = st.sampled_from(["", ";q=0", ";q=0.2", ";q=0.5", "; q=1.0"])


@settings(max_examples=300)
@given(st.lists(st.tuples(NAMES, WEIGHTS), max_size=6, unique_by=lambda element: element[0]), st.permutations(FAKES))
def test_the_choice_is_the_one_that_the_rfc_describes(elements: list[tuple[str, str]], codings: list[Coding]) -> None:
    named = {name: float(weight.partition("=")[2] or 1) for name, weight in elements}

    def acceptable(name: str) -> float | None:
        return named.get(name, named.get("*"))

    # Each that is listed and not refused; a response without a coding may also not be mentioned, as the last resort.
    ranked = [(weight, c.name) for c in codings if (weight := acceptable(c.name))]
    ranked.append((acceptable("identity") or 0.0, ""))
    best = max(weight for weight, _ in ranked)
    expected = next(name for weight, name in ranked if weight == best)
    made = encode(Response(TEXT), ",".join(name + weight for name, weight in elements), by=coder_of(*codings))
    assert (coding_of(made) or "") == expected


@given(st.text("gzip;q=01. ,*\t", max_size=30))
def test_no_value_of_accept_encoding_raises(text: str) -> None:
    assert all(0 <= weight <= 1 for weight in weights([text]).values())
    assert encode(Response(TEXT), text).status == 200


# Which responses are compressed


@pytest.mark.parametrize(
    ("content_type", "listed"),
    [
        ("text/html", True),
        ("text/html; charset=utf-8", True),
        ("Text/HTML ;charset=utf-8", True),
        ("application/json", True),
        ("application/problem+json", True),
        ("image/svg+xml", True),
        ("application/javascript", True),
        ("application/wasm", True),
        ("font/ttf", True),
        ("image/png", False),
        ("application/octet-stream", False),
        ("application/zip", False),
        ("font/woff2", False),
        ("video/mp4", False),
        ("text/event-stream", False),
        ("text/event-stream;charset=utf-8", False),
        ("text", False),
        ("+json", False),
        ("", False),
    ],
)
def test_what_does_not_shrink_is_sent_as_it_is(content_type: str, listed: bool) -> None:
    response = Response(TEXT.encode(), headers={"Content-Type": content_type})
    made = encode(response, "gzip", by=coder())
    assert coding_of(made) == ("gzip" if listed else None)
    assert (made is response) is not listed


def test_without_a_content_type_nothing_is_compressed() -> None:
    response = Response(TEXT.encode())
    assert encode(response) is response


def test_the_callers_types_are_taken_in_place_of_ours() -> None:
    by = coder({"types": ["image/*", "text/event-stream", "+zip"]})
    for content_type, listed in {
        "image/bmp": True,
        "application/epub+zip": True,
        "text/event-stream": True,
        "text/html": False,
    }.items():
        response = Response(TEXT.encode(), headers={"Content-Type": content_type})
        assert coding_of(encode(response, "gzip", by=by)) == ("gzip" if listed else None)


@pytest.mark.parametrize(("size", "expected"), [(99, None), (100, "gzip"), (0, None)])
def test_a_body_below_the_threshold_is_sent_as_it_is(size: int, expected: str | None) -> None:
    response = Response("x" * size)
    made = encode(response, "gzip", by=coder_of(fake("gzip"), threshold=100))
    assert coding_of(made) == expected
    assert (made is response) is (expected is None)


def test_an_empty_body_is_not_compressed_whatever_the_threshold() -> None:
    for accept in ("gzip", "gzip, identity;q=0"):
        made = encode(Response(""), accept, by=coder_of(fake("gzip"), threshold=0))
        assert (coding_of(made), made.body) == (None, b"")


def test_where_identity_is_refused_threshold_and_type_do_not_count() -> None:
    small = Response("x")
    assert coding_of(encode(small, "gzip, identity;q=0")) == "gzip"
    assert coding_of(encode(small, "gzip, *;q=0")) == "gzip"
    assert coding_of(encode(small, "gzip, identity;q=0.1, *;q=0")) is None
    assert coding_of(encode(Response(b"x" * 50, headers={"Content-Type": "image/png"}), "gzip, identity;q=0")) == "gzip"


def test_where_nothing_is_acceptable_it_is_sent_as_it_is() -> None:
    made = encode(Response(TEXT), "identity;q=0, *;q=0")
    assert (coding_of(made), made.body) == (None, TEXT.encode())


def test_what_does_not_become_shorter_is_sent_as_it_is_and_says_so_in_vary() -> None:
    noise = zlib.compress(TEXT.encode()) * 2
    made = encode(Response(noise[:100], headers={"Content-Type": "text/plain"}), "gzip", by=coder({"threshold": 1}))
    assert (coding_of(made), made.body, made.headers["Vary"]) == (None, noise[:100], "Accept-Encoding")


@pytest.mark.parametrize("status", [204, 205])
def test_what_has_no_content_is_left_alone(status: int) -> None:
    response = Response(TEXT, status, {"ETag": '"x"'})
    assert encode(response, "gzip, identity;q=0") is response


def test_a_part_is_left_alone() -> None:
    made = encode(Response(TEXT, 206, {"ETag": '"x"', "Content-Range": "bytes 0-9/99"}), "gzip, identity;q=0")
    assert (coding_of(made), made.body, made.headers["ETag"]) == (None, TEXT.encode(), '"x"')


@pytest.mark.parametrize("status", [200, 201, 404, 500])
def test_pages_of_errors_are_compressed_too(status: int) -> None:
    made = encode(Response(TEXT, status, status_text="So it is"), "gzip")
    assert (coding_of(made), made.status, made.status_text) == ("gzip", status, "So it is")


@pytest.mark.parametrize(
    "fields",
    [
        {"Content-Encoding": "br"},
        {"content-encoding": "identity"},
        {"Content-Range": "bytes 0-9/100"},
        {"Content-Digest": "sha-256=:x:"},
        {"Repr-Digest": "sha-256=:x:"},
        {"Cache-Control": "no-transform"},
        {"cache-control": "public, No-Transform , max-age=5"},
    ],
)
def test_what_was_coded_cut_or_summed_up_already_is_left_alone(fields: dict[str, str]) -> None:
    for body in (TEXT, iter([TEXT])):
        response = Response(body, headers={**fields, "Content-Type": "text/plain"})
        assert encode(response, "gzip, identity;q=0") is response


def test_no_transform_is_found_on_any_line() -> None:
    response = Response(TEXT)
    response.headers.add("Cache-Control", "public")
    response.headers.add("Cache-Control", "no-transform")
    assert encode(response) is response
    response.headers.popall("Cache-Control")
    response.headers["Cache-Control"] = "public"
    assert coding_of(encode(response)) == "zstd"


# What becomes of the headers


def test_the_response_that_was_given_is_not_changed() -> None:
    response = Response(TEXT, headers={"ETag": '"x"', "Content-Length": "4400", "Vary": "Cookie"})
    before = list(response.headers.items())
    for accept in ("gzip", "", None):
        made = encode(response, accept)
        assert made is not response
        assert made.headers is not response.headers
    assert (list(response.headers.items()), response.body, response.body_used) == (before, TEXT.encode(), False)


@pytest.mark.parametrize(
    ("vary", "expected"),
    [
        ([], ["Accept-Encoding"]),
        (["Cookie"], ["Cookie, Accept-Encoding"]),
        (["Cookie", "Origin"], ["Cookie, Origin, Accept-Encoding"]),
        (["accept-encoding"], ["accept-encoding"]),
        (["Cookie, Accept-Encoding", "Origin"], ["Cookie, Accept-Encoding", "Origin"]),
        (["*"], ["*"]),
        ([""], ["Accept-Encoding"]),
    ],
)
@pytest.mark.parametrize("accept", ["gzip", "identity", None])
def test_vary_tells_caches_whether_it_was_compressed_or_not(
    vary: list[str], expected: list[str], accept: str | None
) -> None:
    response = Response(TEXT)
    for value in vary:
        response.headers.add("Vary", value)
    assert encode(response, accept).headers.getall("Vary") == expected


@pytest.mark.parametrize(
    ("etag", "accept", "expected"),
    [
        ('"x"', "gzip", 'W/"x-gzip"'),
        ('"x"', "br", 'W/"x-br"'),
        ('W/"x"', "gzip", 'W/"x-gzip"'),
        ('"x"', "", '"x"'),
        ('"x"', "gzip;q=0", '"x"'),
        ("x", "gzip", "x"),
    ],
)
def test_what_is_compressed_has_a_weak_etag_of_its_own_for_each_coding(etag: str, accept: str, expected: str) -> None:
    assert encode(Response(TEXT, headers={"ETag": etag}), accept).headers["ETag"] == expected


def test_what_was_true_of_the_bytes_before_is_not_said() -> None:
    made = encode(Response(TEXT, headers={"Content-Length": "4400", "Accept-Ranges": "bytes", "X-Else": "1"}), "gzip")
    assert "Content-Length" not in made.headers
    assert "Accept-Ranges" not in made.headers
    assert made.headers["X-Else"] == "1"


def test_head_is_answered_like_get() -> None:
    for body in (TEXT, "x"):
        get, head = (encode(Response(body, headers={"ETag": '"x"'}), method=method) for method in ("GET", "HEAD"))
        assert (head.headers, head.body) == (get.headers, get.body)


def test_head_without_the_body_of_get_says_what_it_depends_on() -> None:
    head = Response(None, headers={"Content-Type": "text/html", "Content-Length": "5000"})
    made = encode(head, method="HEAD")
    assert (coding_of(made), made.headers["Vary"], made.headers["Content-Length"]) == (None, "Accept-Encoding", "5000")
    for response, method in [(head, "GET"), (Response(None), "HEAD"), (Response.redirect("/"), "GET")]:
        assert encode(response, method=method) is response


@pytest.mark.parametrize(
    ("etag", "known", "expected"),
    [
        # what the client has was compressed, so that is what it would be sent again
        ('"x"', 'W/"x-gzip"', 'W/"x-gzip"'),
        ('"x"', '"a", W/"x-gzip", "xx"', 'W/"x-gzip"'),
        ('W/"x"', 'W/"x-gzip"', 'W/"x-gzip"'),
        # it was not, or otherwise, or nobody knows
        ('"x"', '"x"', '"x"'),
        ('"x"', 'W/"x"', '"x"'),
        ('"x"', 'W/"x-br"', '"x"'),
        ('"x"', "*", '"x"'),
        ('"x"', 'W/"xx-gzip"', '"x"'),
        ('W/"x"', 'W/"x"', 'W/"x"'),
        (None, 'W/"x-gzip"', None),
    ],
)
def test_not_modified_has_the_etag_and_vary_that_ok_would_have_had(
    etag: str | None, known: str, expected: str | None
) -> None:
    response = Response(None, 304, {} if etag is None else {"ETag": etag})
    made = FAKE.encode(CIMultiDict({"If-None-Match": known, "Accept-Encoding": "gzip"}), "GET", response)
    assert (made.headers.get("ETag"), made.headers["Vary"]) == (expected, "Accept-Encoding")
    assert (made.status, made.body) == (304, None)


@pytest.mark.parametrize(("accept", "is_seen"), [("gzip", True), ("br;q=0.5, gzip", True), ("br", False), ("", False)])
def test_a_handler_sees_the_tag_of_what_was_compressed_for_this_client(accept: str, is_seen: bool) -> None:
    fields = CIMultiDict({"Accept-Encoding": accept, "If-None-Match": '"a"'})
    fields.add("If-None-Match", 'W/"x-gzip"')
    seen = FAKE.recognise(CIMultiDictProxy(fields))
    assert ('W/"x"' in seen["If-None-Match"]) is is_seen
    assert 'W/"x-gzip"' in ", ".join(seen.getall("If-None-Match"))


async def test_a_cache_is_not_told_that_it_has_what_its_client_does_not_accept(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(TEXT.encode())

    def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response:
        return bunws.Response.file(path)

    async with serving(fetch=fetch, compression={"codings": ["gzip"], "streams": True}) as server:
        etag = (await server.fetch("/", headers={"Accept-Encoding": "gzip"})).headers["ETag"]
        for accept, status in [("gzip", 304), ("gzip;q=0.5", 304), ("br", 200), ("identity", 200), ("", 200)]:
            fields = {"Accept-Encoding": accept, "If-None-Match": etag}
            response = await server.fetch("/", headers=fields)
            assert response.status == status
            assert (response.headers["ETag"] == etag) is (status == 304)
            # Nor are parts of the two put together, or one taken for the state that the other had.
            assert (
                await server.fetch("/", headers={**fields, "If-Range": etag, "Range": "bytes=0-1"})
            ).status == status
            assert (await server.fetch("/", headers={**fields, "If-Match": etag})).status == 412


@pytest.mark.parametrize("accept", ["gzip", "", None])
@pytest.mark.parametrize(
    ("fields", "varies"),
    [
        ({}, (False, True)),  # of 206 the type is known: there is none; a 304 need not tell it
        ({"Content-Type": "text/html"}, (True, True)),
        ({"Content-Type": "image/png"}, (False, False)),
        ({"Content-Type": "multipart/byteranges; boundary=x"}, (True, False)),
        ({"Content-Type": "text/html", "Content-Range": "bytes 0-9/5000"}, (True, False)),
        ({"Content-Type": "text/html", "Content-Encoding": "br"}, (False, False)),
        ({"Content-Type": "text/html", "Cache-Control": "no-transform"}, (False, False)),
    ],
)
def test_a_part_and_not_modified_vary_where_the_whole_might_have_been_compressed(
    fields: dict[str, str], varies: tuple[bool, bool], accept: str | None
) -> None:
    made = [encode(Response(b"0123456789", 206, fields), accept), encode(Response(None, 304, fields), accept)]
    assert tuple(response.headers.get("Vary") == "Accept-Encoding" for response in made) == varies


@pytest.mark.parametrize("accept", ["gzip", "gzip, identity;q=0", ""])
@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("name", ["a.txt", "a.png"])
async def test_all_answers_to_a_request_for_a_file_vary_alike(
    tmp_path: Path, name: str, streams: bool, accept: str
) -> None:
    path = tmp_path / name
    path.write_bytes(TEXT.encode())

    def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response:
        return bunws.Response.file(path)

    async with serving(fetch=fetch, compression={"streams": streams}) as server:

        async def ask(status: int, fields: Mapping[str, str]) -> str | None:
            response = await server.fetch("/", headers={"Accept-Encoding": accept, **fields})
            await response.bytes()
            assert response.status == status
            return response.headers.get("Vary")

        etag = (await server.fetch("/", headers={"Range": "bytes=0-0"})).headers["ETag"]
        vary = await ask(200, {})
        assert await ask(304, {"If-None-Match": etag}) == vary
        assert await ask(206, {"Range": "bytes=0-9"}) == vary
        assert await ask(206, {"Range": "bytes=0-9, 900-909"}) == vary


# The codings themselves


def decode(name: str, data: bytes) -> bytes:
    """What a client makes of a whole body, by somebody else's code where there is such."""
    if name == "gzip":
        return zlib.decompress(data, 16 + zlib.MAX_WBITS)
    module: Any = pytest.importorskip("brotli" if name == "br" else "compression.zstd")
    content: bytes = module.decompress(data)
    return content


def decoder(name: str) -> Callable[[bytes], bytes]:
    """The same, for what has arrived so far."""
    if name == "gzip":
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress
    module: Any = pytest.importorskip("brotli" if name == "br" else "compression.zstd")
    add: Callable[[bytes], bytes] = (
        module.Decompressor().process if name == "br" else module.ZstdDecompressor().decompress
    )
    return add


@pytest.fixture(params=[coding.name for coding in CODINGS])
def coding(request: pytest.FixtureRequest) -> Coding:
    found = next(coding for coding in CODINGS if coding.name == request.param)
    if not found.is_available:
        pytest.skip(f"{found.name} {found.missing}")
    return found


def test_gzip_is_always_there() -> None:
    assert "gzip" in [coding.name for coding in CODINGS if coding.is_available]


def test_each_level_of_each_coding_can_be_read(coding: Coding) -> None:
    for level in coding.levels:
        made = encode(Response(TEXT), by=coder({"codings": [coding.name], "level": {coding.name: level}}))
        assert coding_of(made) == coding.name
        assert isinstance(made.body, bytes)
        assert decode(coding.name, made.body) == TEXT.encode()
        assert len(made.body) < len(TEXT) / 2 or level == 0


def test_gzip_tells_no_time() -> None:
    made = encode(Response(TEXT), "gzip", by=coder())
    assert isinstance(made.body, bytes)
    assert made.body[4:8] == bytes(4)


# Bodies of any size


@given(st.binary(max_size=3000), st.integers(1, 50))
def test_a_body_is_what_it_was_behind_gzip(piece: bytes, times: int) -> None:
    made = encode(Response(piece * times, headers={"Content-Type": "text/plain"}), "gzip", by=coder({"threshold": 0}))
    assert isinstance(made.body, bytes)
    assert (decode("gzip", made.body) if coding_of(made) else made.body) == piece * times


@pytest.mark.parametrize("size", [128 * 1024 - 1, 128 * 1024, 128 * 1024 + 1, 1_000_000])
async def test_a_large_body_becomes_a_stream_and_is_what_it_was(size: int, coding: Coding) -> None:
    content = (TEXT * (size // len(TEXT) + 1))[:size]
    response = Response(content)
    made = encode(response, by=coder({"codings": [coding.name]}))
    assert isinstance(made.body, bytes) is (size < 128 * 1024)
    assert decode(coding.name, await made.bytes()) == content.encode()
    assert not response.body_used  # it was and is a body in memory, and may be sent again


async def test_a_large_body_is_compressed_off_the_loop_in_pieces() -> None:
    made = encode(Response("abc" + "x" * (300 * 1024)), "gzip")
    assert await made.bytes() == b"1<abcxxxxxx>"
    assert len(FakeCompressor.threads) == 4
    here = threading.current_thread().name
    # Three pieces; the last is short and not worth the way. What is held back until the end may be a whole one.
    assert [name == here for name in FakeCompressor.threads] == [False, False, True, False]


# Streams


class Source:
    """A stream that notes how it fares."""

    heartbeat: tuple[float, bytes] | None = None

    def __init__(self, *chunks: str | bytes | Exception) -> None:
        self.chunks = list(chunks)
        self.taken = 0
        self.closed = 0
        self.size = 5

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return self

    async def __anext__(self) -> str | bytes:
        if self.taken == len(self.chunks):
            raise StopAsyncIteration
        chunk = self.chunks[self.taken]
        self.taken += 1
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    async def aclose(self) -> None:
        self.closed += 1


def streamed(source: BodyInit, content_type: str = "text/html", **fields: str) -> Response:
    return Response(source, headers={"Content-Type": content_type, **fields})


def opened(response: Response) -> Stream:
    """What a connection does with it."""
    assert response.body is not None
    assert not isinstance(response.body, bytes | str | bytearray | memoryview)
    return Stream(response.body)


def test_streams_are_compressed_only_when_asked() -> None:
    response = streamed(Source("x"))
    for accept in ("gzip", "gzip, identity;q=0"):
        assert encode(response, accept, by=coder_of(*FAKES)) is response
    assert parse_compression(True) == parse_compression({"streams": False})


async def test_each_chunk_is_flushed_when_it_comes_and_none_is_asked_for_before() -> None:
    source = Source("ab", b"cd", "", "e")
    stream = opened(encode(streamed(source), "gzip"))
    assert source.taken == 0
    seen = []
    while (chunk := await stream.next()) is not None:
        seen.append((chunk, source.taken))
    # b"" stays what it was: whoever sends it sends the head then.
    assert seen == [(b"1<ab|", 1), (b"cd|", 2), (b"", 3), (b"e|", 4), (b">", 4)]
    assert source.closed == 0
    await stream.close()
    assert source.closed == 1


async def test_a_stream_has_no_size_and_no_length_any_more() -> None:
    made = encode(streamed(Source("ab"), **{"Content-Length": "5", "ETag": '"x"', "Accept-Ranges": "bytes"}), "gzip")
    assert opened(made).size is None
    assert dict(made.headers) == {
        "Content-Type": "text/html",
        "ETag": 'W/"x-gzip"',
        "Vary": "Accept-Encoding",
        "Content-Encoding": "gzip",
    }


@pytest.mark.parametrize("accept", ["gzip", "identity"])
async def test_the_copy_takes_the_stream_over(accept: str) -> None:
    response = streamed(iter(["ab"]))
    made = encode(response, accept)
    assert made is not response
    assert (response.body_used, made.body_used) == (True, False)
    assert made.headers["Vary"] == "Accept-Encoding"
    assert await made.bytes() == (b"1<ab|>" if accept == "gzip" else b"ab")
    with pytest.raises(RuntimeError):
        await response.bytes()


@pytest.mark.parametrize("chunks_taken", [0, 1, 2, 3, 4])
async def test_the_source_is_closed_once_wherever_the_sending_ends(chunks_taken: int) -> None:
    source = Source("ab", "cd")
    stream = opened(encode(streamed(source), "gzip"))
    for _ in range(chunks_taken):
        await stream.next()
    await stream.close()
    await stream.close()
    assert source.closed == 1


async def test_a_generator_is_closed_wherever_the_sending_ends() -> None:
    closed = []

    def chunks() -> Iterator[str]:
        try:
            yield "ab"
            yield "cd"
        finally:
            closed.append(True)

    stream = opened(encode(streamed(chunks()), "gzip"))
    assert await stream.next() == b"1<ab|"
    await stream.close()
    assert closed == [True]


async def test_what_the_source_raises_comes_through_and_it_is_closed() -> None:
    source = Source("ab", OSError("it broke"))
    stream = opened(encode(streamed(source), "gzip"))
    assert await stream.next() == b"1<ab|"
    with pytest.raises(OSError, match="it broke"):
        await stream.next()
    await stream.close()
    assert source.closed == 1


async def test_a_large_chunk_is_compressed_in_pieces_so_that_memory_is_bounded() -> None:
    source = Source(b"x" * (300 * 1024))
    stream = opened(encode(streamed(source), "gzip"))
    assert [await stream.next() for _ in range(5)] == [b"1<xxx|", b"xxx|", b"xxx|", b">", None]


@pytest.mark.parametrize("chunks", [(), ("",), ("a",), ("", "a", "")])
async def test_streams_may_be_short(chunks: tuple[str, ...], coding: Coding) -> None:
    made = encode(streamed(Source(*chunks)), by=coder({"codings": [coding.name], "streams": True}))
    assert decode(coding.name, await made.bytes()) == "".join(chunks).encode()


@given(chunks=st.lists(st.binary(max_size=200), max_size=8), name=st.sampled_from([c.name for c in CODINGS]))
def test_a_client_can_read_each_chunk_when_it_has_arrived(chunks: list[bytes], name: str) -> None:
    found = next(coding for coding in CODINGS if coding.name == name)
    if not found.is_available:
        return

    async def run() -> None:
        stream = opened(encode(streamed(Source(*chunks)), by=coder({"codings": [name], "streams": True})))
        add = decoder(name)
        for chunk in chunks:
            data = await stream.next()
            assert data is not None
            assert (add(data) if data else b"") == chunk
        while (data := await stream.next()) is not None:
            assert add(data) == b""

    asyncio.run(run())


# Heartbeats


def test_a_stream_of_events_is_compressed_only_when_its_type_is_named() -> None:
    response = streamed(Source("data: x\n\n"), "text/event-stream")
    assert encode(response, by=coder({"streams": True})) is response
    named = coder({"streams": True, "types": ["text/*", "text/event-stream"]})
    assert coding_of(encode(response, "gzip", by=named)) == "gzip"


async def test_a_heartbeat_becomes_bytes_that_mean_nothing_in_the_coding() -> None:
    source = Source("ab")
    source.heartbeat = (15.0, b":\n\n")
    stream = opened(encode(streamed(source), "gzip"))
    assert stream.heartbeat == (15.0, b"~")
    # The first one may come before anything else does, so the coding has begun by then.
    assert [await stream.next() for _ in range(4)] == [b"1<|", b"ab|", b">", None]


def test_a_coding_without_such_bytes_is_not_used_for_a_stream_with_a_heartbeat() -> None:
    expected = {"zstd, br;q=0.5": "br", "zstd": None, "zstd, gzip;q=0.5, identity;q=0.8": None, "zstd, br, gzip": "br"}
    for accept, name in expected.items():
        source = Source("ab")
        source.heartbeat = (15.0, b":\n\n")
        assert coding_of(encode(streamed(source), accept)) == name
        assert coding_of(encode(streamed(Source("ab")), accept)) == "zstd"


async def test_heartbeats_anywhere_between_chunks_do_not_harm(coding: Coding) -> None:
    if coding.filler is None:
        pytest.skip(f"{coding.name} has no filler")
    source = Source("ab" * 500, b"", "cd", b"e" * (200 * 1024))
    source.heartbeat = (15.0, b":\n\n")
    stream = opened(encode(streamed(source), by=coder({"codings": [coding.name], "streams": True})))
    assert stream.heartbeat is not None
    filler = stream.heartbeat[1]
    pieces = []
    while (chunk := await stream.next()) is not None:
        pieces.append(chunk)
    wire = pieces[0] + b"".join(filler * 2 + piece for piece in pieces[1:])
    assert decode(coding.name, wire) == b"ab" * 500 + b"cd" + b"e" * (200 * 1024)


# The option


@pytest.mark.parametrize("value", [None, False])
def test_compression_is_off_unless_asked_for(value: object) -> None:
    assert parse_compression(value) is None


def test_true_and_an_empty_mapping_are_the_defaults() -> None:
    options = parse_compression(True)
    assert options is not None
    assert options == parse_compression({}) == parse_compression(dict.fromkeys(("threshold", "types", "codings")))
    assert (options.threshold, options.streams) == (1024, False)
    assert [coding.name for coding, _ in options.codings] == [c.name for c in CODINGS if c.is_available]
    assert all(level == coding.level for coding, level in options.codings)


def test_each_option_is_taken() -> None:
    options = parse_compression(
        {
            "threshold": 5,
            "types": ("Text/HTML", "+cbor"),
            "codings": ["gzip", "gzip"],
            "streams": True,
            "level": {"gzip": 9},
        }
    )
    assert options is not None
    assert [(coding.name, level) for coding, level in options.codings] == [("gzip", 9)]
    assert (options.threshold, options.types, options.streams) == (5, frozenset({"text/html", "+cbor"}), True)


def test_a_coding_whose_package_is_missing_is_left_out_or_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", import_module)
    options = parse_compression(True)
    assert options is not None
    assert [coding.name for coding, _ in options.codings] == ["gzip"]
    with pytest.raises(ValueError, match=r"compression.codings: 'br' needs the package brotli"):
        parse_compression({"codings": ["br"]})
    with pytest.raises(ValueError, match=r"compression.codings: 'zstd' needs Python 3.14"):
        parse_compression({"codings": ["gzip", "zstd"]})


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        ("gzip", TypeError, "compression must be True, False or a mapping, got str"),
        (1, TypeError, "compression must be True, False or a mapping, got int"),
        ({"treshold": 1}, TypeError, "compression: unknown option 'treshold'; did you mean 'threshold'?"),
        ({"Types": 1}, TypeError, "compression: unknown option 'Types'; did you mean 'types'?"),
        (
            {"zzz": 1},
            TypeError,
            "compression: unknown option 'zzz'; known are threshold, types, codings, streams, level",
        ),
        ({"threshold": "1"}, TypeError, "compression.threshold must be an int, got str"),
        ({"threshold": True}, TypeError, "compression.threshold must be an int, got bool"),
        ({"threshold": -1}, ValueError, "compression.threshold must be at least 0, got -1"),
        ({"streams": 1}, TypeError, "compression.streams must be True or False, got int"),
        ({"types": "text/html"}, TypeError, "compression.types must be a list of str, got 'text/html'"),
        ({"types": [5]}, TypeError, "compression.types must hold str, got int"),
        ({"types": []}, ValueError, "compression.types must not be empty"),
        ({"types": ["html"]}, ValueError, "compression.types: 'html' is no media type; write 'text/html', 'text/*' or"),
        ({"types": ["*/*"]}, ValueError, "compression.types: '*/*' is no media type"),
        ({"types": ["text/html; charset=utf-8"]}, ValueError, "'text/html; charset=utf-8' is no media type"),
        ({"codings": "gzip"}, TypeError, "compression.codings must be a list of str, got 'gzip'"),
        ({"codings": ["gzp"]}, ValueError, "compression.codings: unknown coding 'gzp'; did you mean 'gzip'?"),
        ({"codings": ["deflate"]}, ValueError, "unknown coding 'deflate'; known are zstd, br, gzip"),
        ({"codings": []}, ValueError, "compression.codings must not be empty"),
        (
            {"level": 5},
            TypeError,
            "compression.level must be a mapping such as {'gzip': 6}, for a level means something",
        ),
        ({"level": {"gz": 5}}, ValueError, "compression.level: unknown coding 'gz'; did you mean 'gzip'?"),
        ({"level": {5: 5}}, ValueError, "compression.level: unknown coding 5"),
        ({"level": {"gzip": "5"}}, TypeError, "compression.level: 'gzip' must be an int, got str"),
        ({"level": {"gzip": 10}}, ValueError, "compression.level: 'gzip' must be 1 to 9, got 10"),
        ({"level": {"br": 12}}, ValueError, "compression.level: 'br' must be 0 to 11, got 12"),
        ({"level": {"zstd": 20}}, ValueError, "compression.level: 'zstd' must be 1 to 19, got 20"),
    ],
)
def test_a_wrong_option_is_refused_with_its_name(value: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=re.escape(words)):
        parse_compression(value)


def test_a_coder_says_what_it_can_do() -> None:
    assert repr(FAKE) == "<ContentCoder zstd br gzip>"
