"""
Coding: responses compressed for the clients that ask for it (RFC 9110, 8.4 and 12.5.3).

Rule 1: a response is never changed; what leaves is it, or a copy.
Rule 2: what has a meaning byte by byte is left alone: ranges, what has a Content-Encoding already, digests.
Rule 3: whether a response is compressed does not depend on the method, so HEAD tells the same as GET.

Compression tells the length of what is inside of TLS. Where a page repeats what its visitor sent (a search term) and
also holds a secret (a token against CSRF), somebody who can make the visitor send requests and see the lengths of the
answers guesses the secret letter by letter: the BREACH attack. Do not compress such pages, by `Cache-Control:
no-transform` in the response, or mask the secret anew in each one.
"""

from __future__ import annotations

import asyncio
import difflib
import importlib
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol

from multidict import CIMultiDict, CIMultiDictProxy, MultiMapping
from zlib_ng import zlib_ng

from .files import File
from .headers import is_token, tokens
from .response import Response
from .stream import Stream, StreamInit
from .tags import coded_tag, with_plain_tags


__all__ = ["CODINGS", "Coding", "CodingOptions", "Compressor", "ContentCoder", "parse_compression", "weights"]

# Bytes of the shortest body that is compressed. Where 600 bytes of JSON become 286 for 9 µs, both are one packet.
THRESHOLD: Final = 1024

# Bytes of a body, or of a chunk of a stream, from which on the work leaves the loop's thread, and bytes that are worked
# on at once. With 1 MB of JSON and gzip a timer was up to 29 ms late on the loop, 1 ms in pieces in a thread, for 4 %
# more time. To go to a thread and back takes 0.1 ms where a piece takes 1.4 ms.
#
# The piece bounds the memory too: a body of that size is sent while it is compressed, so its length is not told.
PIECE_SIZE: Final = 128 * 1024

# What shrinks. "text/*" has no event streams in it, whose events a proxy may wait for: they must be named.
TYPES: Final = (
    *("text/*", "+json", "+xml", "application/json", "application/javascript", "application/xml", "application/wasm"),
    *("application/x-ndjson", "application/rtf", "font/otf", "font/ttf", "image/bmp", "image/x-icon"),
)
_EVENT_STREAM: Final = "text/event-stream"

# RFC 9110, 6.4.1 and 15.3.6: no content. 15.3.7: a part of what a representation is, byte by byte. Of 206 it says, and
# 15.4.5 of 304: a server MUST generate a Vary that "would have been sent in a 200 (OK) response to the same request".
_LEFT_ALONE: Final = frozenset({204, 205, 206, 304})

# RFC 9110, 8.4 and 14.4; RFC 9530. Who coded the content, cut it or summed it up wants these bytes to be sent.
_FIXED: Final = ("Content-Encoding", "Content-Range", "Content-Digest", "Repr-Digest")


# The codings


class Compressor(Protocol):
    """Makes one body."""

    def compress(self, data: bytes, /) -> bytes:
        """Add `data`; returns what is ready, which may be nothing."""

    def flush(self) -> bytes:
        """What a client needs to read all that was added."""

    def finish(self) -> bytes:
        """The rest. The compressor is of no use afterwards."""


@dataclass(frozen=True, slots=True)
class Coding:
    """A content coding (RFC 9110, 8.4.1): its name on the wire, and how to get a compressor of a level."""

    name: str
    start: Callable[[int], Compressor]
    level: int
    levels: range
    #: Bytes that mean nothing wherever a stream was flushed, also before the first chunk; None: there are none such.
    filler: bytes | None
    #: Where it comes from if it is no part of bunws: a module, and what to do where that is missing.
    module: str = ""
    missing: str = ""

    @property
    def is_available(self) -> bool:
        """Whether this Python can do it."""
        try:
            return not self.module or bool(importlib.import_module(self.module))
        except ImportError:
            return False


class _Gzip:
    def __init__(self, level: int) -> None:
        # 16 more bits of window mean: with the head and the tail of RFC 1952. No time is in it.
        self._stream = zlib_ng.compressobj(level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        self.compress = self._stream.compress

    def flush(self) -> bytes:
        return self._stream.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._stream.flush(zlib.Z_FINISH)


class _Brotli:
    def __init__(self, level: int) -> None:
        brotli: Any = importlib.import_module("brotli")  # Any: it has no types
        self._stream = brotli.Compressor(quality=level)
        self.compress: Callable[[bytes], bytes] = self._stream.process
        self.flush: Callable[[], bytes] = self._stream.flush
        self.finish: Callable[[], bytes] = self._stream.finish


class _Zstd:
    def __init__(self, level: int) -> None:
        zstd: Any = importlib.import_module("compression.zstd")  # Any: Python before 3.14 has none
        self._stream = zstd.ZstdCompressor(level=level)
        self.compress: Callable[[bytes], bytes] = self._stream.compress

    def flush(self) -> bytes:
        data: bytes = self._stream.flush(self._stream.FLUSH_BLOCK)
        return data

    def finish(self) -> bytes:
        data: bytes = self._stream.flush(self._stream.FLUSH_FRAME)
        return data


# The best first. The levels are where each stops being cheap; what becomes of 52 KB of Markdown and 39 KB of JavaScript
# (an Intel Xeon, family 6 model 167, 2026-11):
#
#     zstd 3      23.0 KB  0.59 ms
#     br 4        22.5 KB  0.87 ms    10.0 KB  0.39 ms
#     br 5        21.3 KB  1.27 ms     9.1 KB  0.63 ms    below 5 it finds no more than gzip
#     gzip 5      22.2 KB  0.72 ms     9.4 KB  0.34 ms    see deflate.py
CODINGS: Final = (
    Coding(
        "zstd",
        _Zstd,
        level=3,
        # RFC 9659, 3: "an upper bound of 8 MB on the Window_Size"; levels above 19 take more.
        levels=range(1, 20),
        # A block is of no use before the head of its frame, and the head is not made before the first block.
        filler=None,
        module="compression.zstd",
        missing="needs Python 3.14",
    ),
    # RFC 7932, 9.2: an empty metadata block, up to the next byte.
    Coding("br", _Brotli, 5, range(12), filler=b"\x06", module="brotli", missing="needs the package brotli"),
    # RFC 1951, 3.2.4: an empty block, stored.
    Coding("gzip", _Gzip, 5, range(1, 10), filler=b"\x00\x00\x00\xff\xff"),
)


# The option


@dataclass(frozen=True, slots=True)
class CodingOptions:
    """What `compression` asks for; made by `parse_compression`."""

    #: Bytes of the shortest body that is compressed; streams always are.
    threshold: int
    #: Media types: "text/html", "text/*" or "+json".
    types: frozenset[str]
    #: The best first, each with its level.
    codings: tuple[tuple[Coding, int], ...]
    #: Whether bodies that are streams are compressed.
    streams: bool


def parse_compression(compression: object) -> CodingOptions | None:
    """
    The options behind a value of `compression`; None means: compress nothing.

    A boolean, or a mapping with any of these keys:

    threshold: bytes of the shortest body that is compressed; 1024.
    types: media types, each "text/html", "text/*" or "+json" for what ends so; text, JSON, XML, JavaScript and such.
        "text/event-stream" is in no other.
    codings: of "zstd", "br" and "gzip" those to use, the best first; all that this Python has.
    streams: whether to compress bodies that are streams, flushed behind each chunk; False.
    level: a mapping of a coding to its level, 1 to 19 for "zstd" (3), 0 to 11 for "br" (5), 1 to 9 for "gzip" (5).

    Raises TypeError or ValueError, to be shown to the caller of `serve`.
    """
    if compression is None or compression is False:
        return None
    given: Mapping[str, object] = {}
    if isinstance(compression, Mapping):
        given = compression
    elif compression is not True:
        raise TypeError(f"compression must be True, False or a mapping, got {type(compression).__name__}")
    for key in given:
        if key not in _KEYS:
            raise TypeError(f"compression: unknown option {key!r}; {_hint(key, _KEYS)}")
    values = {key: value for key, value in given.items() if value is not None}  # None is the default
    levels = _levels(values.get("level", {}))
    return CodingOptions(
        threshold=_threshold(values.get("threshold", THRESHOLD)),
        types=frozenset(map(_media_type, _strings("types", values.get("types", TYPES)))),
        codings=tuple((coding, levels.get(coding.name, coding.level)) for coding in _codings(values.get("codings"))),
        streams=_flag("streams", values.get("streams", False)),
    )


_KEYS: Final = ("threshold", "types", "codings", "streams", "level")
_BY_NAME: Final = {coding.name: coding for coding in CODINGS}
# A type, what has it in front, or a structured syntax suffix (RFC 6838, 4.2.8).
_TYPE: Final = re.compile(r"[^/+*]+/(\*|[^/*]+)|\+[^/+*]+")


def _hint(name: object, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name).lower(), known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"


def _threshold(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"compression.threshold must be an int, got {type(value).__name__}")
    if value < 0:
        raise ValueError(f"compression.threshold must be at least 0, got {value}")
    return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"compression.{name} must be True or False, got {type(value).__name__}")
    return value


def _strings(name: str, value: object) -> list[str]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"compression.{name} must be a list of str, got {value!r}")
    strings = list(value)
    for string in strings:
        if not isinstance(string, str):
            raise TypeError(f"compression.{name} must hold str, got {type(string).__name__}")
    if not strings:
        raise ValueError(f"compression.{name} must not be empty; leave it out for all, or write compression=False")
    return strings


def _media_type(text: str) -> str:
    if not _TYPE.fullmatch(text) or not all(is_token(part) for part in text.split("/")):
        raise ValueError(f"compression.types: {text!r} is no media type; write 'text/html', 'text/*' or '+json'")
    return text.lower()


def _codings(value: object) -> list[Coding]:
    if value is None:
        return [coding for coding in CODINGS if coding.is_available]
    codings: list[Coding] = []
    for name in _strings("codings", value):
        coding = _coding("compression.codings", name)
        if not coding.is_available:
            raise ValueError(f"compression.codings: {name!r} {coding.missing}")
        if coding not in codings:
            codings.append(coding)
    return codings


def _levels(value: object) -> dict[str, int]:
    if not isinstance(value, Mapping):
        raise TypeError(
            "compression.level must be a mapping such as {'gzip': 6}, for a level means something else to each coding, "
            f"got {type(value).__name__}"
        )
    for name, level in value.items():
        coding = _coding("compression.level", name)
        if not isinstance(level, int) or isinstance(level, bool):
            raise TypeError(f"compression.level: {name!r} must be an int, got {type(level).__name__}")
        if level not in coding.levels:
            first, last = coding.levels[0], coding.levels[-1]
            raise ValueError(f"compression.level: {name!r} must be {first} to {last}, got {level}")
    return dict(value)


def _coding(owner: str, name: object) -> Coding:
    coding = _BY_NAME.get(name) if isinstance(name, str) else None
    if coding is None:
        raise ValueError(f"{owner}: unknown coding {name!r}; {_hint(name, _BY_NAME)}")
    return coding


# What a client accepts

# RFC 9110, 12.4.2: 'weight = OWS ";" OWS "q=" qvalue'; 'qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )'.
_ELEMENT: Final = re.compile(r"([^ \t;]+)(?:[ \t]*;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?")

# RFC 9110, 8.4.1.1 and 8.4.1.3: 'A recipient SHOULD consider "x-gzip" to be equivalent to "gzip".'
_ALIASES: Final = {"x-gzip": "gzip"}


def weights(values: Iterable[str]) -> dict[str, float]:
    """
    The lines of Accept-Encoding as weights, 0.0 to 1.0, by coding in lower case; it may have "identity" and "*".

    An element that is none is left out of account; of one that comes twice the smaller weight counts.
    """
    found: dict[str, float] = {}
    for element in tokens(values):
        match = _ELEMENT.fullmatch(element)
        if match is None or not is_token(match[1]):
            continue
        name = _ALIASES.get(match[1], match[1])
        # 12.4.2: 'If no "q" parameter is present, the default weight is 1.'
        found[name] = min(float(match[2] or 1), found.get(name, 1.0))
    return found


@dataclass(frozen=True, slots=True)
class _Choice:
    """What one value of Accept-Encoding asks for."""

    #: The coding to use, with its level; None: none.
    coding: tuple[Coding, int] | None
    #: The same for a stream that is to have a heartbeat.
    with_filler: tuple[Coding, int] | None
    #: Whether what is not coded is acceptable.
    identity: bool


class ContentCoder:
    """Compresses the responses of a server."""

    def __init__(self, options: CodingOptions) -> None:
        self._options = options
        # Clients have few values between them, and handlers few types: 0.1 µs in place of 8. What is kept is bounded.
        self._choice = lru_cache(64)(self._choose)
        self._is_listed = lru_cache(64)(self._look_up)

    def __repr__(self) -> str:
        return f"<ContentCoder {' '.join(coding.name for coding, _ in self._options.codings)}>"

    def encode(
        self, request_headers: MultiMapping[str], method: str, response: Response, whole: Response | None = None
    ) -> Response:
        """
        The response as this client is to get it: the same object, or a copy that takes its body over.

        `whole` is what a 206 or 304 was made of, where that is known: the 200 in its place.

        Where the answer depends on Accept-Encoding, it says so in Vary. One that is compressed has a weak ETag. A body
        of 128 KiB and more becomes a stream; it is compressed while it is sent.
        """
        body, status = response.body, response.status
        choice = self._choice_of(request_headers)
        if status in _LEFT_ALONE:
            if status not in (206, 304) or not self._may_code(whole or response, choice):
                return response
            return _not_modified(request_headers, response, choice) if status == 304 else _vary(response)
        if body is None:
            # To HEAD there may be none where GET has one; whether that would be compressed nobody knows.
            is_possible = method == "HEAD" and self._is_listed(response.headers.get("Content-Type", ""))
            return _vary(response) if is_possible and _is_free(response) else response
        is_small = False
        if isinstance(body, bytes):
            is_small = len(body) < self._options.threshold
        elif not self._options.streams:
            return response
        # RFC 9110, 12.5.3: without a coding a representation is acceptable "unless specifically excluded". If so, what
        # is small or does not shrink is compressed too.
        if choice.identity and (is_small or not self._is_listed(response.headers.get("Content-Type", ""))):
            return response
        if not _is_free(response):
            return response
        if isinstance(body, bytes):
            return self._encode_bytes(response, body, choice)
        return self._encode_stream(response, body, choice)

    def recognise(self, headers: CIMultiDictProxy[str]) -> CIMultiDictProxy[str]:
        """
        The fields of a request with If-None-Match as handlers are to see them, who know the tags of what was not
        compressed: behind the tag of what this client would be sent compressed comes that of what it was made of.
        """
        coding = self._choice_of(headers).coding
        if coding is None:
            return headers
        fields = CIMultiDict(headers)
        fields["If-None-Match"] = with_plain_tags(", ".join(headers.getall("If-None-Match", ())), coding[0].name)
        return CIMultiDictProxy(fields)

    def _choice_of(self, request_headers: MultiMapping[str]) -> _Choice:
        accepted = request_headers.getall("Accept-Encoding", None)
        return _UNASKED if accepted is None else self._choice(",".join(accepted))

    def _may_code(self, whole: Response, choice: _Choice) -> bool:
        """Whether a 200 might be compressed, of which there is no more than what `whole` says."""
        body, status = whole.body, whole.status
        if not (body is None or isinstance(body, bytes) or self._options.streams):
            return False
        content_type = whole.headers.get("Content-Type", body.content_type if isinstance(body, File) else "")
        # 304 does not tell the type, and a 206 of several parts tells another.
        is_untold = (status == 304 and not content_type) or (status == 206 and content_type.startswith("multipart/"))
        is_possible = is_untold or self._is_listed(content_type) or not choice.identity
        return is_possible and _is_free(whole, is_part=status == 206)

    def _encode_bytes(self, response: Response, body: bytes, choice: _Choice) -> Response:
        if choice.coding is None or not body:
            return _vary(response)
        coding, level = choice.coding
        compressor = coding.start(level)
        if len(body) >= PIECE_SIZE:
            return _code(response, coding, _CodedStream(compressor, Stream((body,)), is_live=False))
        data = compressor.compress(body) + compressor.finish()
        if len(data) >= len(body) and choice.identity:
            return _vary(response)
        return _code(response, coding, data)

    def _encode_stream(self, response: Response, body: StreamInit, choice: _Choice) -> Response:
        stream = Stream(body)
        chosen = choice.coding if stream.heartbeat is None else choice.with_filler
        if chosen is None:
            return _vary(response)
        coding, level = chosen
        return _code(response, coding, _CodedStream(coding.start(level), stream, is_live=True, filler=coding.filler))

    # What there is to know once

    def _choose(self, accept_encoding: str) -> _Choice:
        wanted = weights([accept_encoding])
        other = wanted.get("*")
        # RFC 9110, 12.5.3: without a coding, acceptable "unless specifically excluded by the Accept-Encoding header
        # field stating either "identity;q=0" or "*;q=0" without a more specific entry for "identity"".
        identity = wanted.get("identity", other)
        # What is not named at all is acceptable, and wanted less than what is.
        least = identity or 0.0
        coding, with_filler = None, None
        for candidate in reversed(self._options.codings):
            weight = wanted.get(candidate[0].name, other) or 0.0
            # "the acceptable content coding with the highest non-zero qvalue is preferred."
            if weight > 0 and weight >= max(least, self._weight(coding, wanted)):
                coding = candidate
            if weight > 0 and candidate[0].filler and weight >= max(least, self._weight(with_filler, wanted)):
                with_filler = candidate
        return _Choice(coding, with_filler, identity != 0)

    @staticmethod
    def _weight(chosen: tuple[Coding, int] | None, wanted: Mapping[str, float]) -> float:
        return 0.0 if chosen is None else wanted.get(chosen[0].name, wanted.get("*", 0.0))

    def _look_up(self, content_type: str) -> bool:
        essence = content_type.partition(";")[0].strip(" \t").lower()
        main, slash, rest = essence.partition("/")
        types = self._options.types
        if not slash:
            return False
        if essence == _EVENT_STREAM:
            return essence in types
        _, plus, suffix = rest.rpartition("+")
        return essence in types or f"{main}/*" in types or plus + suffix in types


_UNASKED: Final = _Choice(None, None, True)


# Copies


def _is_free(response: Response, is_part: bool = False) -> bool:
    """Whether the content may be coded, or that of which it `is_part`."""
    headers = response.headers
    if any(name in headers for name in _FIXED if not (is_part and name == "Content-Range")):
        return False
    # RFC 9110, 7.7: a "no-transform" directive; it binds proxies, and says here what it says to them.
    return "Cache-Control" not in headers or "no-transform" not in tokens(headers.getall("Cache-Control"))


def _vary(response: Response) -> Response:
    """A copy that says what it depends on, and takes the body over."""
    return _copy(response, response.body)


def _code(response: Response, coding: Coding, body: bytes | _CodedStream) -> Response:
    """A copy with another body, made of that of `response`."""
    made = _copy(response, body)
    made.headers["Content-Encoding"] = coding.name
    etag = coded_tag(response.headers.get("ETag", ""), coding.name)
    if etag:
        made.headers["ETag"] = etag
    # Those are of what was coded. RFC 9110, 14.3: no ranges of this one, whose bytes may be others the next time.
    for name in ("Content-Length", "Accept-Ranges"):
        made.headers.popall(name, None)
    return made


def _not_modified(request_headers: MultiMapping[str], response: Response, choice: _Choice) -> Response:
    # RFC 9110, 15.4.5: "The server generating a 304 response MUST generate any of the following header fields that
    # would have been sent in a 200 (OK) response to the same request: Content-Location, Date, ETag, and Vary". Whether
    # that had been compressed, the client says: it has the tag of what was.
    made = _vary(response)
    etag = "" if choice.coding is None else coded_tag(response.headers.get("ETag", ""), choice.coding[0].name)
    if etag and etag in ",".join(request_headers.getall("If-None-Match", ())):
        made.headers["ETag"] = etag
    return made


def _copy(response: Response, body: bytes | StreamInit | None) -> Response:
    made = Response(body, response.status, status_text=response.status_text)
    made.headers = CIMultiDict(response.headers)
    if not isinstance(response.body, bytes | None):
        response._body_used = True  # it cannot be sent by both
    # RFC 9110, 12.5.5: what "might influence the origin server's process for selecting the content of this response".
    vary = made.headers.getall("Vary", [])
    if not {"*", "accept-encoding"}.intersection(tokens(vary)):
        made.headers["Vary"] = ", ".join([*filter(None, vary), "Accept-Encoding"])
    return made


class _CodedStream:
    """
    What a stream yields, compressed piece by piece.

    is_live: whether each chunk can be read when it arrives, as those of a stream of the caller's. A body that was all
        there is not flushed.
    """

    __slots__ = ("_at", "_chunk", "_compressor", "_is_begun", "_is_ended", "_source", "heartbeat", "is_live")

    def __init__(self, compressor: Compressor, source: Stream, *, is_live: bool, filler: bytes | None = None) -> None:
        self.heartbeat = None
        if source.heartbeat is not None and filler is not None:
            self.heartbeat = source.heartbeat[0], filler
        self._compressor = compressor
        self._source = source
        self.is_live = is_live
        # A filler means something else before the stream was flushed.
        self._is_begun = self.heartbeat is None
        self._is_ended = False
        self._chunk = b""
        self._at = 0

    def __aiter__(self) -> _CodedStream:
        return self

    async def __anext__(self) -> bytes:
        if self._is_ended:
            raise StopAsyncIteration
        if not self._is_begun:
            self._is_begun = True
            return self._compressor.flush()
        while True:
            if self._at == len(self._chunk):
                chunk = await self._source.next()
                if chunk is None:
                    return await self._finish()
                if not chunk:
                    return chunk  # it means something to whoever sends it
                self._chunk, self._at = chunk, 0
            piece = self._chunk[self._at : self._at + PIECE_SIZE]
            self._at += len(piece)
            # In the thread nothing is touched but the compressor, and here nothing touches that until it is back.
            data = await _in_thread(self._compress, piece) if len(piece) == PIECE_SIZE else self._compress(piece)
            if data:
                return data

    async def aclose(self) -> None:
        self._is_ended = True
        await self._source.close()

    def _compress(self, piece: bytes) -> bytes:
        data = self._compressor.compress(piece)
        return data + self._compressor.flush() if self.is_live else data

    async def _finish(self) -> bytes:
        self._is_ended = True
        self._chunk = b""
        # Behind a flush nothing is left; otherwise as much as a piece may be.
        return self._compressor.finish() if self.is_live else await _in_thread(self._compressor.finish)


async def _in_thread(function: Callable[..., bytes], *args: bytes) -> bytes:
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)
