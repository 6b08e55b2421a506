"""
Request: what a client asked for, with the Fetch standard's meaning.

Rule: it does no work before it is asked: the URL is built and the body awaited on first use.
"""

from __future__ import annotations

import builtins
from typing import Any, Final

from multidict import CIMultiDictProxy
from yarl import URL

from .body import EMPTY, Body, decode_json, decode_text
from .head import RequestHead
from .headers import HeadersInit, is_token, make_headers


__all__ = ["Request"]


# Fetch, "normalize a method": these six, and no other.
_NORMALIZED: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"})


class Request:
    """One request. Its body can be read once, by one of `text()`, `json()` and `bytes()`."""

    __slots__ = (
        "_authority",
        "_body",
        "_body_used",
        "_context",
        "_scheme",
        "_target",
        "_url",
        "headers",
        "http_version",
        "method",
    )

    def __init__(
        self,
        url: str | URL,
        *,
        method: str = "GET",
        headers: HeadersInit | None = None,
        body: str | builtins.bytes | None = None,
    ) -> None:
        """
        Make a request in the process, for `Server.fetch` and for tests.

        Raises `ValueError` for a URL that is not absolute, a method that is not a token or a header
        that may not be on the wire, `TypeError` for a body where the method has none.
        """
        url = URL(url)
        if not url.absolute:
            raise ValueError(f"url must be absolute, such as http://localhost/, not {str(url)!r}")
        if not is_token(method):
            raise ValueError(f"method {method!r} is not a token (RFC 9110, 9.1)")
        method = method.upper() if method.upper() in _NORMALIZED else method
        if body is not None and method in ("GET", "HEAD"):
            raise TypeError(f"a {method} request has no body; use method='POST' to send one")
        fields = make_headers(headers)
        if isinstance(body, str):
            fields.setdefault("Content-Type", "text/plain;charset=UTF-8")
            body = body.encode()
        elif body is not None and not isinstance(body, bytes):
            raise TypeError(f"body must be str, bytes or None, not {type(body).__name__}")
        self.method = method
        self.headers: CIMultiDictProxy[str] = CIMultiDictProxy(fields)
        self.http_version = "1.1"
        self._scheme = url.scheme
        self._authority = url.authority
        self._target = url.raw_path_qs
        self._url: URL | None = url
        self._body = EMPTY if body is None else Body(body)
        self._body_used = False
        # For the room above: whatever it needs to find the connection of this request again.
        self._context: object = None

    @classmethod
    def from_head(cls, head: RequestHead, *, scheme: str, body: Body = EMPTY, host: str = "localhost") -> Request:
        """Make the request that came over a connection; `host` is for a client that named none."""
        request = cls.__new__(cls)
        request.method = head.method
        request.headers = head.headers
        request.http_version = head.http_version
        request._scheme = scheme
        request._authority = head.authority or host
        request._target = head.target
        request._url = None
        request._body = body
        request._body_used = False
        request._context = None
        return request

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.url}>"

    @property
    def url(self) -> URL:
        """The whole URL, normalised: no dot segments, special characters percent-encoded."""
        if self._url is None:
            # RFC 9112, 3.3: with an asterisk-form, the "combined path and query component is empty".
            target = "" if self._target == "*" else self._target
            self._url = URL(f"{self._scheme}://{self._authority}{target}")
        return self._url

    @property
    def body_used(self) -> bool:
        """Whether somebody has begun to read the body."""
        return self._body_used

    async def bytes(self) -> builtins.bytes:
        """
        Wait for the body and return it.

        Raises `TypeError` where it was read before, `ClientDisconnected` where the client leaves.
        """
        if self._body_used:
            raise TypeError("body already used: read it once and keep the result")
        self._body_used = True
        return await self._body.read()

    async def text(self) -> str:
        """`bytes()` as text: UTF-8, with U+FFFD for what is none."""
        return decode_text(await self.bytes())

    async def json(self) -> Any:
        """`bytes()` as JSON; raises `json.JSONDecodeError` where it is none."""
        return decode_json(await self.bytes())
