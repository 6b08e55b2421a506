"""
A model of RFC 6455 and 7692: the bytes of a client in, what a server has to make of them out.

Rule: it shares no code with bunws, and is as simple as the RFCs allow: it has the whole stream before it, knows nothing
of reads and buffers, and inflates with the standard library.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Final, NamedTuple


__all__ = ["Frame", "Verdict", "judge", "read_server_frames", "DEFLATE_OFFER"]

#: An offer that bunws, with `per_message_deflate` on and dedicated both ways, takes as it is.
DEFLATE_OFFER: Final = "permessage-deflate"

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_OPCODES: Final = {CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG}

# RFC 6455, 7.4.1, and the registry of 11.7: what may be in a Close frame. 7.4.2: 3000 to 4999 are for the others.
_CODES: Final = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}

# RFC 7692, 7.2.1; and an empty final block, which shows whether a message ended where a block ends.
_TAIL: Final = b"\x00\x00\xff\xff"
_FINAL_BLOCK: Final = b"\x03\x00"

# One message that flushes by final blocks more often than this may be refused as a flood (1008).
_FINAL_BLOCKS: Final = 50


class Frame(NamedTuple):
    """One frame of the server: what it answers with."""

    opcode: int
    payload: bytes


@dataclass
class Verdict:
    """What a server that echoes every message has to send, and how it may end."""

    #: Echoes and pongs, in order.
    frames: list[Frame] = field(default_factory=list)
    #: The codes that the Close frame behind them may have; empty: none is sent, the connection stays open.
    codes: set[int] = field(default_factory=set)
    #: Whether staying open is right as well, since the stream ends inside the frame that is wrong.
    may_stay_open: bool = True
    #: What the peer said in its own Close frame, which is echoed.
    closed_with: bytes | None = None
    #: Whether from here on a server may do either: the RFCs leave it open how much of something is too much.
    unsure: bool = False

    def fail(self, *codes: int) -> Verdict:
        self.codes, self.may_stay_open = set(codes), False
        return self


def judge(stream: bytes, *, max_payload: int, deflate: bool) -> Verdict:
    """What has to become of `stream`, the bytes of one client behind its handshake."""
    verdict = Verdict()
    messages = _Messages(verdict, max_payload, deflate)
    at = 0
    while True:
        head = _Head.read(stream, at)
        if head is None:
            # Inside a head: what it shows so far may be refused already.
            verdict.codes = _early(stream[at:])
            return verdict
        codes = head.wrong(max_payload)
        end = head.begin + head.size
        if codes:
            # The length decides from the head alone; for the rest an endpoint may wait for the payload.
            return verdict.fail(*codes, 1002, 1009) if head.size > max_payload else verdict.fail(*codes)
        if end > len(stream):
            verdict.codes = {1002}  # RSV bits and the order of fragments are in the head too
            if len(stream) - head.begin and head.opcode in (CONTINUATION, TEXT):
                verdict.codes.add(1007)
            return verdict
        payload = _unmasked(stream[head.begin : end], head.mask)
        if not messages.take(head, payload):
            return verdict
        at = end


class _Head(NamedTuple):
    """RFC 6455, 5.2."""

    fin: bool
    rsv: int
    opcode: int
    masked: bool
    size: int
    minimal: bool
    mask: bytes
    begin: int  # of the payload, in the stream

    @classmethod
    def read(cls, stream: bytes, at: int) -> _Head | None:
        if len(stream) < at + 2:
            return None
        first, second = stream[at], stream[at + 1]
        size, at, minimal = second & 0x7F, at + 2, True
        if size >= 126:
            width, least = (2, 126) if size == 126 else (8, 65_536)
            if len(stream) < at + width:
                return None
            size, at = int.from_bytes(stream[at : at + width], "big"), at + width
            minimal = size >= least
        masked = bool(second & 0x80)
        mask = stream[at : at + 4] if masked else bytes(4)
        if len(mask) < 4:
            return None
        return cls(bool(first & 0x80), first >> 4 & 7, first & 0xF, masked, size, minimal, mask, at + 4 * masked)

    def wrong(self, max_payload: int) -> set[int]:
        """The codes that a head like this one is answered with, whatever came before; RSV bits are looked at later."""
        codes = set()
        if self.opcode not in _OPCODES or not self.masked or not self.minimal or self.size >= 1 << 63:
            codes.add(1002)
        # RFC 6455, 5.5: "All control frames MUST have a payload length of 125 bytes or less and MUST NOT be
        # fragmented."
        if self.opcode >= CLOSE and (self.size > 125 or not self.fin):
            codes.add(1002)
        if self.size > max_payload:
            codes.add(1009)
        return codes


def _early(stream: bytes) -> set[int]:
    """What the beginning of a head may be refused for."""
    return {1002, 1009} if stream else set()


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    return bytes(octet ^ mask[index % 4] for index, octet in enumerate(payload))


class _Messages:
    """RFC 6455, 5.4 and 5.5; RFC 7692, 6 and 7.2."""

    def __init__(self, verdict: Verdict, max_payload: int, deflate: bool) -> None:
        self._verdict = verdict
        self._max = max_payload
        self._deflate = deflate
        self._opcode = 0
        self._payload = b""
        self._inflating: _Inflating | None = None
        self._window = b""

    def take(self, head: _Head, payload: bytes) -> bool:
        """One whole frame. False: it was the last that counts."""
        verdict = self._verdict
        if head.rsv & 3 or (head.rsv and head.opcode >= CLOSE):
            # What else is wrong with a Close frame may be found first.
            verdict.fail(1002, 1007) if head.opcode == CLOSE else verdict.fail(1002)
        elif head.opcode == CLOSE:
            self._close(payload)
        elif head.opcode == PING:
            verdict.frames.append(Frame(PONG, payload))
        elif head.opcode != PONG:
            self._data(head, payload)
        return verdict.may_stay_open

    def _close(self, payload: bytes) -> None:
        if not payload:
            self._verdict.closed_with = b""
            self._verdict.fail(1005)
            return
        code = int.from_bytes(payload[:2], "big")
        codes = set()
        if len(payload) == 1 or code not in _CODES:
            codes.add(1002)
        if not _is_text(payload[2:]):
            codes.add(1007)
        if not codes:
            self._verdict.closed_with = payload
            codes.add(code)
        self._verdict.fail(*codes)

    def _data(self, head: _Head, payload: bytes) -> None:
        verdict = self._verdict
        if (head.opcode == CONTINUATION) != bool(self._opcode):
            verdict.fail(1002)
            return
        if head.rsv and (head.opcode == CONTINUATION or not self._deflate):
            verdict.fail(1002)
            return
        if head.opcode != CONTINUATION:
            self._opcode, self._payload = head.opcode, b""
            self._inflating = _Inflating(self._window) if head.rsv else None
        codes = set()
        if self._inflating is not None:
            try:
                payload = self._inflating.take(payload, head.fin, self._max - len(self._payload))
            except zlib.error:
                verdict.fail(1007)
                return
            except _TooManyBlocks:
                verdict.fail(1008)
                verdict.unsure = True
                return
        self._payload += payload
        if len(self._payload) > self._max:
            codes.add(1009)
        if self._opcode == TEXT and not _is_text(self._payload, complete=head.fin):
            codes.add(1007)
        if codes:
            # One that is too long is not looked at to its end, so whatever else is wrong with it may be found first.
            verdict.fail(*codes, 1007) if 1009 in codes and self._inflating is not None else verdict.fail(*codes)
        elif head.fin:
            verdict.frames.append(Frame(self._opcode, self._payload))
            if self._inflating is not None:
                self._window = self._inflating.window
            self._opcode = 0


class _TooManyBlocks(Exception):
    """More blocks with BFINAL than anybody needs."""


class _Inflating:
    """One compressed message, with the window that the messages before have left."""

    def __init__(self, window: bytes) -> None:
        self.window = window
        self.final_blocks = 0
        self._stream: zlib._Decompress | None = None

    def take(self, payload: bytes, fin: bool, room: int) -> bytes:
        """The plain bytes of a fragment, one more than `room` at most. Raises zlib.error for what is no deflate."""
        plain = b""
        while payload and len(plain) <= room:
            stream = self._stream or zlib.decompressobj(-15, self.window)
            piece = stream.decompress(payload, room + 1 - len(plain))
            plain += piece
            self.window = (self.window + piece)[-32_768:]
            payload = stream.unused_data if stream.eof else b""
            self._stream = None if stream.eof else stream
            self.final_blocks += stream.eof
            if self.final_blocks > _FINAL_BLOCKS:
                raise _TooManyBlocks
        if fin and len(plain) <= room:
            self._finish()
        return plain

    def _finish(self) -> None:
        # RFC 7692, 7.2.2: "Append 4 octets of 0x00 0x00 0xff 0xff to the tail end of the payload of the message."
        stream, self._stream = self._stream, None
        if stream is not None and (
            stream.decompress(_TAIL + _FINAL_BLOCK, 1)
            or not stream.eof
            or stream.unused_data not in (b"", _FINAL_BLOCK)
        ):
            raise zlib.error("the message ends inside a block")


def _is_text(payload: bytes, *, complete: bool = True) -> bool:
    """RFC 3629; `complete`: it does not end inside a character."""
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        return not complete and error.reason == "unexpected end of data"
    return True


def read_server_frames(data: bytes) -> tuple[list[Frame], bytes]:
    """The whole frames of a server, checked, and what is behind the last."""
    frames = []
    at = 0
    while (head := _Head.read(data, at)) is not None and head.begin + head.size <= len(data):
        # RFC 6455, 5.1: "A server MUST NOT mask any frames that it sends to the client."
        assert not head.masked, data[at : at + 20]
        assert head.minimal, data[at : at + 20]
        assert head.fin, data[at : at + 20]
        assert head.rsv == 0, "nothing was to be compressed"
        frames.append(Frame(head.opcode, data[head.begin : head.begin + head.size]))
        at = head.begin + head.size
    return frames, data[at:]
