"""
Handshake: whether a request may become a WebSocket, and the 101 that says so (RFC 6455, 4.2).

Rule 1: pure. It reads a `Request` and returns bytes; who called writes them.
Rule 2: a peer's mistake is a `HandshakeError` with the status to answer; the caller's is a `ValueError`. Both come
before the first byte of the 101.
Rule 3: nothing is said that nobody chose: no subprotocol without one in the headers, no extension without one given.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from .exceptions import HandshakeError
from .http.headers import HeadersInit, check_text, is_token, make_headers, tokens
from .http.request import Request


__all__ = ["GUID", "accept_key", "is_websocket", "check", "subprotocols", "accept"]


# RFC 6455, 1.3: the string that nobody answers with who does not understand WebSocket.
GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

# What the 101 says by itself, or must not say (RFC 9110, 8.6 and RFC 9112, 6.1: no framing in a 1xx).
_OWN: Final = (
    "Upgrade",
    "Connection",
    "Sec-WebSocket-Accept",
    "Sec-WebSocket-Extensions",
    "Content-Length",
    "Transfer-Encoding",
)


def accept_key(key: str) -> str:
    """The value of Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455, 4.2.2, 5.4)."""
    digest = hashlib.sha1((key + GUID).encode("latin-1"), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


# Checking


def is_websocket(request: Request) -> bool:
    """Whether the client asks for a WebSocket at all, well or badly: "websocket" is in its Upgrade list."""
    return "websocket" in tokens(request.headers.getall("Upgrade", ()))


def check(request: Request, *, origins: frozenset[str] | None) -> None:
    """
    Raise `HandshakeError` unless the request may become a WebSocket.

    `origins` are those that may connect, compared exactly, as browsers send them ("https://example.com"); None: all.
    Where they are given, a client without Origin is refused too: browsers always send one (RFC 6455, 4.1), so only
    a program is kept out, and it can send whatever it likes; but no proxy that drops the field opens the door.
    """
    headers = request.headers
    # RFC 6455, 4.2.1, 1: "An HTTP/1.1 or higher GET request"
    if request.method != "GET":
        # RFC 9110, 15.5.6: "The origin server MUST generate an Allow header field in a 405 response".
        raise HandshakeError(405, "A WebSocket handshake is a GET request", (("Allow", "GET"),))
    if request.http_version == "1.0":
        raise HandshakeError(400, "A WebSocket handshake needs HTTP/1.1")
    # 3: "An |Upgrade| header field containing the value "websocket", treated as an ASCII case-insensitive value."
    if not is_websocket(request):
        raise HandshakeError(400, "Upgrade does not name websocket")
    # 4: "A |Connection| header field that includes the token "Upgrade", treated as an ASCII case-insensitive value."
    # Firefox sends "keep-alive, Upgrade".
    if "upgrade" not in tokens(headers.getall("Connection", ())):
        raise HandshakeError(400, "Connection does not name Upgrade")
    # What came behind the head would be read as frames by one party and as a body by another.
    if "Transfer-Encoding" in headers or headers.get("Content-Length", "0").strip("0"):
        raise HandshakeError(400, "A WebSocket handshake has no body")
    # 5: "A |Sec-WebSocket-Key| header field with a base64-encoded [...] value that, when decoded, is 16 bytes in
    # length."
    # 11.3.1: it "MUST NOT appear more than once in an HTTP request."
    keys = headers.getall("Sec-WebSocket-Key", ())
    if len(keys) != 1 or not _is_key(keys[0]):
        raise HandshakeError(400, "Exactly one valid Sec-WebSocket-Key is needed")
    # 6: "A |Sec-WebSocket-Version| header field, with a value of 13."
    if headers.getall("Sec-WebSocket-Version", ()) != ["13"]:
        # 4.2.2, 4: "the server MUST [...] send an appropriate HTTP error code (such as 426 Upgrade Required) and a
        # |Sec-WebSocket-Version| header field". RFC 9110, 15.5.22: "The server MUST send an Upgrade header field in
        # a 426 response to indicate the required protocol(s)".
        version = (("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket"))
        raise HandshakeError(426, "Only WebSocket version 13 is spoken here", version)
    if origins is not None:
        # RFC 6455, 10.2: "If the origin indicated is unacceptable to the server, then it SHOULD respond to the
        # WebSocket handshake with a reply containing HTTP 403 Forbidden status code."
        sent = headers.getall("Origin", ())
        if len(sent) != 1 or sent[0] not in origins:
            raise HandshakeError(403, "This origin may not connect")
    subprotocols(request)


def _is_key(key: str) -> bool:
    """Whether it is what base64 makes of 16 bytes, to the last bit."""
    try:
        nonce = binascii.a2b_base64(key, strict_mode=True)
    except ValueError:
        return False
    return len(nonce) == 16 and base64.b64encode(nonce).decode() == key


def subprotocols(request: Request) -> list[str]:
    """The subprotocols that the client offers, the preferred first. Raises `HandshakeError` for a malformed list."""
    lines = request.headers.getall("Sec-WebSocket-Protocol", ())
    # RFC 9110, 5.6.1.2: "A recipient MUST parse and ignore a reasonable number of empty list elements".
    names = [name for line in lines for element in line.split(",") if (name := element.strip(" \t"))]
    # RFC 6455, 4.1, 10: "The elements that comprise this value MUST be non-empty strings with characters in the range
    # U+0021 to U+007E not including separator characters [...] and MUST all be unique strings."
    if (lines and not names) or len(set(names)) != len(names) or not all(map(is_token, names)):
        raise HandshakeError(400, "Malformed Sec-WebSocket-Protocol")
    return names


# Accepting


def accept(request: Request, headers: HeadersInit | None = None, extensions: str | None = None) -> tuple[bytes, str]:
    """
    Make the 101 for a request that passed `check()`; return it, complete, and the subprotocol, "" for none.

    A subprotocol is chosen with a Sec-WebSocket-Protocol in `headers`; `extensions` is the value of
    Sec-WebSocket-Extensions. Raises `ValueError`, naming the header, for one that belongs to the handshake, that may
    not be on the wire, or for a subprotocol that was not offered.
    """
    fields = make_headers(headers)
    for name in _OWN:
        if name in fields:
            raise ValueError(f"header {name!r} belongs to the handshake; leave it to server.upgrade()")
    # RFC 6455, 4.2.2, 5: the status line, then Upgrade, Connection and Sec-WebSocket-Accept.
    head = (
        "HTTP/1.1 101 Switching Protocols\r\n"
        "Upgrade: websocket\r\n"
        "Connection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(request.headers['Sec-WebSocket-Key'])}\r\n"
    )
    if extensions:
        check_text("extensions", extensions)
        head += f"Sec-WebSocket-Extensions: {extensions}\r\n"
    for name, value in fields.items():
        head += f"{name}: {value}\r\n"
    return f"{head}\r\n".encode("latin-1"), _chosen(request, fields.getall("Sec-WebSocket-Protocol", ()))


def _chosen(request: Request, names: list[str] | tuple[()]) -> str:
    # RFC 6455, 4.2.2, 5.5: "the value chosen MUST be derived from the client's handshake, specifically by selecting
    # one of the values from the |Sec-WebSocket-Protocol| field". 11.3.4: it "MUST NOT appear more than once in an
    # HTTP response."
    if not names:
        return ""
    offer = subprotocols(request)
    if len(names) != 1 or names[0] not in offer:
        raise ValueError(f"header 'Sec-WebSocket-Protocol' must be one name out of the offer {offer}, not {names}")
    return names[0]
