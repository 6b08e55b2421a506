"""Wrong options: one exception each, at once, that names the option and the fix; and nothing stays bound."""

from __future__ import annotations

import gc
import os
import socket
import ssl
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import trustme

import bunws
from bunws.handler import CALLBACKS, OPTIONS
from tests.support import RawClient, hello, quiet


def camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


class Bare:
    """An object without any of the attributes."""


class Odd:
    """An object with a name from Bun."""

    maxPayloadLength = 5


WRONG_SERVE: list[tuple[dict[str, Any], type[Exception], str]] = [
    # fetch and error
    ({"fetch": None}, TypeError, r"serve\(\) needs fetch=, a function of \(request, server\), or routes="),
    ({"routes": 5, "fetch": None}, TypeError, "routes must be a mapping of paths to what answers them, got int"),
    ({"access_log": 1}, TypeError, "access_log must be True, False or a function, got int"),
    ({"max_head_size": -1}, ValueError, "max_head_size must be at least 0"),
    ({"max_headers": "many"}, TypeError, "max_headers must be an int, got str"),
    ({"max_requests": -1}, ValueError, "max_requests must be at least 0"),
    ({"fetch": "hello"}, TypeError, r"fetch must be a function of \(request, server\), got str"),
    ({"fetch": lambda: None}, TypeError, r"fetch must be a function of \(request, server\)"),
    ({"fetch": lambda a, b, c: None}, TypeError, r"fetch must be a function of \(request, server\)"),
    ({"error": "oops"}, TypeError, r"error must be a function of \(exception\), got str"),
    # port
    ({"port": "3000"}, TypeError, "port must be an int, got str"),
    ({"port": 3000.0}, TypeError, "port must be an int, got float"),
    ({"port": True}, TypeError, "port must be an int, got bool"),
    ({"port": -1}, ValueError, "port must be at least 0, got -1"),
    ({"port": 65_536}, ValueError, "port must be at most 65535, got 65536"),
    # hostname and unix
    ({"hostname": 127}, TypeError, "hostname must be a str, got int"),
    ({"hostname": b"localhost"}, TypeError, "hostname must be a str, got bytes"),
    ({"unix": 5}, TypeError, "unix must be a path, got int"),
    ({"unix": b"chat.sock"}, TypeError, "unix must be a path, got bytes"),
    ({"unix": ""}, ValueError, "unix must not be empty"),
    ({"unix": "chat.sock", "port": 0}, TypeError, "unix takes the place of hostname and port"),
    ({"unix": "chat.sock", "hostname": "localhost"}, TypeError, "unix takes the place of hostname and port"),
    ({"unix": "chat.sock", "reuse_port": 1}, TypeError, "reuse_port must be True or False, got int"),
    # tls
    ({"tls": True}, TypeError, r"tls must be an ssl\.SSLContext, \(cert_path, key_path\), or .* got bool"),
    ({"tls": "cert.pem"}, TypeError, r"tls must be an ssl\.SSLContext, .* got str"),
    ({"tls": ("cert.pem",)}, TypeError, r"tls must be an ssl\.SSLContext, .* got tuple"),
    ({"tls": {"cert": "cert.pem"}}, TypeError, r'tls must have the paths "cert" and "key", got \[\'cert\'\]'),
    ({"tls": {"cert": "a", "key": "b", "ca": "c"}}, TypeError, 'tls must have the paths "cert" and "key"'),
    ({"tls": (__file__, 5)}, TypeError, "tls key must be a path, got int"),
    ({"tls": (5, "key.pem")}, TypeError, "tls cert must be a path, got int"),
    ({"tls": ("/no/such/cert.pem", "/no/such/key.pem")}, FileNotFoundError, "tls cert: no such file"),
    ({"tls": (__file__, "/no/such/key.pem")}, FileNotFoundError, "tls key: no such file"),
    ({"tls": (__file__, __file__)}, ssl.SSLError, "tls: cannot use cert .*test_serve_options.py"),
    # the others
    ({"reuse_port": 1}, TypeError, "reuse_port must be True or False, got int"),
    ({"origins": "https://example.com"}, TypeError, r"origins must be a collection of str, such as \["),
    ({"origins": 5}, TypeError, "origins must be a collection of str"),
    ({"origins": [5]}, TypeError, "origins must hold str, got int"),
    ({"origins": ["example.com"]}, ValueError, r"origins: 'example\.com' is no origin; write scheme://host\[:port\]"),
    ({"origins": ["https://example.com/"]}, ValueError, "origins: .* is no origin"),
    ({"origins": ["https://example.com/chat"]}, ValueError, "origins: .* is no origin"),
    ({"origins": ["https://Example.com"]}, ValueError, "in lower case"),
    ({"origins": ["https://example.com:443"]}, ValueError, "without .* the default port"),
    ({"origins": ["*"]}, ValueError, "origins: .* is no origin"),
    ({"origins": [""]}, ValueError, "origins: .* is no origin"),
    ({"idle_timeout": "10"}, TypeError, "idle_timeout must be a number of seconds, got str"),
    ({"idle_timeout": True}, TypeError, "idle_timeout must be a number of seconds, got bool"),
    ({"idle_timeout": -1}, ValueError, "idle_timeout must be at least 0 and finite, got -1"),
    ({"idle_timeout": float("inf")}, ValueError, "idle_timeout must be at least 0 and finite"),
    ({"idle_timeout": float("nan")}, ValueError, "idle_timeout must be at least 0 and finite"),
    ({"max_request_body_size": 1.5}, TypeError, "max_request_body_size must be an int, got float"),
    ({"max_request_body_size": -1}, ValueError, "max_request_body_size must be at least 0, got -1"),
    ({"max_connections": "many"}, TypeError, "max_connections must be an int, got str"),
    ({"max_connections": -1}, ValueError, "max_connections must be at least 0, got -1"),
    # names
    ({"hostnam": "localhost"}, TypeError, r"serve\(\): unknown option 'hostnam'; did you mean 'hostname'\?"),
    ({"xyz": 1}, TypeError, r"serve\(\): unknown option 'xyz'; known are fetch, routes, websocket, port"),
    ({"maxRequestBodySize": 1}, TypeError, "'maxRequestBodySize' is spelled 'max_request_body_size' in Python"),
    ({"reusePort": True}, TypeError, "'reusePort' is spelled 'reuse_port' in Python"),
    ({"idleTimeout": 5}, TypeError, "'idleTimeout' is spelled 'idle_timeout' in Python"),
    ({"maxConnections": 5}, TypeError, "'maxConnections' is spelled 'max_connections' in Python"),
    # websocket as a whole
    ({"websocket": "chat"}, TypeError, "websocket must be a mapping of handlers and options, or an object .* got str"),
    ({"websocket": 5}, TypeError, "websocket must be a mapping .* got int"),
    ({"websocket": [("open", hello)]}, TypeError, "websocket must be a mapping .* got list"),
    ({"websocket": Bare()}, TypeError, "websocket must have some of the attributes open, message, .* Bare has none"),
    ({"websocket": hello}, TypeError, "websocket must have some of the attributes .* function has none"),
    ({"websocket": Odd()}, TypeError, "websocket: 'maxPayloadLength' is spelled 'max_payload_length' in Python"),
]

WRONG_TABLE: list[tuple[dict[Any, Any], type[Exception], str]] = [
    *(
        ({name: "x"}, TypeError, rf"websocket\.{name} must be a function, plain or async, got str")
        for name in CALLBACKS
    ),
    *(
        ({camel_case(name): 1}, TypeError, f"websocket: '{camel_case(name)}' is spelled '{name}' in Python")
        for name in OPTIONS
    ),
    *(
        ({name: value}, error, rf"websocket\.{name} must be {words}")
        for name in ("max_payload_length", "backpressure_limit")
        for value, error, words in (
            ("1", TypeError, "an int, got str"),
            (1.5, TypeError, "an int, got float"),
            (True, TypeError, "an int, got bool"),
            (-1, ValueError, "at least 0, got -1"),
        )
    ),
    *(
        ({name: value}, TypeError, rf"websocket\.{name} must be True or False, got {type(value).__name__}")
        for name in ("close_on_backpressure_limit", "send_pings", "publish_to_self")
        for value in (1, "yes")
    ),
    ({"idle_timeout": "120"}, TypeError, r"websocket\.idle_timeout must be a number of seconds, got str"),
    ({"idle_timeout": -1}, ValueError, r"websocket\.idle_timeout must be at least 0 and finite, got -1"),
    ({"idle_timeout": float("inf")}, ValueError, r"websocket\.idle_timeout must be at least 0 and finite"),
    ({"per_message_deflate": "shared"}, TypeError, "per_message_deflate must be a boolean or a mapping"),
    ({"per_message_deflate": {"level": 9}}, TypeError, "per_message_deflate has no key 'level'"),
    ({"per_message_deflate": {"compress": "5KB"}}, ValueError, r'per_message_deflate\["compress"\] must be'),
    ({"mesage": hello}, TypeError, r"websocket: unknown option 'mesage'; did you mean 'message'\?"),
    ({"onmessage": hello}, TypeError, r"websocket: unknown option 'onmessage'; did you mean 'message'\?"),
    ({"xyz": 1}, TypeError, "websocket: unknown option 'xyz'; known are open, message"),
    ({5: hello}, TypeError, "websocket: unknown option 5"),
]

WRONG = [
    *(pytest.param(*row, id=str(row[0])) for row in WRONG_SERVE),
    *(pytest.param({"websocket": row[0]}, *row[1:], id=f"websocket={row[0]}") for row in WRONG_TABLE),
]


@pytest.mark.parametrize(("options", "error", "words"), WRONG)
def test_a_wrong_option_raises_at_once_and_leaves_nothing_behind(
    options: dict[str, Any], error: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    port = free_port()
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    arguments: dict[str, Any] = (
        {"fetch": hello} | ({} if "unix" in options else {"port": port, "hostname": "127.0.0.1"}) | options
    )
    with pytest.raises(error, match=words):
        bunws.serve(**arguments)
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert os.listdir(tmp_path) == []
    with socket.socket() as sock:  # without SO_REUSEADDR
        sock.bind(("127.0.0.1", port))


@pytest.mark.parametrize(("options", "error", "words"), WRONG)
async def test_a_wrong_option_raises_at_once_in_a_coroutine_too(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    arguments: dict[str, Any] = (
        {"fetch": hello} | ({} if "unix" in options else {"port": 0, "hostname": "127.0.0.1"}) | options
    )
    with pytest.raises(error, match=words):
        bunws.serve(**arguments)
    gc.collect()  # a socket that was left open warns


def test_options_are_checked_before_the_port() -> None:
    """Who has made two mistakes hears of the one that is his own first."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(TypeError, match="max_connections"):
        bunws.serve(fetch=hello, port=taken.getsockname()[1], hostname="127.0.0.1", max_connections="x")  # type: ignore[arg-type]  # on purpose


def test_a_taken_port_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """localhost has two addresses where the machine speaks IPv6: the first socket must go when the second fails."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        descriptors = len(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError, match=f"port {port} is in use"):
            bunws.serve(fetch=hello, hostname="localhost", port=port)
        assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize("value", ["http", "", "-1", "\uff13000", "99999"])
def test_a_wrong_port_in_the_environment_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", value)
    with pytest.raises(ValueError, match=r"PORT must be a number|port must be at most 65535"):
        bunws.serve(fetch=hello)


def test_an_upgrade_without_websocket_raises_where_it_is_called() -> None:
    errors: list[Exception] = []

    def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response:
        try:
            server.upgrade(request)
        except TypeError as exc:
            errors.append(exc)
        return bunws.Response()

    server = bunws.serve(fetch=fetch, port=0, hostname="127.0.0.1")
    with quiet(server), RawClient(server.port or 0) as client:
        client.get("/", "Upgrade: websocket", "Connection: Upgrade").answer()
    assert [str(exc) for exc in errors] == ["server.upgrade() needs handlers: set websocket={...} in bunws.serve()"]


# What is right, though it may not look like it


class Chat:
    """Handlers as methods."""

    max_payload_length = 100
    other = "an attribute that bunws does not look at"

    def message(self, ws: bunws.ServerWebSocket[None], message: str | bytes) -> None: ...


class Namespace:
    """Handlers as functions in a class that nobody makes an instance of."""

    @staticmethod
    def message(ws: bunws.ServerWebSocket[None], message: str | bytes) -> None: ...


def message(ws: bunws.ServerWebSocket[None], message: str | bytes) -> None:
    """Make this module a table."""


@pytest.mark.parametrize(
    "options",
    [
        {"websocket": {}},
        {"websocket": None},
        {"websocket": dict.fromkeys((*CALLBACKS, *OPTIONS))},
        {"websocket": Chat()},
        {"websocket": Namespace},
        {"websocket": sys.modules[__name__]},
        {"websocket": {"idle_timeout": 0, "max_payload_length": 0, "backpressure_limit": 0}},
        {"websocket": {"idle_timeout": 0.5}},
        {"websocket": {"per_message_deflate": {}}},
        {"websocket": {"per_message_deflate": True}},
        {"error": None, "tls": None, "unix": None, "origins": None, "max_connections": None},
        {"origins": ["https://example.com", "http://localhost:3000", "http://[::1]:8080"]},
        {"origins": set()},
        {"origins": ("https://example.com",)},
        {"idle_timeout": 0},
        {"max_request_body_size": 0},
        {"hostname": ""},
        {"fetch": lambda request: bunws.Response()},
        {"fetch": lambda request, server, more=None: bunws.Response()},
        {"fetch": lambda *args: bunws.Response()},
    ],
    ids=str,
)
def test_these_options_are_fine(options: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"fetch": hello, "port": 0, "hostname": "127.0.0.1"} | options
    with bunws.serve(**arguments) as server:
        assert server.port


def test_a_key_that_does_not_belong_to_the_certificate_is_named(tmp_path: Path) -> None:
    authority = trustme.CA()
    paths = []
    for name in ("one", "other"):
        issued = authority.issue_cert(name)
        paths.append((tmp_path / f"{name}.pem", tmp_path / f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(str(paths[-1][0]))
        issued.private_key_pem.write_to_path(str(paths[-1][1]))
    with pytest.raises(ssl.SSLError, match=r"tls: cannot use cert .*one\.pem with key .*other\.key"):
        bunws.serve(fetch=hello, port=0, tls=(paths[0][0], paths[1][1]))
