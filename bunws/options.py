"""
Options: the types and checks of what `serve()` takes.

Rule: an option is checked once, before anything is bound, and what is wrong with it is said with its name.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypedDict, TypeVar

from yarl import URL

from .handler import whole_number
from .http.coding import CodingOptions
from .websocket import ServerWebSocket


__all__ = [
    "Fetch",
    "HTTPOptions",
    "IDLE_TIMEOUT",
    "MAX_HEADERS",
    "MAX_HEAD_SIZE",
    "MAX_REQUEST_BODY_SIZE",
    "WebSocketTable",
    "check_error",
    "check_fetch",
    "check_hostname",
    "check_origins",
    "check_port",
    "check_unix",
    "with_server",
]

T = TypeVar("T")

# Bytes in the body of one request. Bun: 128 MiB (serve.d.ts).
MAX_REQUEST_BODY_SIZE: Final = 128 * 1024 * 1024
# Seconds that an HTTP connection may idle, or take for the head of a request. Bun: 10 (serve.d.ts).
IDLE_TIMEOUT: Final = 10.0

# Bytes of a request line and its header fields together.
MAX_HEAD_SIZE: Final = 16 * 1024
# Header fields of one request.
MAX_HEADERS: Final = 100

#: A function of (request, server), or of (request).
Fetch: TypeAlias = Callable[..., object]


class WebSocketTable(TypedDict, Generic[T], total=False):
    """The keys of `websocket=`. Handlers may be plain functions or `async def`."""

    open: Callable[[ServerWebSocket[T]], object]
    message: Callable[[ServerWebSocket[T], Any], object]
    drain: Callable[[ServerWebSocket[T]], object]
    close: Callable[[ServerWebSocket[T], int, str], object]
    error: Callable[[ServerWebSocket[T], Exception], object]
    ping: Callable[[ServerWebSocket[T], bytes], object]
    pong: Callable[[ServerWebSocket[T], bytes], object]
    max_payload_length: int
    backpressure_limit: int
    close_on_backpressure_limit: bool
    max_subscriptions: int
    idle_timeout: float
    send_pings: bool
    publish_to_self: bool
    per_message_deflate: bool | Mapping[str, object]


class HTTPOptions(NamedTuple):
    """What one HTTP connection may ask for, and how it is answered."""

    max_request_body_size: int  # bytes
    max_head_size: int  # bytes
    max_headers: int  # of one request
    max_requests: int  # of one connection; 0: any number
    compression: CodingOptions | None


def check_fetch(fetch: object) -> Fetch:
    """`fetch` as a function of (request, server)."""
    if not callable(fetch):
        raise TypeError(f"fetch must be a function of (request, server), got {type(fetch).__name__}")
    return with_server(fetch)


def check_error(error: object) -> Callable[[Any], object]:
    if not callable(error):
        raise TypeError(f"error must be a function of (exception), got {type(error).__name__}")
    return error


def with_server(fetch: Fetch) -> Fetch:
    """`fetch` as a function of (request, server), though it may be one of (request)."""
    try:
        signature = inspect.signature(fetch)
        signature.bind(None, None)
    except TypeError:
        try:
            signature.bind(None)
        except TypeError:
            raise TypeError("fetch must be a function of (request, server)") from None
        return lambda request, _: fetch(request)
    except ValueError:  # a builtin that does not say
        return fetch
    return fetch


def check_port(port: int | None) -> int:
    if port is None:
        text = os.environ.get("PORT", "3000")
        if not text.isascii() or not text.isdecimal():
            raise ValueError(f"the environment variable PORT must be a number, got {text!r}")
        port = int(text)
    if whole_number("port", port) > 65_535:
        raise ValueError(f"port must be at most 65535, got {port}")
    return port


def check_hostname(hostname: str | None) -> str | None:
    if hostname is not None and not isinstance(hostname, str):
        raise TypeError(f"hostname must be a str, got {type(hostname).__name__}")
    return hostname


def check_unix(unix: str | os.PathLike[str]) -> str:
    path = os.fspath(unix) if isinstance(unix, str | os.PathLike) else unix
    if not isinstance(path, str):
        raise TypeError(f"unix must be a path, got {type(path).__name__}")
    if not path:
        raise ValueError("unix must not be empty")
    return path


def check_origins(origins: Collection[str] | None) -> frozenset[str] | None:
    if origins is None:
        return None
    if isinstance(origins, str) or not isinstance(origins, Collection):
        raise TypeError(f"origins must be a collection of str, such as ['https://example.com'], got {origins!r}")
    for origin in origins:
        if not isinstance(origin, str):
            raise TypeError(f"origins must hold str, got {type(origin).__name__}")
        if not _is_origin(origin):
            raise ValueError(
                f"origins: {origin!r} is no origin; write scheme://host[:port] as browsers send it, "
                "in lower case, without a path or the default port"
            )
    return frozenset(origins)


def _is_origin(text: str) -> bool:
    try:
        return str(URL(text).origin()) == text
    except ValueError:
        return False
