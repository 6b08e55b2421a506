"""
What a WebSocket client sends: handshakes, frames, offers of compression.

Rule: a target returns, or it has found something.
"""

from __future__ import annotations

import zlib
from typing import Final

from bunws.compress import MAX_OFFERS_LENGTH, DeflateOptions, negotiate
from bunws.deflate import Deflaters, Inflater
from bunws.exceptions import HandshakeError
from bunws.handshake import accept, accept_key, check, subprotocols
from bunws.http.head import RequestHead
from bunws.http.request import Request
from bunws.http.wire import RequestParser

from .rfc6455 import Frame, Verdict, judge, read_server_frames
from .stage import MAX_PAYLOAD, plain_stage, splits


__all__ = ["HANDSHAKE", "check_frames", "check_verdict", "frames", "handshake", "negotiation"]

_KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE: Final = (
    "GET /chat HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Key: {_KEY}\r\nSec-WebSocket-Version: 13\r\n"
)


# Handshakes


def handshake(data: bytes) -> None:
    """Header lines, behind a good request line and a good Host."""
    head = _head(b"GET /chat HTTP/1.1\r\nHost: localhost\r\n" + data + b"\r\n\r\n")
    if head is None:
        return
    request = Request.from_head(head, scheme="http")
    refusal: HandshakeError | None = None
    try:
        check(request, origins=frozenset({"https://example.com"}) if "Origin" in request.headers else None)
        offered = subprotocols(request)
    except HandshakeError as error:
        refusal = error
    if refusal is not None:
        assert refusal.status in (400, 403, 405, 426), refusal
        return
    assert request.headers.getall("Sec-WebSocket-Version") == ["13"]
    for name in ("", *offered):
        answer, chosen = accept(request, {"Sec-WebSocket-Protocol": name} if name else None)
        assert chosen == name
        _check_answer(answer, request.headers["Sec-WebSocket-Key"], name)


def _check_answer(answer: bytes, key: str, protocol: str) -> None:
    lines = answer.decode("ascii").split("\r\n")
    assert lines[0] == "HTTP/1.1 101 Switching Protocols"
    assert lines[-2:] == ["", ""], "one empty line, and nothing behind it"
    fields = dict(line.split(": ", 1) for line in lines[1:-2])
    assert fields.pop("Sec-WebSocket-Accept") == accept_key(key)
    assert fields.pop("Sec-WebSocket-Protocol", "") == protocol
    assert fields == {"Upgrade": "websocket", "Connection": "Upgrade"}


def _head(data: bytes) -> RequestHead | None:
    events = RequestParser(max_body_size=1 << 20).feed(data)
    return events[0] if events and isinstance(events[0], RequestHead) else None


# Frames


def frames(data: bytes) -> None:
    """What a client sends behind its handshake; the first bit says whether compression was agreed on."""
    deflate = bool(data[:1] and data[0] & 1)
    stream = data[1:]
    for chunks in splits(stream):
        check_frames(stream, chunks, deflate=deflate)


def check_frames(stream: bytes, chunks: list[bytes], *, deflate: bool) -> None:
    """Hold what a server makes of these chunks against the model."""
    offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflate else ""
    outcome = plain_stage().converse([f"{HANDSHAKE}{offer}\r\n".encode(), *chunks])
    head, _, sent = outcome.sent.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    assert (b"permessage-deflate" in head) is deflate, head
    assert not outcome.aborted, "the server broke the connection off, where it should have closed it"
    check_verdict(judge(stream, max_payload=MAX_PAYLOAD, deflate=deflate), sent, ended=outcome.ended)


def check_verdict(verdict: Verdict, sent: bytes, *, ended: bool) -> None:
    """Hold what a server sent behind its 101 against the model; `ended`: it has ended the connection."""
    got, rest = read_server_frames(sent)
    assert not rest, f"half a frame: {rest[:20]!r}"
    expected = verdict.frames
    assert got[: len(expected)] == expected, (got, expected)
    if verdict.unsure:
        return
    behind = got[len(expected) :]
    if not behind:
        assert verdict.may_stay_open, f"not closed, where {verdict.codes} is due"
        assert not ended, "ended without a Close frame"
        return
    assert len(behind) == 1, f"more than a Close frame: {behind}"
    close = behind[0]
    assert close.opcode == 0x8, close
    assert ended, "the Close frame is out, but the connection was left open"
    _check_close(close, verdict.codes, verdict.closed_with)


def _check_close(close: Frame, codes: set[int], closed_with: bytes | None) -> None:
    if closed_with is not None:
        assert close.payload == closed_with, (close, closed_with)
        return
    assert int.from_bytes(close.payload[:2], "big") in codes, (close, codes)
    assert close.payload[2:].decode().isprintable()


# Compression

_PRESETS: Final = ("shared", "dedicated", "3KB", "16KB", "256KB", "disable")


def negotiation(data: bytes) -> None:
    """Offers of permessage-deflate: what is agreed on was offered, and both ends can work with it."""
    preset = data[0] if data else 0
    options = DeflateOptions(_PRESETS[preset % 6], _PRESETS[preset // 6 % 6], 0)
    lines = data[1:].decode("latin-1").split("\n")
    agreed = negotiate(lines, options)
    if agreed is None:
        return
    answer, params = agreed
    offers = ",".join(lines)
    assert len(offers) <= MAX_OFFERS_LENGTH
    name, *parameters = answer.split("; ")
    assert name == "permessage-deflate"
    # RFC 7692, 7.1.2.2: "client_max_window_bits" is in the response only if it was in the offer.
    if any(parameter.startswith("client_max_window_bits") for parameter in parameters):
        assert "client_max_window_bits" in offers
    assert 9 <= params.server_max_window_bits <= 15
    assert 8 <= params.client_max_window_bits <= 15
    said = dict(parameter.partition("=")[::2] for parameter in parameters)
    assert len(said) == len(parameters), "a parameter was said twice"
    assert ("server_no_context_takeover" in said) is params.server_no_context_takeover
    assert ("client_no_context_takeover" in said) is params.client_no_context_takeover
    assert int(said.get("server_max_window_bits") or 15) == params.server_max_window_bits
    assert int(said.get("client_max_window_bits") or 15) == params.client_max_window_bits
    message = data * 3 + b"the same, " * 20
    _check_receiving(Inflater(params), params.client_max_window_bits, message)
    deflater = Deflaters(options).deflater(params)
    if deflater is not None and (deflated := deflater.deflate(message)) is not None:
        plain = zlib.decompressobj(-params.server_max_window_bits).decompress(deflated + b"\x00\x00\xff\xff")
        assert plain == message


def _check_receiving(inflater: Inflater, bits: int, message: bytes) -> None:
    client = zlib.compressobj(6, zlib.DEFLATED, -max(bits, 9))
    deflated = (client.compress(message) + client.flush(zlib.Z_SYNC_FLUSH))[:-4]
    half = len(deflated) // 2
    plain = inflater.inflate(deflated[:half], False, len(message))
    plain += inflater.inflate(deflated[half:], True, len(message) - len(plain))
    assert plain == message
