"""
Ranges: parts of a representation (RFC 9110, 14).

Rule: what a client asks for costs no more than the whole. Ranges that touch become one, so no byte is sent twice, and a
field with more ranges than `MAX_RANGES` is as if it were not there.
"""

from __future__ import annotations

import re
import secrets
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol, Self


__all__ = ["MAX_RANGES", "ByteRange", "ByteRanges", "parse_range"]


# In one field. RFC 9110, 14.2: "A server that supports range requests MAY ignore or reject a Range header field that
# contains an invalid ranges-specifier (Section 14.1.1), a ranges-specifier with more than two overlapping ranges, or a
# set of many small ranges that are not listed in ascending order".
MAX_RANGES: Final = 16

# RFC 9110, 15.3.7.2: "a gap that is smaller than the overhead of sending multiple parts". "Since the typical overhead
# between each part of a multipart/byteranges is around 80 bytes"; here it is more.
_GAP: Final = 160

# RFC 9110, 14.1.1: 'int-range = first-pos "-" [ last-pos ]', 'suffix-range = "-" suffix-length'.
_SPEC: Final = re.compile(r"([0-9]*)-([0-9]*)")

# Digits that a position can have; a number with more is beyond the end of every file.
_DIGITS: Final = 18


class ByteRange(NamedTuple):
    """The bytes from `start` up to `stop`."""

    start: int
    stop: int

    def content_range(self, size: int) -> str:
        """The value of Content-Range, of a representation of `size` bytes (RFC 9110, 14.4)."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


def parse_range(values: Sequence[str], size: int) -> list[ByteRange] | None:
    """
    What the lines of Range ask of a representation of `size` bytes, in the order of the answer.

    None: there is no range, or one that is to be ignored; []: none of them can be satisfied.
    """
    # Range is no list (RFC 9110, 14.2), so two lines of it are no valid value.
    if len(values) != 1:
        return None
    unit, equals, ranges = values[0].partition("=")
    # RFC 9110, 14.2: "An origin server MUST ignore a Range header field that contains a range unit it does not
    # understand." 14.1: "All range unit names are case-insensitive".
    if not equals or unit.lower() != "bytes" or ranges.count(",") > 2 * MAX_RANGES:
        return None
    # RFC 9110, 5.6.1.2: "A recipient MUST parse and ignore a reasonable number of empty list elements".
    specs = [spec for spec in (element.strip(" \t") for element in ranges.split(",")) if spec]
    if not 0 < len(specs) <= MAX_RANGES:
        return None
    asked = []
    for spec in specs:
        match = _SPEC.fullmatch(spec)
        if match is None or spec == "-":
            return None
        first, last = match.groups()
        if not first:
            # 14.1.2: "If the selected representation is shorter than the specified suffix-length, the entire
            # representation is used." An empty one has no byte to be named in Content-Range: all of it is sent.
            length = min(_number(last), size)
            if length == 0 == size and _number(last):
                return None
            start, stop = size - length, size
        else:
            start, stop = _number(first), _number(last) + 1 if last else size
            # 14.1.1: "An int-range is invalid if the last-pos value is present and less than first-pos."
            if last and stop <= start:
                return None
            stop = min(stop, size)
        if start < stop:
            asked.append(ByteRange(start, stop))
    return _coalesced(asked)


def _number(digits: str) -> int:
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= _DIGITS else 10**_DIGITS


def _coalesced(asked: list[ByteRange]) -> list[ByteRange]:
    """
    RFC 9110, 15.3.7.2: "a server MAY coalesce any of the ranges that overlap, or that are separated by a gap that is
    smaller than the overhead of sending multiple parts, regardless of the order".
    """
    merged: list[tuple[int, ByteRange]] = []  # with the place where it, or its first part, was asked for
    for place, part in sorted(enumerate(asked), key=lambda item: item[1]):
        if merged and part.start - merged[-1][1].stop <= _GAP:
            first_place, before = merged.pop()
            place = min(place, first_place)
            part = ByteRange(before.start, max(before.stop, part.stop))
        merged.append((place, part))
    # "A server that generates a multipart response SHOULD send the parts in the same order that the corresponding
    # range-spec appeared in the received Range header field".
    return [part for _, part in sorted(merged)]


class Part(Protocol):
    """The bytes of one range; `bunws.http.files.File.slice` makes one."""

    @property
    def size(self) -> int: ...

    async def __anext__(self) -> bytes: ...

    def close(self) -> None: ...


class ByteRanges:
    """Several parts as one stream, of `size` bytes and `content_type` multipart/byteranges (RFC 9110, 14.6)."""

    __slots__ = ("_begun", "_parts", "_to_send", "content_type", "size")

    def __init__(self, parts: Sequence[tuple[ByteRange, Part]], size: int, content_type: str) -> None:
        """`size` and `content_type` are those of the whole. The parts are closed with the stream."""
        # RFC 2046, 5.1.1: "Boundary delimiters must not appear within the encapsulated material". By chance: 2 ** -128.
        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/byteranges; boundary={boundary}"
        self._parts = [part for _, part in parts]
        self._to_send: deque[bytes | Part] = deque()
        line_break = ""
        for byte_range, part in parts:
            head = (
                f"{line_break}--{boundary}\r\nContent-Type: {content_type}\r\n"
                f"Content-Range: {byte_range.content_range(size)}\r\n\r\n"
            )
            self._to_send += (head.encode("latin-1"), part)
            line_break = "\r\n"
        self._to_send.append(f"\r\n--{boundary}--\r\n".encode())
        self.size = sum(len(item) if isinstance(item, bytes) else item.size for item in self._to_send)
        self._begun = False

    def __aiter__(self) -> Self:
        if self._begun:
            raise ValueError("these ranges were sent or closed: a stream can be sent once")
        self._begun = True
        return self

    async def __anext__(self) -> bytes:
        while self._to_send:
            item = self._to_send[0]
            if isinstance(item, bytes):
                self._to_send.popleft()
                return item
            try:
                return await item.__anext__()
            except StopAsyncIteration:
                self._to_send.popleft()
        raise StopAsyncIteration

    def close(self) -> None:
        """Close all parts. It may be called again."""
        self._begun = True
        self._to_send.clear()
        for part in self._parts:
            part.close()
