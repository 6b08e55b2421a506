"""
Exchange: one request on its connection, and what becomes of it.

Rule: it notes, and does nothing. Its connection answers it, or a server makes a WebSocket of it while it is `pending`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from .address import SocketAddress
from .exceptions import HTTPError
from .http.body import Body
from .http.head import RequestHead, RequestLine
from .http.request import Request


if TYPE_CHECKING:
    import asyncio


__all__ = ["Beginning", "Exchange", "ExchangeConnection", "Refusal"]


class ExchangeConnection(Protocol):
    """What a server asks of the connection of an exchange."""

    transport: asyncio.Transport | None
    current: Exchange | None
    allowed_ticks: int

    @property
    def _site(self) -> object:
        """Whose connection it is."""

    @property
    def is_gone(self) -> bool:
        """Whether the client cannot be talked to any more."""

    def detach(self, answer_size: int) -> bytes:
        """Give the transport away to who writes the 101, of so many bytes. Returns what came behind the request."""


class Beginning(NamedTuple):
    """How it was when a request was read; when its log is told, its connection may be gone."""

    clock: float  # of `time.perf_counter`
    written: int  # bytes on the connection until then
    peer: SocketAddress | None

    @classmethod
    def now(cls, transport: asyncio.Transport | None, written: int) -> Beginning:
        """For a connection on which so many bytes were written."""
        peer = SocketAddress.of_peer(transport) if transport is not None else None
        return cls(time.perf_counter(), written, peer)


class Refusal(NamedTuple):
    """What was answered before there was a request that a handler could have been asked about."""

    head: RequestLine | None  # None: not even that much was understood
    begun: Beginning


class Exchange:
    """One request and what becomes of it. `request._context` leads here."""

    __slots__ = (
        "answered",
        "begun",
        "body",
        "connection",
        "expects_continue",
        "failed",
        "head",
        "refusal",
        "request",
        "upgraded",
    )

    def __init__(self, connection: ExchangeConnection, head: RequestHead, request: Request, body: Body) -> None:
        self.connection = connection
        self.head = head
        self.request = request
        self.body = body
        self.refusal: HTTPError | None = None  # what it is answered, whatever the handler says
        self.upgraded = False
        self.failed = False  # the answer could not be sent, or its stream has raised before it was begun
        self.answered = 0  # the status, from when its head is written on
        self.expects_continue = head.expects_continue  # and neither got it nor went on without
        self.begun: Beginning | None = None  # for the log

    @property
    def pending(self) -> bool:
        """Whether it can still be upgraded."""
        return self.connection.current is self and not self.upgraded and not self.answered
