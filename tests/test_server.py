"""Server: its whole life, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import trustme
from websockets.asyncio.client import connect
from websockets.sync.client import unix_connect
from yarl import URL

import bunws
from tests.support import PATIENCE, RawClient, RawWebSocket, Script, closed, eventually, hello, patience, quiet, until


LOOPBACK = {"hostname": "127.0.0.1", "port": 0}


def upgrade(request: bunws.Request, server: bunws.Server) -> bunws.Response | None:
    return None if server.upgrade(request, data=request.url.path) else bunws.Response("hello")


def serve(
    fetch: Callable[..., object] = upgrade, websocket: object = None, **options: object
) -> contextlib.AbstractContextManager[bunws.Server]:
    """A server in its own thread, on a free port of 127.0.0.1."""
    table = {} if websocket is None else websocket
    return quiet(bunws.serve(fetch=fetch, websocket=table, **(LOOPBACK | options)))  # type: ignore[arg-type]  # a mix


def serve_here(fetch: Callable[..., object] = upgrade, websocket: object = None, **options: object) -> bunws.Server:
    """A server on the running loop."""
    table = {} if websocket is None else websocket
    return bunws.serve(fetch=fetch, websocket=table, **(LOOPBACK | options))  # type: ignore[arg-type]  # a mix


def port_of(server: bunws.Server) -> int:
    assert server.port is not None
    return server.port


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def echo(ws: bunws.ServerWebSocket[object], message: str | bytes) -> None:
    ws.send(message)


# Listening


def test_serve_returns_a_server_that_listens() -> None:
    with serve() as server, RawClient(port_of(server)) as client:
        assert client.get().answer().body == b"hello"


async def test_serve_in_a_coroutine_listens_before_the_loop_runs_again() -> None:
    async with serve_here() as server:
        with RawClient(port_of(server)):  # it blocks the loop, and the kernel answers
            pass


async def test_a_server_in_a_coroutine_runs_on_its_loop() -> None:
    loops = []

    def fetch(request: bunws.Request) -> bunws.Response:
        loops.append(asyncio.get_running_loop())
        return bunws.Response()

    async with serve_here(fetch) as server, httpx.AsyncClient() as client:
        await client.get(str(server.url))
    assert loops == [asyncio.get_running_loop()]


def test_a_server_without_a_loop_runs_in_one_thread_that_is_no_daemon() -> None:
    before = set(threading.enumerate())
    with serve():
        threads = set(threading.enumerate()) - before
        (thread,) = (thread for thread in threads if not thread.name.startswith("bunws-pool"))
        assert thread.name == "bunws"
        assert not thread.daemon
    assert set(threading.enumerate()) == before


def test_port_0_picks_a_free_one() -> None:
    with serve() as one, serve() as other:
        assert 0 < port_of(one) != port_of(other)


def test_without_a_port_it_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("PORT", str(port))
    with serve(port=None) as server:
        assert server.port == port


def test_a_taken_port_raises_at_once_and_names_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} is in use; choose another") as caught:
            serve(port=port)
    assert caught.value.errno == errno.EADDRINUSE


async def test_a_taken_port_raises_at_once_in_a_coroutine_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="is in use"):
        serve_here(port=taken.getsockname()[1])


def test_a_port_that_is_taken_on_one_address_only_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="is in use"):
        bunws.serve(fetch=hello, port=taken.getsockname()[1])


def test_a_port_is_free_again_once_the_server_has_stopped() -> None:
    with serve() as server, RawClient(port_of(server)) as client:
        client.get().answer()
    with serve(port=server.port) as again:
        assert again.port == server.port


# Addresses


@pytest.mark.parametrize(
    ("hostname", "url"), [("127.0.0.1", "http://127.0.0.1:{}/"), ("::1", "http://[::1]:{}/")], ids=["IPv4", "IPv6"]
)
def test_an_address_is_listened_on(hostname: str, url: str) -> None:
    with serve(hostname=hostname) as server:
        assert server.hostname == hostname
        assert server.url == URL(url.format(server.port))
        with RawClient((hostname, port_of(server))) as client:
            assert client.get().answer().status == 200


def test_localhost_is_listened_on_in_each_family_that_it_has() -> None:
    with serve(hostname="localhost") as server:
        found = {info[4][0] for info in socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)}
        assert found <= {"127.0.0.1", "::1"}
        for address in found:
            with RawClient((str(address), port_of(server))) as client:
                assert client.get().answer().status == 200
        assert server.url == URL(f"http://localhost:{server.port}/")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_by_default_all_interfaces_are_listened_on_in_both_families(address: str) -> None:
    with serve(hostname=None) as server:
        assert server.hostname == "localhost"
        with RawClient((address, port_of(server))) as client:
            assert client.get().answer().status == 200


@pytest.mark.parametrize("hostname", ["no-such-name.invalid", "192.0.2.1"], ids=["unknown", "of another machine"])
def test_a_hostname_that_cannot_be_had_raises_at_once_and_is_named(hostname: str) -> None:
    with pytest.raises(OSError, match=hostname):
        serve(hostname=hostname)


@pytest.mark.parametrize("hostname", ["127.0.0.1", "::1", None])
def test_a_client_that_names_no_host_gets_a_url_all_the_same(hostname: str | None) -> None:
    with serve(lambda request: bunws.Response(str(request.url)), hostname=hostname) as server:
        with RawClient((hostname or "127.0.0.1", port_of(server))) as client:
            answer = client.send(b"GET /a HTTP/1.0\r\n\r\n").answer()
        assert answer.body.decode() == str(server.url / "a")


def test_a_unix_socket_is_listened_on(tmp_path: Path) -> None:
    path = tmp_path / "chat.sock"
    with quiet(bunws.serve(fetch=upgrade, websocket={"message": echo}, unix=path)) as server:
        assert (server.port, server.hostname, server.url) == (None, None, URL(f"unix://{path}"))
        with RawClient(str(path)) as client:
            assert client.get().answer().body == b"hello"
        with unix_connect(str(path), "ws://localhost/") as ws:
            ws.send("over a file")
            assert ws.recv() == "over a file"
    assert not path.exists()


async def test_a_unix_socket_goes_without_a_word_when_its_server_stops(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "chat.sock"
    async with bunws.serve(fetch=hello, unix=path):
        assert path.is_socket()
    assert not path.exists()
    assert caplog.text == ""


def test_a_socket_file_that_a_dead_server_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "chat.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket()
    with quiet(bunws.serve(fetch=hello, unix=path)), RawClient(str(path)) as client:
        assert client.get().answer().status == 200


def test_a_socket_file_on_which_somebody_listens_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "chat.sock"
    with quiet(bunws.serve(fetch=hello, unix=path)):
        with pytest.raises(OSError, match="somebody listens on this socket"):
            bunws.serve(fetch=hello, unix=path)
        with RawClient(str(path)) as client:
            assert client.get().answer().status == 200


def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("dear")
    with pytest.raises(FileExistsError, match="is no socket"):
        bunws.serve(fetch=hello, unix=path)
    assert path.read_text() == "dear"


@pytest.mark.skipif(
    not hasattr(socket, "AF_UNIX") or os.name != "posix" or os.uname().sysname != "Linux", reason="Linux"
)
def test_an_abstract_socket_leaves_no_file() -> None:
    name = f"\0bunws-{os.getpid()}"
    with quiet(bunws.serve(fetch=hello, unix=name)) as server:
        assert server.url.scheme == "unix"
        with RawClient(name) as client:
            assert client.get().answer().status == 200
    assert not Path(name[1:]).exists()


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="this system has no SO_REUSEPORT")
def test_two_servers_share_a_port_when_both_say_so() -> None:
    with serve(reuse_port=True) as one:
        with serve(reuse_port=True, port=one.port) as other:
            assert one.port == other.port
        with RawClient(port_of(one)) as client:  # the one that is left gets all
            assert client.get().answer().status == 200
        with pytest.raises(OSError, match="is in use"):
            serve(port=one.port)


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="module")
def certificate(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The paths of a certificate chain and a key."""
    issued = authority.issue_cert("localhost", "127.0.0.1")
    folder = tmp_path_factory.mktemp("tls")
    chain, key = folder / "chain.pem", folder / "key.pem"
    for pem in issued.cert_chain_pems:
        pem.write_to_path(str(chain), append=True)
    issued.private_key_pem.write_to_path(str(key))
    return chain, key


@pytest.fixture(scope="module", params=["context", "pair", "mapping"])
def tls(request: pytest.FixtureRequest, certificate: tuple[Path, Path]) -> object:
    """Each form that `tls=` takes."""
    chain, key = certificate
    if request.param == "pair":
        return str(chain), key
    if request.param == "mapping":
        return {"cert": chain, "key": str(key)}
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, key)
    return context


# The clients here are asyncio's: one that reads and writes in two threads meets, with OpenSSL below, races of its own.


def test_https_and_wss_are_spoken(tls: object, client_context: ssl.SSLContext) -> None:
    async def talk(url: URL) -> tuple[int | None, str | None]:
        async with httpx.AsyncClient(verify=client_context) as client:
            assert [(await client.get(str(url))).text for _ in range(2)] == ["hello", "hello"]
        async with connect(str(url.with_scheme("wss")), ssl=client_context) as ws:
            for message in ("in private", b"\0" * 100_000):
                await ws.send(message)
                assert await ws.recv() == message
        return ws.close_code, ws.close_reason

    with serve(websocket={"message": echo}, tls=tls) as server:
        assert server.url == URL(f"https://127.0.0.1:{server.port}/")
        assert asyncio.run(talk(server.url)) == (1000, "")


def test_what_the_kernel_takes_at_once_is_not_behind_over_tls(
    certificate: tuple[Path, Path], client_context: ssl.SSLContext
) -> None:
    def message(ws: bunws.ServerWebSocket[object], message: str) -> None:
        codes.append((ws.send("hello"), ws.send(b"\0" * 20_000), ws.send("hello")))

    async def talk(url: URL) -> None:
        async with connect(str(url.with_scheme("wss")), ssl=client_context) as ws:
            for _ in range(3):
                await ws.send("go on")
                assert [len(await ws.recv()) for _ in range(3)] == [5, 20_000, 5]

    codes: list[tuple[int, ...]] = []
    drained: list[object] = []
    with serve(websocket={"message": message, "drain": drained.append}, tls=certificate) as server:
        asyncio.run(talk(server.url))
    assert codes == [(5, 20_000, 5)] * 3
    assert drained == []


def test_stop_says_goodbye_over_tls(certificate: tuple[Path, Path], client_context: ssl.SSLContext) -> None:
    async def talk(server: bunws.Server) -> tuple[int | None, str | None]:
        async with connect(str(server.url.with_scheme("wss")), ssl=client_context) as ws:
            server.stop()
            await ws.wait_closed()
        return ws.close_code, ws.close_reason

    with serve(tls=certificate) as server:
        assert asyncio.run(talk(server)) == (1001, "Server closed")


def test_a_request_over_tls_knows_that_it_is_one(
    certificate: tuple[Path, Path], client_context: ssl.SSLContext
) -> None:
    with (
        serve(lambda request: bunws.Response(request.url.scheme), tls=certificate) as server,
        httpx.Client(verify=client_context) as client,
    ):
        assert client.get(str(server.url)).text == "https"


def test_a_client_that_speaks_plain_text_to_tls_is_dropped(certificate: tuple[Path, Path]) -> None:
    with serve(tls=certificate) as server, RawClient(port_of(server)) as client:
        client.get()
        with contextlib.suppress(ConnectionResetError):
            assert b"HTTP" not in client.rest()


# Without uvloop


def test_a_server_runs_on_the_loop_of_asyncio_where_uvloop_is_missing(tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["uvloop"] = None
import asyncio, bunws
def fetch(request, server):
    if request.url.path == "/chat" and server.upgrade(request):
        return None
    return bunws.Response(type(asyncio.get_running_loop()).__module__)
def message(ws, message):
    ws.send(message)
with bunws.serve(fetch=fetch, websocket={{"message": message}}, port=0, hostname="127.0.0.1") as server:
    with bunws.serve(fetch=fetch, unix={str(tmp_path / "chat.sock")!r}):
        print(server.port)
        input()
print("stopped")
"""
    with Script(code, stdin=True) as script:
        port = int(script.line())
        for address in (port, str(tmp_path / "chat.sock")):
            with RawClient(address) as client:
                assert client.get().answer().body.startswith(b"asyncio.")
        with RawWebSocket(port, "/chat") as ws:
            assert ws.say("hello").hear_text() == "hello"
            ws.say("x" * 200_000)
            assert ws.hear_text() == "x" * 200_000
            script.enter()
            assert ws.hear_close() == (1001, "Server closed")
            ws.say_close(1001)
            assert ws.rest() == b""
        assert script.end() == (0, "stopped\n", "")


# From other threads

ROOM = {"open": lambda ws: ws.subscribe("room")}


def test_publish_from_another_thread_reaches_the_sockets_and_returns_the_bytes() -> None:
    with serve(websocket=ROOM) as server, RawWebSocket(port_of(server)) as ws:
        assert server.publish("room", "grüße") == 7
        assert server.publish("room", b"\0\1") == 2
        assert server.publish("elsewhere", "nobody") == 0
        assert ws.hear() == (1, "grüße".encode())
        assert ws.hear() == (2, b"\0\1")


def test_publish_from_another_thread_raises_there() -> None:
    with serve(websocket=ROOM) as server, RawWebSocket(port_of(server)):
        with pytest.raises(TypeError, match=r"json\.dumps"):
            server.publish("room", {"a": 1})  # type: ignore[arg-type]  # on purpose
        with pytest.raises(ValueError, match="topic must not be empty"):
            server.publish("", "hello")


def test_many_threads_publish_at_once_and_each_gets_its_own_answer() -> None:
    def publish(size: int) -> int:
        return server.publish("room", "x" * size)

    sizes = list(range(1, 401))
    with serve(websocket=ROOM) as server, RawWebSocket(port_of(server)) as ws:
        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(publish, sizes)) == sizes
        assert sorted(len(ws.hear_text()) for _ in sizes) == sizes


def test_messages_of_one_thread_keep_their_order() -> None:
    with serve(websocket=ROOM) as server, RawWebSocket(port_of(server)) as ws:
        for number in range(100):
            server.publish("room", str(number))
        assert [ws.hear_text() for _ in range(100)] == [str(number) for number in range(100)]


def test_publish_after_the_end_returns_0() -> None:
    with serve(websocket=ROOM) as server:
        closed(server)
        assert server.publish("room", "hello") == 0


async def test_publish_after_the_end_returns_0_in_a_coroutine_and_from_a_thread() -> None:
    async with serve_here() as server:
        pass
    assert server.publish("room", "hello") == 0
    assert await asyncio.to_thread(server.publish, "room", "hello") == 0


async def test_publish_from_a_thread_reaches_a_server_that_runs_in_a_coroutine() -> None:
    async with serve_here(websocket=ROOM) as server:
        ws = await asyncio.to_thread(RawWebSocket, port_of(server))
        with ws:
            assert await asyncio.to_thread(server.publish, "room", "hello") == 5
            assert await asyncio.to_thread(ws.hear_text) == "hello"


def test_threads_that_publish_while_the_server_stops_all_get_an_answer() -> None:
    began, done = threading.Barrier(9), threading.Event()

    def publish(_: int) -> set[int]:
        began.wait(PATIENCE)
        answers = set()
        while not done.is_set():
            answers.add(server.publish("room", "x"))
        answers.add(server.publish("room", "x"))
        return answers

    with serve(websocket=ROOM) as server, RawWebSocket(port_of(server)), ThreadPoolExecutor(8) as pool:
        answers = pool.map(publish, range(8))
        began.wait(PATIENCE)
        server.stop(timeout=0)
        closed(server)
        done.set()
        assert all(0 in found <= {-1, 0, 1} for found in answers)


# Stopping


def test_stop_tells_every_websocket_and_its_close_handler_1001() -> None:
    told = []
    table = {"close": lambda ws, code, reason: told.append((code, reason, ws.ready_state))}
    with serve(websocket=table) as server, RawWebSocket(port_of(server)) as one, RawWebSocket(port_of(server)) as two:
        server.stop()
        for ws in (one, two):
            assert ws.hear_close() == (1001, "Server closed")
            ws.say_close(1001)
            assert ws.rest() == b""
            ws.close()
        closed(server)
    assert told == [(1001, "Server closed", bunws.ReadyState.CLOSED)] * 2


def test_stop_accepts_no_connection_any_more() -> None:
    with serve() as server, RawWebSocket(port_of(server)) as ws:
        server.stop()
        ws.hear_close()
        with pytest.raises((ConnectionRefusedError, ConnectionResetError)):
            RawClient(port_of(server))


def test_stop_lets_a_request_that_is_being_answered_finish() -> None:
    reached, go_on = threading.Event(), threading.Event()

    async def fetch(request: bunws.Request) -> bunws.Response:
        reached.set()
        await asyncio.to_thread(go_on.wait, PATIENCE)
        return bunws.Response("at last")

    with serve(fetch) as server, RawClient(port_of(server)) as client, RawClient(port_of(server)) as idle:
        client.get()
        assert reached.wait(PATIENCE)
        server.stop()
        assert idle.rest() == b""  # so it has begun to stop
        go_on.set()
        answer = client.answer()
        assert (answer.status, answer.body, answer.headers["Connection"]) == (200, b"at last", "close")
        assert client.rest() == b""
        client.close()
        closed(server)


def test_stop_closes_a_connection_that_idles_between_two_requests() -> None:
    with serve() as server, RawClient(port_of(server)) as client:
        assert client.get().answer().status == 200
        server.stop()
        assert client.rest() == b""
        closed(server)


def test_stop_drops_a_peer_that_never_answers_when_time_is_up() -> None:
    told = []
    table = {"close": lambda ws, code, reason: told.append(code)}
    with serve(websocket=table) as server, RawWebSocket(port_of(server)) as ws:
        server.stop(timeout=0.05)
        closed_by_itself(server)
        assert told == [1001]
        assert ws.hear_close()[0] == 1001


def test_stop_drops_a_request_that_is_never_answered_when_time_is_up() -> None:
    cancelled = threading.Event()

    async def fetch(request: bunws.Request) -> bunws.Response:
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    reached = threading.Event()
    with serve(fetch) as server, RawClient(port_of(server)) as client:
        client.get()
        assert reached.wait(PATIENCE)
        server.stop(timeout=0.05)
        closed_by_itself(server)
        assert cancelled.is_set()
        with contextlib.suppress(ConnectionResetError):
            assert client.rest() == b""


def test_stop_at_once_drops_all() -> None:
    told = []
    table = {"close": lambda ws, code, reason: told.append((code, reason))}
    with serve(websocket=table) as server, RawWebSocket(port_of(server)):
        server.stop(close_active_connections=True)
        closed_by_itself(server)
    assert told == [(1001, "Server closed")]


def closed_by_itself(server: bunws.Server) -> None:
    """Wait until it has stopped, without another call of `stop`."""

    async def wait() -> None:
        async with asyncio.timeout(PATIENCE):
            await server.wait_closed()

    asyncio.run(wait())


def test_a_second_stop_grants_no_more_time() -> None:
    with serve() as server, RawWebSocket(port_of(server)) as ws:
        server.stop(timeout=0.2)
        assert ws.hear_close()[0] == 1001
        server.stop(timeout=3600)
        closed_by_itself(server)


def test_a_second_stop_may_be_less_patient() -> None:
    with serve() as server, RawWebSocket(port_of(server)) as ws:
        server.stop(timeout=3600)
        assert ws.hear_close()[0] == 1001
        server.stop(timeout=0)
        closed_by_itself(server)


def test_stop_after_the_end_does_nothing() -> None:
    with serve() as server:
        closed(server)
        server.stop()
        closed(server)


def test_a_handler_may_stop_its_server() -> None:
    def message(ws: bunws.ServerWebSocket[object], message: str) -> None:
        ws.send("as you wish")
        server.stop()

    with serve(websocket={"message": message}) as server, RawWebSocket(port_of(server)) as ws:
        ws.say("stop")
        assert ws.hear_text() == "as you wish"
        assert ws.hear_close() == (1001, "Server closed")
        ws.say_close().close()
        closed_by_itself(server)


def test_fetch_may_stop_its_server_and_still_answers() -> None:
    def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response:
        server.stop()
        return bunws.Response("goodbye")

    with serve(fetch) as server, RawClient(port_of(server)) as client:
        assert client.get().answer().body == b"goodbye"
        assert client.rest() == b""
        closed_by_itself(server)


async def test_an_async_handler_may_not_wait_for_the_end_that_waits_for_it_but_the_deadline_frees_both() -> None:
    ended: list[str] = []

    async def message(ws: bunws.ServerWebSocket[object], message: str) -> None:
        try:
            await server.stop(timeout=0.05)
        finally:
            ended.append(message)

    async with serve_here(websocket={"message": message}) as server:
        with await asyncio.to_thread(RawWebSocket, port_of(server)) as ws:
            ws.say("stop")
            await server.wait_closed()
    assert ended == ["stop"]


async def test_stop_and_wait_closed_may_be_awaited() -> None:
    server = serve_here()
    waiting = asyncio.create_task(_await(server.wait_closed()))
    assert await server.stop() is None  # type: ignore[func-returns-value]  # that is the question
    await waiting
    await server.wait_closed()


async def _await(awaitable: object) -> None:
    await awaitable  # type: ignore[misc]  # any awaitable


async def test_the_end_may_be_awaited_on_another_loop() -> None:
    async with serve_here() as server:
        other = asyncio.create_task(asyncio.to_thread(asyncio.run, _await(server.wait_closed())))
        await until(lambda: server._life._waiters)
        await asyncio.to_thread(asyncio.run, _await(server.stop()))
        await other


async def test_who_gives_up_waiting_does_not_stop_the_server() -> None:
    async with serve_here() as server:
        waiting = asyncio.create_task(_await(server.wait_closed()))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert "listening" in repr(server)


def test_a_with_block_stops_the_server_and_waits_for_its_thread() -> None:
    with bunws.serve(fetch=hello, port=0, hostname="127.0.0.1") as server:
        assert "listening" in repr(server)
    assert "closed" in repr(server)
    assert "bunws" not in [thread.name for thread in threading.enumerate()]


def test_a_with_block_stops_the_server_when_it_raises() -> None:
    with pytest.raises(ZeroDivisionError), bunws.serve(fetch=hello, port=0, hostname="127.0.0.1") as server:
        raise ZeroDivisionError
    assert "closed" in repr(server)


async def test_a_plain_with_block_is_refused_where_a_loop_runs() -> None:
    server = serve_here()
    try:
        with pytest.raises(RuntimeError, match="async with"), server:
            raise AssertionError("never reached")
    finally:
        await server.stop()


async def test_a_server_may_be_stopped_before_it_has_begun() -> None:
    server = serve_here()
    await server.stop()
    with socket.create_server(("127.0.0.1", port_of(server))):
        pass


async def test_a_server_may_be_stopped_at_once_before_it_has_begun() -> None:
    server = serve_here()
    await server.stop(close_active_connections=True)
    with socket.create_server(("127.0.0.1", port_of(server))):
        pass


def test_stop_while_two_hundred_clients_publish() -> None:
    told: list[int] = []
    heard = threading.Event()

    def message(ws: bunws.ServerWebSocket[object], message: str) -> None:
        ws.publish("room", message)
        messages.append(message)
        if len(messages) == 1000:
            server.stop()
            heard.set()

    messages: list[str] = []
    table = {**ROOM, "message": message, "close": lambda ws, code, reason: told.append(code)}
    with serve(websocket=table) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawWebSocket(port_of(server))) for _ in range(200)]

        def write() -> None:
            while not heard.is_set():
                for client in clients:
                    with contextlib.suppress(ConnectionError):
                        client.say("hello")

        writer = threading.Thread(target=write)
        writer.start()
        for client in clients:
            frame = client.hear()
            while frame[0] == 1:
                assert frame[1] == b"hello"
                frame = client.hear()
            assert (frame[0], int.from_bytes(frame[1][:2], "big")) == (8, 1001)
        writer.join(PATIENCE)
        for client in clients:
            client.say_close(1001).close()
        closed_by_itself(server)
    assert told == [1001] * 200


def test_a_stop_leaves_no_thread_and_no_descriptor() -> None:
    with serve():
        pass  # what the first server of a process needs for ever
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    with serve() as server, RawWebSocket(port_of(server)), RawClient(port_of(server)) as client:
        client.get().answer()
    server._life._thread.join()  # type: ignore[union-attr]  # it has one
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, descriptors)


async def test_a_stop_leaves_no_task_and_no_descriptor_and_no_timer() -> None:
    async with serve_here():
        pass
    tasks, descriptors = asyncio.all_tasks(), len(os.listdir("/proc/self/fd"))

    async def message(ws: bunws.ServerWebSocket[object], message: str) -> None:
        await asyncio.Event().wait()

    async with serve_here(websocket={"message": message}) as server:
        ws = await asyncio.to_thread(RawWebSocket, port_of(server))
        client = await asyncio.to_thread(RawClient, port_of(server))
        ws.say("hang")
        await until(lambda: len(asyncio.all_tasks()) > len(tasks))
        await server.stop(timeout=0)
        ws.close()
        client.close()
    await until(lambda: asyncio.all_tasks() == tasks)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert server._life._sweep_timer is not None
    assert server._life._sweep_timer.cancelled()


# Reloading


def test_reload_takes_another_fetch_and_error() -> None:
    def broken(request: bunws.Request) -> bunws.Response:
        raise ValueError("secret")

    with serve() as server, RawClient(port_of(server)) as client:
        assert client.get().answer().body == b"hello"
        assert server.reload(fetch=lambda request: bunws.Response("other")) is server
        assert client.get().answer().body == b"other"
        server.reload(fetch=broken, error=lambda exc: bunws.Response(type(exc).__name__, 418))
        answer = client.get().answer()
        assert (answer.status, answer.body) == (418, b"ValueError")


def test_reload_moves_open_sockets_to_the_new_handlers() -> None:
    told = []
    with serve(websocket={"message": lambda ws, message: ws.send("old")}) as server:
        with RawWebSocket(port_of(server)) as ws:
            assert ws.say("hello").hear_text() == "old"
            table = {
                "message": lambda ws, message: ws.send("new"),
                "close": lambda ws, code, reason: told.append(code),
            }
            server.reload(websocket=table)
            assert ws.say("hello").hear_text() == "new"
            ws.say_close(4000)
            assert ws.hear_close()[0] == 4000
        eventually(lambda: told)
    assert told == [4000]


def test_reload_drops_the_handlers_that_it_is_not_given() -> None:
    heard = threading.Event()
    with serve(websocket={"message": echo}) as server, RawWebSocket(port_of(server)) as ws:
        server.reload(websocket={"ping": lambda ws, data: heard.set()})
        ws.say("nobody hears it").say(b"", 9)
        assert ws.hear() == (10, b"")
        assert heard.wait(PATIENCE)


@pytest.mark.parametrize("first", ["small", "large"])
def test_reload_gives_open_sockets_a_smaller_max_payload_length(first: str) -> None:
    with serve(websocket={"message": echo}) as server, RawWebSocket(port_of(server)) as ws:
        assert ws.say("x" * 200).hear_text() == "x" * 200
        server.reload(websocket={"message": echo, "max_payload_length": 100})
        if first == "small":
            assert ws.say("x" * 100).hear_text() == "x" * 100
        assert ws.say("x" * 101).hear_close() == (1009, "Received too big message")


def test_reload_gives_open_sockets_a_larger_max_payload_length_behind_their_next_message() -> None:
    table = {"message": echo, "max_payload_length": 100}
    with serve(websocket=table) as server, RawWebSocket(port_of(server)) as ws:
        assert ws.say("x" * 100).hear_text() == "x" * 100
        server.reload(websocket={"message": echo})
        assert ws.say("x").hear_text() == "x"
        assert ws.say("x" * 101).hear_text() == "x" * 101


async def test_reload_gives_open_sockets_another_backpressure_limit() -> None:
    sockets: list[bunws.ServerWebSocket[object]] = []
    async with serve_here(websocket={"open": sockets.append}) as server:
        with await asyncio.to_thread(RawWebSocket, port_of(server)) as client:
            (ws,) = sockets
            while ws.send(b"x" * 100_000) > 0:
                pass  # until the kernel is full
            assert ws.send(b"x") == -1
            server.reload(websocket={"backpressure_limit": 10})
            assert ws.send(b"x" * 20_000) == -1
            assert ws.send(b"x") == 0
            ws.terminate()
            client.reset()


async def test_reload_gives_open_sockets_another_idle_timeout() -> None:
    codes: list[int] = []
    table = {"close": lambda ws, code, reason: codes.append(code), "send_pings": False}
    async with serve_here(websocket=table) as server:
        with await asyncio.to_thread(RawWebSocket, port_of(server)):
            server.reload(websocket={**table, "idle_timeout": 8})
            for _ in range(patience(server).close):
                assert codes == []
                server._guests.sweeper.sweep()
            await until(lambda: codes)
    assert codes == [1006]


@pytest.mark.parametrize(
    "wrong",
    [
        {"websocket": {"message": 5}},
        {"websocket": {"onMessage": echo}},
        {"websocket": {}, "fetch": 5},
        {"websocket": {}, "fetch": lambda: None},
        {"websocket": {}, "error": "oops"},
        {"websocket": {}, "fetch": hello, "error": 5},
    ],
)
def test_a_reload_that_raises_changes_nothing(wrong: dict[str, object]) -> None:
    with serve(websocket={"message": echo}) as server, RawWebSocket(port_of(server)) as ws:
        with pytest.raises(TypeError):
            server.reload(**wrong)  # type: ignore[arg-type]  # on purpose
        assert ws.say("hello").hear_text() == "hello"
        with RawWebSocket(port_of(server)) as other:
            assert other.handshake.status == 101


def test_reload_cannot_give_websockets_to_a_server_without() -> None:
    with (
        quiet(bunws.serve(fetch=hello, port=0, hostname="127.0.0.1")) as server,
        pytest.raises(TypeError, match=r"started with websocket="),
    ):
        server.reload(websocket={})


# Many connections


def test_connections_past_the_limit_are_answered_with_503_until_there_is_room() -> None:
    with serve(max_connections=2) as server:
        with RawWebSocket(port_of(server)) as ws, RawClient(port_of(server)) as client:
            assert client.get().answer().status == 200
            with RawClient(port_of(server)) as third:
                answer = third.answer()
                assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
                assert third.rest() == b""
            assert client.get().answer().status == 200
            assert ws.say(b"still", 9).hear() == (10, b"still")

        def there_is_room() -> bool:
            with RawClient(port_of(server)) as again:
                return again.get().answer().status == 200

        eventually(there_is_room)


# What it knows


def test_it_says_how_it_is() -> None:
    with serve() as server:
        assert repr(server) == f"<Server http://127.0.0.1:{server.port}/ listening websockets=0>"
        with RawWebSocket(port_of(server)) as ws:
            assert repr(server).endswith("listening websockets=1>")
            server.stop()
            ws.hear_close()
            assert " stopping " in repr(server)
            ws.say_close().close()
            closed(server)
        assert repr(server).endswith(" closed websockets=0>")


def test_pending_requests_are_those_that_are_being_answered() -> None:
    go_on = threading.Event()

    async def fetch(request: bunws.Request) -> bunws.Response:
        await asyncio.to_thread(go_on.wait, PATIENCE)
        return bunws.Response()

    with serve(fetch) as server, RawClient(port_of(server)) as one, RawClient(port_of(server)) as two:
        assert server.pending_requests == 0
        one.get()
        eventually(lambda: server.pending_requests == 1)
        two.get()
        eventually(lambda: server.pending_requests == 2)
        go_on.set()
        assert [client.answer().status for client in (one, two)] == [200, 200]
        eventually(lambda: server.pending_requests == 0)


def test_pending_websockets_are_those_that_are_open() -> None:
    seen = []

    def close(ws: bunws.ServerWebSocket[object], code: int, reason: str) -> None:
        seen.append(server.pending_websockets)

    with serve(websocket={"close": close}) as server:
        assert server.pending_websockets == 0
        with RawWebSocket(port_of(server)), RawWebSocket(port_of(server)) as two:
            assert server.pending_websockets == 2
            assert server.pending_requests == 0
            two.say_close().hear_close()
            eventually(lambda: server.pending_websockets == 1)
    assert len(seen) == 2


def test_subscriber_count_counts() -> None:
    with serve(websocket=ROOM) as server:
        assert server.subscriber_count("room") == 0
        with RawWebSocket(port_of(server)), RawWebSocket(port_of(server)):
            assert server.subscriber_count("room") == 2
            assert server.subscriber_count("elsewhere") == 0
        eventually(lambda: server.subscriber_count("room") == 0)


@pytest.mark.parametrize(
    ("hostname", "address", "family"),
    [
        ("127.0.0.1", "127.0.0.1", "IPv4"),
        ("::1", "::1", "IPv6"),
        (None, "127.0.0.1", "IPv4"),
        (None, "::1", "IPv6"),
    ],
)
def test_request_ip_and_remote_address_say_where_a_client_is(hostname: str | None, address: str, family: str) -> None:
    def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response | None:
        found.append(server.request_ip(request))
        return None if server.upgrade(request) else bunws.Response()

    found: list[object] = []
    opened: list[str] = []
    table = {"open": lambda ws: opened.append(ws.remote_address)}
    with serve(fetch, table, hostname=hostname) as server, RawClient((address, port_of(server))) as client:
        client.get().answer()
        assert found == [bunws.SocketAddress(address, family, client.socket.getsockname()[1])]
        with RawWebSocket((address, port_of(server))):
            assert opened == [address]


def test_a_client_on_a_unix_socket_has_no_address(tmp_path: Path) -> None:
    def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response | None:
        found.append(server.request_ip(request))
        return None if server.upgrade(request) else bunws.Response()

    found: list[object] = []
    table = {"open": lambda ws: found.append(ws.remote_address)}
    path = str(tmp_path / "chat.sock")
    with quiet(bunws.serve(fetch=fetch, websocket=table, unix=path)), RawWebSocket(path):
        assert found == [None, ""]


async def test_request_ip_is_none_in_process_and_when_the_client_has_gone() -> None:
    requests = []

    async def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response:
        requests.append(request)
        if request.url.path == "/wait":
            await gone.wait()
        return bunws.Response(repr(server.request_ip(request)))

    gone = asyncio.Event()
    async with serve_here(fetch) as server:
        assert await (await server.fetch("/")).text() == "None"
        client = await asyncio.to_thread(RawClient, port_of(server))
        client.get("/wait")
        await until(lambda: len(requests) == 2)
        assert server.request_ip(requests[-1]) is not None
        client.reset()
        await until(lambda: not server.pending_requests)
        assert server.request_ip(requests[-1]) is None
        gone.set()


async def test_timeout_lets_one_connection_idle_longer_or_shorter() -> None:
    def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response:
        if "s" in request.url.query:
            server.timeout(request, float(request.url.query["s"]))
        return bunws.Response()

    async with serve_here(fetch, idle_timeout=10) as server, contextlib.AsyncExitStack() as stack:
        for path in ("/", "/?s=5", "/?s=20", "/?s=0"):
            client = await asyncio.to_thread(RawClient, port_of(server))
            stack.callback(client.close)
            await asyncio.to_thread(client.get(path).answer)
        left = []
        for _ in range(12):  # ticks of 2.5 s
            server._guests.sweeper.sweep()
            for _ in range(3):
                await asyncio.sleep(0)
            left.append(len(server._guests.connections))
        assert left == [4, 4, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1]


def test_timeout_of_a_request_that_came_in_process_does_nothing() -> None:
    with serve() as server:
        server.timeout(bunws.Request("http://localhost/"), 5)


# In process


async def test_fetch_asks_the_handler_in_process() -> None:
    async def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response:
        return bunws.Response(f"{request.method} {request.url} {await request.text()}")

    async with serve_here(fetch) as server:
        assert await (await server.fetch("/a?b=c")).text() == f"GET {server.url}a?b=c "
        request = bunws.Request("http://example.com/", method="POST", body="hello")
        assert await (await server.fetch(request)).text() == "POST http://example.com/ hello"
        assert await (await server.fetch(URL("http://example.com/x"))).text() == "GET http://example.com/x "


async def test_fetch_in_process_raises_what_the_handler_raises_or_asks_the_error_handler() -> None:
    async def fetch(request: bunws.Request) -> bunws.Response:
        raise ValueError("broken")

    async def error(exc: Exception) -> bunws.Response:
        return bunws.Response(str(exc), status=500)

    async with serve_here(fetch) as server:
        with pytest.raises(ValueError, match="broken"):
            await server.fetch("/")
        server.reload(error=error)
        response = await server.fetch("/")
        assert (response.status, await response.text()) == (500, "broken")


async def test_fetch_in_process_gives_no_response_that_cannot_be_sent() -> None:
    def fetch(request: bunws.Request) -> bunws.Response:
        response = bunws.Response("hello")
        response.headers["X-Evil"] = "a\r\nSet-Cookie: b"
        return response

    async def answer(exc: Exception) -> bunws.Response:
        return bunws.Response(str(exc)[:15], 503)

    async with serve_here(fetch) as server:
        with pytest.raises(ValueError, match="X-Evil"):
            await server.fetch("/")
    async with serve_here(fetch, error=answer) as server:
        response = await server.fetch("/")
        assert (response.status, await response.text()) == (503, "header 'X-Evil'")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("POST", 205), ("GET", 304)])
@pytest.mark.parametrize("streams", [False, True], ids=["bytes", "stream"])
async def test_fetch_in_process_gives_no_content_that_no_client_would_get(
    method: str, status: int, streams: bool
) -> None:
    closed = asyncio.Event()

    class Content:
        def __iter__(self) -> Iterator[str]:
            raise AssertionError("nobody reads it")

        def close(self) -> None:
            closed.set()

    def fetch(request: bunws.Request) -> bunws.Response:
        return bunws.Response(Content() if streams else "content", status, {"X-A": "b"}, status_text="So")

    async with serve_here(fetch) as server:
        response = await server.fetch("/", method=method)
        assert (response.status, response.status_text, response.headers["X-A"]) == (status, "So", "b")
        assert (response.body, await response.bytes()) == (None, b"")
    assert closed.is_set() is streams


async def test_fetch_in_process_tells_who_returns_no_response() -> None:
    async with serve_here(lambda request: "hello") as server:
        with pytest.raises(TypeError, match=r"must return a bunws\.Response, got 'hello'"):
            await server.fetch("/")


async def test_fetch_in_process_takes_what_a_request_is_made_of_and_answers_http_errors() -> None:
    async def fetch(request: bunws.Request) -> bunws.Response:
        if request.method == "DELETE":
            raise bunws.HTTPError(404, "No such note")
        return bunws.Response.json([request.method, request.headers.get("X"), await request.json()])

    async with bunws.serve(fetch=fetch, **LOOPBACK) as server:  # type: ignore[arg-type]  # a mapping of options
        response = await server.fetch("/", method="POST", headers={"X": "y"}, body="[1]")
        assert await response.json() == ["POST", "y", [1]]
        for init, status in ({"method": "DELETE"}, 404), ({"method": "POST", "body": "{"}, 400):
            assert (await server.fetch("/", **init)).status == status
        with pytest.raises(TypeError, match="has its method already"):
            await server.fetch(bunws.Request("http://a/"), method="POST")


async def test_fetch_in_process_cannot_be_upgraded() -> None:
    async with serve_here() as server:
        headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
        response = await server.fetch(bunws.Request("http://localhost/", headers=headers))
        assert await response.text() == "hello"


# Upgrading


def test_an_upgrade_without_websocket_says_what_is_missing() -> None:
    def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response:
        server.upgrade(request)
        return bunws.Response()

    def error(exc: Exception) -> bunws.Response:
        assert isinstance(exc, TypeError)
        return bunws.Response(str(exc), status=500)

    with (
        quiet(bunws.serve(fetch=fetch, error=error, port=0, hostname="127.0.0.1")) as server,
        RawClient(port_of(server)) as client,
    ):
        assert b"set websocket={...} in bunws.serve()" in client.get().answer().body


@pytest.fixture(autouse=True)
def _no_server_is_left() -> Iterator[None]:
    yield
    assert "bunws" not in [thread.name for thread in threading.enumerate()]


def test_connections_of_one_address_are_limited_and_counted_through_upgrades(caplog: pytest.LogCaptureFixture) -> None:
    with serve(websocket={"message": lambda ws, message: ws.send(message)}, max_connections_per_ip=2) as server:
        with RawWebSocket(port_of(server)) as ws, RawClient(port_of(server)) as client:
            assert client.get().answer().status == 200
            with RawClient(port_of(server)) as third:
                assert third.answer().status == 503
            assert ws.say("still served").hear_text() == "still served"
        eventually(lambda: not server._guests)
        with RawClient(port_of(server)) as again, RawClient(port_of(server)) as second:
            assert [one.get().answer().status for one in (again, second)] == [200, 200]
    assert "connections over max_connections_per_ip=2 are answered with 503" in caplog.text
