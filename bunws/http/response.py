"""
Response: what the server answers, with the Fetch standard's meaning.

Rule 1: what may not be on the wire is refused when it is written, with an error that names it.
Rule 2: sending does not change a response. One response may answer any number of requests; only a stream is used up.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final, Protocol, TypeAlias, cast, overload
from urllib.parse import quote

from multidict import CIMultiDict
from yarl import URL

from .body import decode_json, decode_text, encode_json, encode_json_text
from .cookies import SameSite, delete_cookie_header, set_cookie_header
from .files import File
from .headers import HeadersInit, check_text, make_headers
from .stream import Stream, StreamInit, is_stream


__all__ = ["Response", "BodyInit"]


BodyInit: TypeAlias = str | bytes | bytearray | memoryview | StreamInit
"""What a response can be made of."""

_TEXT: Final = "text/plain;charset=UTF-8"

# Fetch, "redirect status".
_REDIRECTS: Final = (301, 302, 303, 307, 308)

# RFC 3986, 2: reserved and unreserved characters, and the percent of what is encoded already.
_URL_CHARACTERS: Final = "%:/?#[]@!$&'()*+,;=-._~"


class _MakeJSON(Protocol):
    def __call__(
        self,
        data: Any,
        status: int = 200,
        headers: HeadersInit | None = None,
        *,
        dumps: Callable[[Any], str | bytes] | None = None,
    ) -> Response: ...


class _JSON:
    """Fetch has a static `Response.json` and a method of the same name; this is both."""

    @overload
    def __get__(self, response: None, owner: type[Response]) -> _MakeJSON: ...
    @overload
    def __get__(self, response: Response, owner: type[Response]) -> Callable[[], Awaitable[Any]]: ...
    def __get__(self, response: Response | None, owner: type[Response]) -> _MakeJSON | Callable[[], Awaitable[Any]]:
        return owner._make_json if response is None else response._read_json


class Response:
    """
    A status, headers and a body.

    A body in memory can be read and sent often. One that is a stream, which is any iterable or async iterable of `str`
    or `bytes`, is made while it is sent, so it can be sent or read once. Each chunk goes out as it is produced, and
    the next is asked for when the client has made room for it; a client that goes away closes the iterable.
    """

    __slots__ = (
        "_body",
        "_body_used",
        "_content_type",
        "_encoded",
        "_headers",
        "_is_stream",
        "_status",
        "_status_text",
    )

    def __init__(
        self,
        body: BodyInit | None = None,
        status: int = 200,
        headers: HeadersInit | None = None,
        *,
        status_text: str = "",
    ) -> None:
        """
        Make a response. `status_text` "" stands for the phrase that RFC 9110 gives the status.

        A stream is sent with the Content-Length that its attribute `size` tells, else the one in `headers`, else
        chunked.

        Raises `ValueError` for a status outside 200 to 599 or text that may not be on the wire,
        `TypeError` for a body of another type.
        """
        self._status = status if type(status) is int and 200 <= status <= 599 else _take_status(status)
        if status_text:
            check_text("status_text", status_text)
        self._status_text = status_text
        self._body: builtins.bytes | StreamInit | None
        if isinstance(body, str):
            self._body, self._is_stream = body.encode(), False
            self._content_type = _TEXT  # unless the headers say otherwise
        else:
            self._body = body = _take_body(body)
            self._is_stream = not (body is None or type(body) is bytes)
            self._content_type = ""
        self._body_used = False
        # None: nobody has asked for them, so they hold Content-Type and no more. Most responses are sent without
        # a multidict, in 0.6 µs from here to the bytes instead of 1.8 (CPython 3.11).
        self._headers: CIMultiDict[str] | None = None
        self._encoded: tuple[int, bytes] | None = None  # what `encode` has made of them, and of which version
        if headers is not None:
            self._headers = make_headers(headers)
            if self._content_type:
                self._headers.setdefault("Content-Type", self._content_type)

    json = _JSON()
    """
    `Response.json(data, status=200, headers=None, *, dumps=None)` makes a response whose body is `data` as JSON.
    It raises `TypeError` or `ValueError` for what JSON cannot say, such as a set or NaN. `dumps` is what makes JSON of
    `data` instead of the standard library: a function that returns str or bytes, such as `orjson.dumps`.

    `await response.json()` reads a body as JSON, and raises `json.JSONDecodeError` if it is none.
    """

    @classmethod
    def _make_json(
        cls,
        data: Any,
        status: int = 200,
        headers: HeadersInit | None = None,
        *,
        dumps: Callable[[Any], str | builtins.bytes] | None = None,
    ) -> Response:
        content = encode_json(data) if dumps is None else dumps(data)
        if isinstance(content, str):
            content = encode_json_text(content)
        elif not isinstance(content, bytes):
            raise TypeError(f"dumps must return str or bytes, not {type(content).__name__}")
        response = cls(content, status, headers)
        response._set_default_type("application/json")
        return response

    @classmethod
    def redirect(cls, url: str | URL, status: int = 302) -> Response:
        """
        Send the client to `url`, which may be relative; what is no ASCII in it is percent-encoded.

        Raises `ValueError` for a status that does not redirect, or a `url` with control characters.
        """
        if status not in _REDIRECTS:
            raise ValueError(f"status of a redirect must be one of {', '.join(map(str, _REDIRECTS))}, not {status}")
        if not str(url).isprintable():
            raise ValueError(f"url holds a control character: {str(url)!r}")
        # An ASCII one is the caller's, letter by letter: it may be signed, and "%2F" in a query is no slash.
        location = quote(url, safe=_URL_CHARACTERS) if isinstance(url, str) and url.isascii() else str(URL(url))
        return cls(None, status, {"Location": location})

    @classmethod
    def file(cls, path: str | os.PathLike[str], status: int = 200, headers: HeadersInit | None = None) -> Response:
        """
        Send a file, as a stream. It is opened now; raises `OSError` where that fails.

        Content-Type is guessed by the name, where `headers` has none. The server adds what the request asks for:
        ranges, and 304 to a client that has the file.
        """
        file = File(path)
        response = cls(file, status, headers)
        response._set_default_type(file.content_type)
        return response

    def _set_default_type(self, content_type: str) -> None:
        if self._headers is None:
            self._content_type = content_type
        else:
            self._headers.setdefault("Content-Type", content_type)

    def __repr__(self) -> str:
        body = self._body
        size = "no body" if body is None else f"{len(body)} bytes" if isinstance(body, bytes) else "stream"
        return f"<Response {self._status} {size}>"

    @property
    def status(self) -> int:
        """The status code, 200 to 599."""
        return self._status

    @property
    def status_text(self) -> str:
        """The reason phrase the caller chose, or ""."""
        return self._status_text

    @property
    def headers(self) -> CIMultiDict[str]:
        """The fields of its head, which may be changed; those that frame the body are the server's."""
        if self._headers is None:
            self._headers = CIMultiDict({"Content-Type": self._content_type} if self._content_type else ())
        return self._headers

    @headers.setter
    def headers(self, headers: CIMultiDict[str]) -> None:
        self._headers = headers

    @property
    def ok(self) -> bool:
        """Whether the status is in the range 200 to 299."""
        return self._status <= 299

    @property
    def body(self) -> builtins.bytes | StreamInit | None:
        """The content as it is sent, or the stream of it; None where there is none."""
        return self._body

    @property
    def body_used(self) -> bool:
        """Whether the body is a stream that was sent or read, which can be done once."""
        return self._body_used

    # Cookies

    def set_cookie(
        self,
        name: str,
        value: str,
        *,
        max_age: int | None = None,
        expires: datetime | None = None,
        path: str = "/",
        domain: str | None = None,
        secure: bool = True,
        http_only: bool = True,
        same_site: SameSite = "Lax",
        partitioned: bool = False,
    ) -> None:
        """
        Add a Set-Cookie with safe defaults: over TLS (or to localhost) only, hidden from scripts, not for requests
        that other sites make.

        max_age: seconds that it lives; without it and `expires`, until the browser is closed.
        domain: None is this host and no other.

        Raises `TypeError` or `ValueError` for what may not be in a cookie.
        """
        line = set_cookie_header(
            name,
            value,
            max_age=max_age,
            expires=expires,
            path=path,
            domain=domain,
            secure=secure,
            http_only=http_only,
            same_site=same_site,
            partitioned=partitioned,
        )
        self.headers.add("Set-Cookie", line)

    def delete_cookie(
        self,
        name: str,
        *,
        path: str = "/",
        domain: str | None = None,
        same_site: SameSite = "Lax",
        partitioned: bool = False,
    ) -> None:
        """Add a Set-Cookie that deletes a cookie, which was set with these attributes."""
        line = delete_cookie_header(name, path=path, domain=domain, same_site=same_site, partitioned=partitioned)
        self.headers.add("Set-Cookie", line)

    # Reading, in the process

    async def bytes(self) -> builtins.bytes:
        """
        The content; b"" where there is none. It may be read again, unless it is a stream: that is used up.

        Raises `RuntimeError` for a stream that was sent or read before, and what the stream raises.
        """
        if not self._is_stream:
            return cast("builtins.bytes | None", self._body) or b""
        if self._body_used:
            raise RuntimeError("this response is a stream that was sent or read already")
        self._body_used = True
        return await Stream(cast("StreamInit", self._body)).read()

    async def text(self) -> str:
        """`bytes()` as text: UTF-8, with U+FFFD for what is none."""
        return decode_text(await self.bytes())

    async def _read_json(self) -> Any:
        return decode_json(await self.bytes())


def _take_status(status: int) -> int:
    if not isinstance(status, int):
        raise TypeError(f"status must be int, not {type(status).__name__}")
    # Fetch, "initialize a response": "If init["status"] is not in the range 200 to 599,
    # inclusive, then throw a RangeError."
    if not 200 <= status <= 599:
        raise ValueError(f"status must be in the range 200 to 599, not {status}")
    return int(status)


def _take_body(body: bytes | bytearray | memoryview | StreamInit | None) -> bytes | StreamInit | None:
    """A copy of what may change, so that a bytearray that changes later does not change the response."""
    if body is None or type(body) is bytes:
        return body
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    if is_stream(body) and not isinstance(body, Awaitable):
        return body
    fix = (
        "use Response.json(...)"
        if isinstance(body, dict | list | tuple)
        else "write str(...) around it"
        if isinstance(body, int | float)
        else "await it first"
        if isinstance(body, Awaitable)
        else "make it one of these"
    )
    raise TypeError(
        "body must be str, bytes, bytearray, memoryview or None, or an iterable that makes chunks of these, "
        f"not {type(body).__name__}: {fix}"
    )
