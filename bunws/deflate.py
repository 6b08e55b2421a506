"""
Deflate: messages into DEFLATE blocks and back (RFC 7692, 7.2).

Rule 1: the state of a stream outlives a message only where the two ends agreed on context takeover. A socket without
it owns no zlib state between messages, whichever way they go.
Rule 2: what a peer sends is inflated up to a length, never measured afterwards, and fails with ProtocolError only.

What each preset costs a socket, in KiB of resident memory after 1 and after 60 messages of 1 KB of JSON (500 sockets,
CPython 3.11, x86-64, zlib 1.2.13, zlib-ng 2.3.3; the Deflater and Inflater themselves are 72 and 64 bytes):

    preset      "compress"      "decompress"
    shared        0      0        0      0      280 KiB and nothing once per server and window
    3KB           9      9        1      2
    4KB          10     10        1      4
    8KB          14     14        1      9
    16KB         22     22        1     16
    32KB         32     37        1     32
    64KB         46     63        1     32
    128KB        62    111        1     32
    256KB       217    275        1     32
    dedicated   217    275        1     32
"""

from __future__ import annotations

import zlib
from typing import Final, Protocol

from zlib_ng import zlib_ng

from .compress import COMPRESSORS, DeflateOptions, DeflateParams
from .exceptions import ProtocolError


__all__ = ["Deflater", "Deflaters", "Inflater", "EMPTY_BLOCK", "LEVEL"]

# RFC 7692, 7.2.1: the "4 octets (that are 0x00 0x00 0xff 0xff)" which end every flushed message and are not sent.
EMPTY_BLOCK: Final = b"\x00\x00\xff\xff"

# Why zlib-ng, and why level 5 (benchmarks/test_micro_deflate.py, 2 cores of an Intel Xeon, family 6 model 167, CPython
# 3.11, 2026-11; what comes out of a shared stream, and how long it takes):
#
#                      1 KB of JSON       200 KB of JSON
#     zlib-ng 1      479 B    5.9 µs    68.6 KB   0.5 ms
#     zlib-ng 3      369 B   15.8 µs    47.4 KB   1.1 ms
#     zlib-ng 5      368 B   16.3 µs    43.2 KB   1.9 ms
#     zlib-ng 6      368 B   16.3 µs    41.7 KB   3.4 ms
#     zlib-ng 9      367 B   21.5 µs    41.7 KB   6.5 ms
#     zlib    5      367 B   19.3 µs    44.5 KB   3.0 ms
#     zlib    6      367 B   19.7 µs    42.1 KB   5.9 ms
#     isal    1      380 B    7.2 µs    51.8 KB   0.3 ms
#     isal    3      379 B    9.6 µs    51.2 KB   0.5 ms
#
# A message is deflated once and sent many times, so bytes weigh more than time as soon as a room has some members: on
# a line of 1 Gbit/s the 8 KB that level 1 of isal wastes cost more than the 1.6 ms that it wins from 25 members on.
# Behind level 5 time doubles for the last 4 %.
LEVEL: Final = 5

# Bytes of the shortest message that is worth deflating. A shared stream saves 1 to 8 bytes of 64 (a chat line; a JSON
# record of the same size), 27 to 42 of 128, 98 to 117 of 256 and 280 of 512, for 6, 8, 10 and 12 µs. 100 Mbit/s are
# 12.5 bytes a µs: with 128 bytes four receivers repay that, with 64 bytes dozens do not. A dedicated stream saves 28 of
# 48 bytes for 2.6 µs, which a single receiver nearly repays; but shorter lines do not shrink before it has learnt one,
# and it learns only from what is sent.
SHARED_THRESHOLD: Final = 128
DEDICATED_THRESHOLD: Final = 48

# RFC 6455, 7.4.1.
_INVALID_DATA: Final = 1007
_POLICY_VIOLATION: Final = 1008
_MESSAGE_TOO_BIG: Final = 1009


# Sending


class _Stream(Protocol):
    """A compressobj, of the standard library or of zlib-ng."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self, mode: int, /) -> bytes: ...


class Deflater:
    """
    Deflates the messages to one socket (context takeover), or to all that share a window (none).

    Of no use to two threads at once.
    """

    __slots__ = (
        "_flush_mode",
        "_mem_level",
        "_stream",
        "_threshold",
        "_twin",
        "context_takeover",
        "jobs",
        "window_bits",
    )

    def __init__(self, window_bits: int, mem_level: int, threshold: int | None, context_takeover: bool) -> None:
        self.window_bits = window_bits
        #: Whether a message may refer to the ones before. If not, its deflated form is good for every receiver of
        #: this deflater; if so, it must be sent, in order, to the one that this deflater belongs to.
        self.context_takeover = context_takeover
        # A full flush "is reset so that decompression can restart from this point" (zlib's manual): each message stands
        # for itself. It is faster than a new stream for each (5.5 against 7.1 µs for a chat line) or a copy (12.1 µs).
        self._flush_mode = zlib.Z_SYNC_FLUSH if context_takeover else zlib.Z_FULL_FLUSH
        self._mem_level = mem_level
        if threshold is None:
            threshold = DEDICATED_THRESHOLD if context_takeover else SHARED_THRESHOLD
        self._threshold = max(threshold, 1)  # there is nothing to gain on an empty message
        #: Of its owner: how many jobs for it are under way in another thread.
        self.jobs = 0
        self._twin: Deflater | None = None
        self._stream: _Stream | None = None  # between messages, from the first on

    def __repr__(self) -> str:
        kind = "dedicated" if self.context_takeover else "shared"
        return f"<Deflater {kind} window_bits={self.window_bits}>"

    def deflate(self, payload: bytes) -> bytes | None:
        """The payload of one compressed message; None means: send it plain, it would not become shorter."""
        if len(payload) < self._threshold:
            return None
        # Taken away while it works: a stream that raised half way is never used again.
        stream, self._stream = self._stream or self._start(), None
        data = stream.compress(payload) + stream.flush(self._flush_mode)
        if len(data) - len(EMPTY_BLOCK) < len(payload):
            self._stream = stream
            # RFC 7692, 7.2.1: "Remove 4 octets (that are 0x00 0x00 0xff 0xff) from the tail end".
            return data[: -len(EMPTY_BLOCK)]
        # The receiver will never see this form, so nothing sent later may refer to it. A shared stream does not anyway.
        # A dedicated one is dropped, and its successor knows nothing: such messages are rare (images, most of all), and
        # until the next one the socket is no worse off than a shared one. To go back instead would take a copy of the
        # stream before each message: 9 µs with 256 KiB, where the message itself takes 3 to 20.
        if not self.context_takeover:
            self._stream = stream
        return None

    def aside(self) -> Deflater:
        """The one to be used in another thread: itself if it has a context (one thread at a time), else a twin."""
        if self.context_takeover:
            return self
        if self._twin is None:
            self._twin = Deflater(self.window_bits, self._mem_level, self._threshold, False)
        return self._twin

    def _start(self) -> _Stream:
        # zlib-ng is faster, but its smallest window takes 140 KiB where zlib's takes 9; the largest, 275 and 209.
        if self.context_takeover and self.window_bits < 15:
            return zlib.compressobj(LEVEL, zlib.DEFLATED, -self.window_bits, self._mem_level)
        return zlib_ng.compressobj(LEVEL, zlib.DEFLATED, -self.window_bits, self._mem_level)


class Deflaters:
    """The deflaters of one server: one for all sockets without context takeover and with the same window."""

    def __init__(self, options: DeflateOptions) -> None:
        self._options = options
        self._shared: dict[int, Deflater] = {}  # by window bits, so seven at most

    def deflater(self, params: DeflateParams) -> Deflater | None:
        """
        The deflater of a socket with these params; None means: it is never sent anything compressed.

        Sockets that are given the same object can be sent the same bytes.
        """
        if self._options.compress == "disable":
            return None
        window_bits = params.server_max_window_bits
        if not params.server_no_context_takeover:
            # Where the client asked for a smaller window than the preset's, more memory would find nothing more.
            mem_level = min(COMPRESSORS[self._options.compress][1], window_bits - 7)
            return Deflater(window_bits, mem_level, self._options.threshold, True)
        deflater = self._shared.get(window_bits)
        if deflater is None:
            deflater = Deflater(window_bits, 8, self._options.threshold, False)
            self._shared[window_bits] = deflater
        return deflater


# Receiving

# An empty block with BFINAL set. Behind EMPTY_BLOCK it makes zlib say whether the message ended where a block ends.
_FINAL_BLOCK: Final = b"\x03\x00"
_TAIL: Final = EMPTY_BLOCK + _FINAL_BLOCK

# Blocks with BFINAL set in one fragment, and the bytes of a fragment that are looked at anew behind each. A sender
# that flushes by them needs one per message; each costs us a new stream, and the peer two bytes.
_MAX_FINAL_BLOCKS: Final = 100
_STEP: Final = 4096


class Inflater:
    """
    Inflates the messages of one socket, whole or in fragments.

    Between messages it holds the last bytes that it gave out, up to the agreed window (none without context
    takeover), and no zlib state; only an unfinished message has a stream. So interleaved fragments of two sockets
    cannot meet, an idle socket costs at most what it has sent, and every message is proved to be complete. A full
    window of 32 KiB adds 2.3 µs to a message (3.2 µs without for 128 bytes, 4.7 µs for 1 KB of JSON).
    """

    __slots__ = ("_context", "_context_takeover", "_stream", "_window_bits")

    def __init__(self, params: DeflateParams) -> None:
        self._context_takeover = not params.client_no_context_takeover
        # Node's zlib takes 9 bits where 8 were agreed on.
        self._window_bits = max(params.client_max_window_bits, 9)
        self._context = b""  # the end of what was inflated
        self._stream: zlib_ng._Decompress | None = None  # only inside of a message

    def __repr__(self) -> str:
        state = "idle" if self._stream is None else "inflating"
        return f"<Inflater {state} window_bits={self._window_bits} context={len(self._context)}>"

    def inflate(self, fragment: bytes, fin: bool, max_length: int) -> bytes:
        """
        The plain bytes of the next fragment of a compressed message, at most `max_length`; `fin` marks the last.

        Raises ProtocolError with 1009 when there are more, 1007 when the data is corrupt or ends too early, 1008 for a
        flood of final blocks; the inflater is of no use afterwards. What is refused has allocated `max_length` + 1
        bytes at most (beside copies of the fragment), what is accepted twice that. The time is bounded by the two
        lengths: 0.2 to 4 ms for each MiB that comes out. To bound a turn too, a caller adds up the lengths of what it
        gets and leaves the rest unread for the next turn past a sum.
        """
        if max_length < 0:
            raise ProtocolError(_MESSAGE_TOO_BIG, "Received too big message")
        try:
            plain = self._inflate(fragment, max_length) if fragment else b""
            if fin:
                self._finish()
            return plain
        except zlib_ng.error:  # type: ignore[misc]  # its stub declares an instance, it is a class
            raise ProtocolError(_INVALID_DATA, "Received invalid compressed data") from None

    def _inflate(self, fragment: bytes, max_length: int) -> bytes:
        stream = self._stream or self._start()
        plain: bytes = stream.decompress(fragment, max_length + 1)
        if len(plain) > max_length:
            raise ProtocolError(_MESSAGE_TOO_BIG, "Received too big message")
        self._remember(plain)
        if not stream.eof:
            self._stream = stream
            return plain
        return plain + self._inflate_behind_final_block(stream.unused_data, max_length - len(plain))

    def _inflate_behind_final_block(self, rest: bytes, max_length: int) -> bytes:
        # RFC 7692, 7.2.3.4 allows blocks with BFINAL set, and 7.2.1 any blocks behind: "When any DEFLATE block with the
        # "BFINAL" bit set to 1 doesn't end at a byte boundary, an endpoint MUST add minimal padding bits of 0 to
        # make it end at a byte boundary. The next DEFLATE block follows the padded data if any." zlib ends a stream
        # there, so another one goes on with the same window.
        self._stream = None
        plain = bytearray()
        position = final_blocks = 0
        while position < len(rest):
            stream = self._stream or self._start()
            piece = rest[position : position + _STEP]  # so that what is unused, and copied, is short
            inflated = stream.decompress(piece, max_length - len(plain) + 1)
            if len(inflated) > max_length - len(plain):
                raise ProtocolError(_MESSAGE_TOO_BIG, "Received too big message")
            plain += inflated
            self._remember(inflated)
            position += len(piece) - len(stream.unused_data)
            self._stream = None if stream.eof else stream
            final_blocks += stream.eof
            if final_blocks > _MAX_FINAL_BLOCKS:
                raise ProtocolError(_POLICY_VIOLATION, "Received too many final blocks")
        return bytes(plain)

    def _finish(self) -> None:
        stream, self._stream = self._stream, None
        # No stream: the last block had BFINAL set and the octet 0x00 behind it was left out, or the payload is empty
        # altogether. Both break RFC 7692, 7.2.3; Bun and whoever is on plain zlib let it pass.
        #
        # 7.2.2: "Append 4 octets of 0x00 0x00 0xff 0xff to the tail end of the payload of the message." They complete
        # an empty block, which may have BFINAL set itself. If they inflate to something, a block was cut short.
        if stream is not None and (
            stream.decompress(_TAIL, 1) or not stream.eof or stream.unused_data not in (b"", _FINAL_BLOCK)
        ):
            raise ProtocolError(_INVALID_DATA, "Received invalid compressed data")
        if not self._context_takeover:
            self._context = b""

    def _start(self) -> zlib_ng._Decompress:
        if self._context:
            return zlib_ng.decompressobj(-self._window_bits, self._context)
        return zlib_ng.decompressobj(-self._window_bits)

    def _remember(self, plain: bytes) -> None:
        size = 1 << self._window_bits
        self._context = (plain if len(plain) >= size else self._context + plain)[-size:]
