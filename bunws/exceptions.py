"""
Exceptions: an error knows its side and its answer.

The caller's mistake is a `TypeError` or `ValueError`, raised to the caller at once. The peer's mistake is one of the
classes below: it carries what to tell the peer, is caught in one place, and never reaches a handler. The peer is told
a fixed phrase, never the text of an exception.

    BunwsError
    ├── ProtocolError    the peer broke RFC 6455 or 7692: a close code and a phrase
    └── HTTPError        the peer broke RFC 9110 or 9112: a status
        └── HandshakeError    … while it asked for a WebSocket (RFC 6455, 4.2)
"""

from __future__ import annotations


__all__ = ["BunwsError", "ProtocolError", "HTTPError", "HandshakeError"]


class BunwsError(Exception):
    """The base of every exception that bunws defines."""


class ProtocolError(BunwsError):
    """The peer broke RFC 6455 or 7692; `close_code` and `phrase` are what the peer is told."""

    def __init__(self, close_code: int, phrase: str) -> None:
        super().__init__(f"{close_code} {phrase}")
        self.close_code = close_code
        self.phrase = phrase


class HTTPError(BunwsError):
    """The peer broke RFC 9110 or 9112; it is answered with `status` and `headers`, then the connection closes."""

    def __init__(self, status: int, phrase: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(f"{status} {phrase}")
        self.status = status
        self.phrase = phrase
        self.headers = headers


class HandshakeError(HTTPError):
    """A request asked for a WebSocket in a way that RFC 6455, 4.2 does not allow."""
