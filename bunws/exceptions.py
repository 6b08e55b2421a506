"""
Exceptions: an error knows its side and its answer.

The caller's mistake is a `TypeError` or `ValueError`, raised to the caller at once. The peer's mistake is one of the
classes below: it carries what to tell the peer, and is caught in one place. The peer is told a fixed phrase, never the
text of an exception.

    BunwsError
    ├── ProtocolError    the peer broke RFC 6455 or 7692: a close code and a phrase
    └── HTTPError        the peer broke RFC 9110 or 9112, or asked for what it cannot have: a status
        ├── BodyError         … with content that is not what the handler reads it as
        └── HandshakeError    … while it asked for a WebSocket (RFC 6455, 4.2)
"""

from __future__ import annotations


__all__ = ["BunwsError", "ProtocolError", "HTTPError", "BodyError", "HandshakeError"]


class BunwsError(Exception):
    """The base of every exception that bunws defines."""


class ProtocolError(BunwsError):
    """The peer broke RFC 6455 or 7692; `close_code` and `phrase` are what the peer is told."""

    def __init__(self, close_code: int, phrase: str) -> None:
        super().__init__(f"{close_code} {phrase}")
        self.close_code = close_code
        self.phrase = phrase


class HTTPError(BunwsError):
    """
    A request that is answered with `status`, `phrase` as its text, and `headers`.

    bunws raises it for what a peer got wrong. A handler may raise it too: `raise bunws.HTTPError(404, "No such note")`;
    the `error` handler is not asked, and nothing is logged.
    """

    def __init__(self, status: int, phrase: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(f"{status} {phrase}")
        self.status = status
        self.phrase = phrase
        self.headers = headers


class BodyError(HTTPError, ValueError):
    """The content of a request is not what the handler reads it as; 400 unless the handler catches it."""


class HandshakeError(HTTPError):
    """A request asked for a WebSocket in a way that RFC 6455, 4.2 does not allow."""
