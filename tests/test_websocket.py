"""ServerWebSocket and the upgrade: what handlers see, what they may do, and what a client gets of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect

import bunws
from bunws.websocket import ReadyState
from tests.clients import (
    EACH_LOOP,
    KEY,
    Client,
    Frame,
    binary,
    close,
    connected,
    connection,
    frame,
    handshake,
    on_loop,
    ping,
    pong,
    serving,
    text,
    until,
)
from tests.fakes import FakeServer


LOOP_FACTORIES = EACH_LOOP

Socket = bunws.ServerWebSocket[Any]


def echo(ws: Socket, message: str | bytes) -> None:
    ws.send(message)


@asynccontextmanager
async def dialled(server: bunws.Server, **options: Any) -> AsyncIterator[ClientConnection]:
    """An open connection of the `websockets` client."""
    async with connect(f"ws://127.0.0.1:{server.port}/", compression=None, max_size=None, **options) as client:
        yield client


# The opening handshake


GOOD: dict[str, dict[str, str | list[str] | None]] = {
    "plain": {},
    "firefox": {"Connection": "keep-alive, Upgrade"},
    "lower_case": {"Upgrade": "websocket", "Connection": "upgrade"},
    "upper_case": {"Upgrade": "WEBSOCKET", "Connection": "UPGRADE"},
    "upgrade_is_a_list": {"Upgrade": "h2c, WebSocket"},
    "several_connection_lines": {"Connection": ["keep-alive", "x, Upgrade"]},
    "several_upgrade_lines": {"Upgrade": ["h2c", "websocket"]},
    "tabs_and_spaces": {"Connection": " \tkeep-alive\t , \t Upgrade \t"},
    "unknown_extension": {"Sec-WebSocket-Extensions": "x-nothing; a=1"},
    "compression_that_the_server_does_not_do": {"Sec-WebSocket-Extensions": "permessage-deflate"},
}


@pytest.mark.parametrize("name", GOOD)
async def test_handshake_of_any_good_client_is_accepted(name: str) -> None:
    async with serving({"message": echo}) as server, connected(server, GOOD[name]) as client:
        assert client.answer.all("Upgrade") == ["websocket"]
        assert client.answer.all("Connection") == ["Upgrade"]
        assert client.answer.all("Sec-WebSocket-Extensions") == []
        assert client.answer.all("Sec-WebSocket-Protocol") == []
        await client.send(text("hi"))
        assert await client.receive() == Frame.text("hi")


BAD: dict[str, tuple[str, dict[str, str | list[str] | None], int]] = {
    "post": ("POST / HTTP/1.1", {}, 405),
    "http_1_0": ("GET / HTTP/1.0", {}, 400),
    "no_connection": ("GET / HTTP/1.1", {"Connection": None}, 400),
    "connection_without_upgrade": ("GET / HTTP/1.1", {"Connection": "keep-alive"}, 400),
    "no_key": ("GET / HTTP/1.1", {"Sec-WebSocket-Key": None}, 400),
    "two_keys": ("GET / HTTP/1.1", {"Sec-WebSocket-Key": [KEY, KEY]}, 400),
    "key_too_short": ("GET / HTTP/1.1", {"Sec-WebSocket-Key": "c2hvcnQ="}, 400),
    "key_not_base64": ("GET / HTTP/1.1", {"Sec-WebSocket-Key": "!" * 24}, 400),
    "version_8": ("GET / HTTP/1.1", {"Sec-WebSocket-Version": "8"}, 426),
    "no_version": ("GET / HTTP/1.1", {"Sec-WebSocket-Version": None}, 426),
    "body": ("GET / HTTP/1.1", {"Content-Length": "5"}, 400),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_handshake_is_refused_whatever_the_handler_returns_and_opens_nothing(name: str) -> None:
    line, changes, status = BAD[name]
    opened: list[object] = []
    upgrades: list[bool] = []

    def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response:
        upgrades.append(server.upgrade(request))
        return bunws.Response("all is well")

    async with serving({"open": opened.append}, fetch=fetch) as server, connection(server) as client:
        await client.send(handshake(changes, line=line))
        answer = await client.receive_answer()

        assert answer.status == status
        assert answer.all("Sec-WebSocket-Version") == (["13"] if status == 426 else [])
        assert b"all is well" not in answer.body
        assert (opened, upgrades) == ([], [False])


async def test_request_without_upgrade_is_answered_by_fetch() -> None:
    async with serving({}) as server, connection(server) as client:
        for changes in ({"Upgrade": None}, {"Upgrade": "h2c"}):
            await client.send(handshake({**changes, "Connection": None}))
            assert (await client.receive_answer())[0::2] == (400, b"no websocket")


async def test_handshake_may_come_byte_by_byte() -> None:
    async with serving({"message": echo}) as server, connection(server) as client:
        for byte in handshake() + text("hi"):
            await client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.receive_answer()).status == 101
        assert await client.receive() == Frame.text("hi")


async def later(request: bunws.Request, server: bunws.Server) -> bunws.Response | None:
    """Upgrade in another turn than the one in which the request was read."""
    await asyncio.sleep(0)
    return None if server.upgrade(request) else bunws.Response(status=400)


async def at_once(request: bunws.Request, server: bunws.Server) -> bunws.Response | None:
    return None if server.upgrade(request) else bunws.Response(status=400)


def plainly(request: bunws.Request, server: bunws.Server) -> bunws.Response | None:
    return None if server.upgrade(request) else bunws.Response(status=400)


@pytest.mark.parametrize("fetch", [plainly, at_once, later])
async def test_client_that_leaves_before_it_is_refused_disturbs_nobody(fetch: Callable[..., object]) -> None:
    async with serving({}, fetch=fetch) as server, connection(server) as client:
        await client.send(handshake({"Sec-WebSocket-Key": None}))
        client.socket.close()
        async with connection(server) as other:
            await other.send(handshake())
            assert (await other.receive_answer()).status == 101
        await until(lambda: not server._guests.connections)


@pytest.mark.parametrize("fetch", [plainly, at_once, later])
async def test_frames_behind_the_request_in_the_same_packet_are_delivered_behind_open(
    fetch: Callable[..., object],
) -> None:
    got: list[object] = []

    def on_open(ws: Socket) -> None:
        got.append("open")
        ws.send("hello")

    table = {"open": on_open, "message": echo}
    async with serving(table, fetch=fetch) as server, connection(server) as client:
        large = b"a" * 300_000
        wire = handshake() + text("one") + ping(b"2") + binary(large) + text("three")
        sending = asyncio.ensure_future(client.send(wire[:-3]))
        assert (await client.receive_answer()).status == 101
        assert await client.receive() == Frame.text("hello")
        assert await client.receive() == Frame.text("one")
        assert await client.receive() == Frame.pong(b"2")
        assert await client.receive() == Frame.binary(large)
        await sending
        await client.send(wire[-3:], close(1000))
        assert await client.receive_all() == [Frame.text("three"), Frame.close(1000)]
        assert got == ["open"]


async def test_request_and_close_in_one_packet_open_and_close() -> None:
    told: asyncio.Queue[object] = asyncio.Queue()
    table = {"open": told.put_nowait, "close": lambda ws, code, reason: told.put_nowait((ws, code, reason))}
    async with serving(table) as server, connection(server) as client:
        await client.send(handshake(), close(3000, "bye"))
        assert (await client.receive_answer()).status == 101
        assert await client.receive_all() == [Frame.close(3000, "bye")]
        ws = await told.get()
        assert await told.get() == (ws, 3000, "bye")


async def test_http_requests_before_the_handshake_are_answered_on_the_same_connection() -> None:
    async with serving({"message": echo}) as server, connection(server) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2, handshake(), text("hi"))
        assert [(await client.receive_answer()).status for _ in range(3)] == [400, 400, 101]
        assert await client.receive() == Frame.text("hi")


async def test_subprotocol_is_echoed_only_when_it_was_chosen() -> None:
    protocols: list[str] = []

    def fetch(request: bunws.Request, server: bunws.Server) -> None:
        chosen = request.url.query.get("protocol")
        server.upgrade(request, headers={"Sec-WebSocket-Protocol": chosen} if chosen else None)

    offer = {"Sec-WebSocket-Protocol": "chat, superchat"}
    async with serving({"open": lambda ws: protocols.append(ws.protocol)}, fetch=fetch) as server:
        async with connected(server, offer, line="GET /?protocol=superchat HTTP/1.1") as client:
            assert client.answer.all("Sec-WebSocket-Protocol") == ["superchat"]
        async with connected(server, offer) as client:
            assert client.answer.all("Sec-WebSocket-Protocol") == []
        async with dialled(server) as modern:
            assert modern.subprotocol is None
    assert protocols == ["superchat", "", ""]


@pytest.mark.parametrize(
    ("headers", "changes"),
    [
        ({"Sec-WebSocket-Protocol": "other"}, {"Sec-WebSocket-Protocol": "chat"}),
        ({"Sec-WebSocket-Protocol": "chat"}, {}),
        ({"X": "a\r\nSet-Cookie: stolen=1"}, {}),
        ({"X": "a\nb"}, {}),
        ({"Connection": "close"}, {}),
    ],
)
async def test_headers_that_may_not_be_sent_raise_in_upgrade_and_the_client_gets_500(
    headers: dict[str, str], changes: dict[str, str]
) -> None:
    raised: list[type[Exception]] = []

    def fetch(request: bunws.Request, server: bunws.Server) -> None:
        try:
            server.upgrade(request, headers=headers)
        except Exception as exc:
            raised.append(type(exc))
            raise

    async with serving({}, fetch=fetch, complains=True) as server, connection(server) as client:
        await client.send(handshake(changes))
        answer = await client.receive_answer()
        assert (answer.status, answer.all("Set-Cookie")) == (500, [])
        assert raised == [ValueError]


async def test_several_cookies_go_out_with_the_101() -> None:
    def fetch(request: bunws.Request, server: bunws.Server) -> None:
        server.upgrade(request, headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Room", "1")])

    async with serving({}, fetch=fetch) as server, connected(server) as client:
        assert client.answer.all("Set-Cookie") == ["a=1", "b=2"]
        assert client.answer.all("X-Room") == ["1"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://example.com", 101), ("https://evil.example", 403), ("https://example.com:444", 403), (None, 403)],
)
async def test_only_listed_origins_may_connect(origin: str | None, status: int) -> None:
    async with serving({}, origins=["https://example.com"]) as server, connection(server) as client:
        await client.send(handshake({"Origin": origin}))
        assert (await client.receive_answer()).status == status


async def test_second_upgrade_of_a_request_is_false() -> None:
    upgrades: list[bool] = []

    async def fetch(request: bunws.Request, server: bunws.Server) -> None:
        upgrades.append(server.upgrade(request))
        upgrades.append(server.upgrade(request))
        await asyncio.sleep(0)
        upgrades.append(server.upgrade(request))

    async with serving({"message": echo}, fetch=fetch) as server, connected(server) as client:
        await client.send(text("hi"))
        assert await client.receive() == Frame.text("hi")
        await until(lambda: len(upgrades) == 3)
        assert upgrades == [True, False, False]


async def test_upgrade_is_false_when_the_client_has_gone() -> None:
    upgraded: asyncio.Queue[bool] = asyncio.Queue()
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response:
        arrived.set()
        await go_on.wait()
        upgraded.put_nowait(server.upgrade(request))
        return bunws.Response()

    async with serving({}, fetch=fetch) as server, connection(server) as client:
        await client.send(handshake())
        await arrived.wait()
        client.reset()
        # A connection that is not read is told of a reset by the next write only; so write.
        (one,) = server._guests.connections
        assert one.transport is not None
        one.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await until(lambda: not server._guests.connections)
        go_on.set()
        assert await upgraded.get() is False


async def test_response_that_is_returned_after_an_upgrade_is_ignored() -> None:
    def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response:
        assert server.upgrade(request)
        return bunws.Response("too late")

    async with serving({"message": echo}, fetch=fetch) as server, connected(server) as client:
        await client.send(text("hi"), close())
        assert await client.receive_all() == [Frame.text("hi"), Frame.close()]


async def test_upgrade_without_handlers_says_what_is_missing() -> None:
    raised: list[str] = []

    def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response:
        with pytest.raises(TypeError) as caught:
            server.upgrade(request)
        raised.append(str(caught.value))
        return bunws.Response()

    server = bunws.serve(fetch=fetch, hostname="127.0.0.1", port=0)
    async with server, connection(server) as client:
        await client.send(handshake())
        await client.receive_answer()
        await server.stop(close_active_connections=True)
    assert "websocket={...}" in raised[0]


async def test_open_has_run_when_upgrade_returns_and_finds_its_data() -> None:
    order: list[object] = []

    def fetch(request: bunws.Request, server: bunws.Server) -> None:
        order.append("before")
        assert server.upgrade(request, data={"name": request.url.query["name"]})
        order.append("behind")

    table = {"open": lambda ws: order.append((ws.data, ws.remote_address, ws.ready_state))}
    async with (
        serving(table, fetch=fetch) as server,
        connected(server, line="GET /?name=Ada HTTP/1.1"),
    ):
        assert order == ["before", ({"name": "Ada"}, "127.0.0.1", ReadyState.OPEN), "behind"]


# Messages, with the `websockets` client


@pytest.mark.parametrize("in_thread", [False, True])
async def test_text_is_str_and_binary_is_bytes(in_thread: bool) -> None:
    got: queue.SimpleQueue[object] = queue.SimpleQueue()

    def message(ws: Socket, message: str | bytes) -> None:
        got.put(message)
        ws.send(message)

    messages: list[str | bytes] = ["hello", b"\x00\xff", "", b"", "日本 🎉", "a" * 200, b"b" * 70_000]
    async with serving({"message": message}, in_thread=in_thread) as server, dialled(server) as client:
        for each in messages:
            await client.send(each)
            assert await client.recv() == each
        assert [got.get() for _ in messages] == messages


@pytest.mark.parametrize("in_thread", [False, True])
async def test_fragmented_message_is_delivered_once(in_thread: bool) -> None:
    async with serving({"message": echo}, in_thread=in_thread) as server, dialled(server) as client:
        await client.send(["frag", "men", "", "ted"])
        await client.send([b"a", b"b"])
        assert [await client.recv(), await client.recv()] == ["fragmented", b"ab"]


@pytest.mark.parametrize("in_thread", [False, True])
async def test_message_of_16_mib_is_echoed(in_thread: bool) -> None:
    async with serving({"message": echo}, in_thread=in_thread) as server, dialled(server) as client:
        large = bytes(range(256)) * 65_536
        await client.send(large)
        assert await client.recv() == large


@pytest.mark.parametrize("in_thread", [False, True])
async def test_close_of_either_side_is_told_to_the_other(in_thread: bool) -> None:
    told: queue.SimpleQueue[object] = queue.SimpleQueue()
    table = {
        "message": lambda ws, message: ws.close(4001, "go away"),
        "close": lambda ws, code, reason: told.put((code, reason)),
    }
    async with serving(table, in_thread=in_thread) as server:
        async with dialled(server) as client:
            await client.close(3999, "enough")
            assert (client.close_code, client.close_reason) == (3999, "enough")
            assert await asyncio.to_thread(told.get) == (3999, "enough")
        async with dialled(server) as client:
            await client.send("close, please")
            with pytest.raises(websockets.ConnectionClosedError) as caught:
                await client.recv()
            assert caught.value.rcvd is not None
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "go away")
            assert await asyncio.to_thread(told.get) == (4001, "go away")
    assert told.empty()


@pytest.mark.parametrize("in_thread", [False, True])
async def test_pings_of_either_side_are_answered(in_thread: bool) -> None:
    got: queue.SimpleQueue[object] = queue.SimpleQueue()
    table = {
        "message": lambda ws, message: ws.ping(b"are you there?"),
        "ping": lambda ws, data: got.put(("ping", data)),
        "pong": lambda ws, data: got.put(("pong", data)),
    }
    async with serving(table, in_thread=in_thread) as server, dialled(server) as client:
        await (await client.ping(b"hello?"))
        await client.send("ping me")
        assert [await asyncio.to_thread(got.get) for _ in range(2)] == [
            ("ping", b"hello?"),
            ("pong", b"are you there?"),
        ]


async def test_what_is_no_message_raises_and_sends_nothing() -> None:
    def message(ws: Socket, _: str) -> None:
        for bad in (None, 5, {"a": 1}, ["a"]):
            with pytest.raises(TypeError, match="a message is a str"):
                ws.send(bad)  # type: ignore[arg-type]  # on purpose
            with pytest.raises(TypeError):
                ws.publish("topic", bad)  # type: ignore[arg-type]  # on purpose
        with pytest.raises(TypeError, match="send_text"):
            ws.send_text(b"a")  # type: ignore[arg-type]  # on purpose
        with pytest.raises(TypeError, match="send_binary"):
            ws.send_binary("a")  # type: ignore[arg-type]  # on purpose
        with pytest.raises(ValueError, match="125"):
            ws.ping(b"a" * 126)
        with pytest.raises(ValueError, match="125"):
            ws.pong("é" * 63)
        ws.send("done")

    async with serving({"message": message}) as server, connected(server) as client:
        await client.send(text("go"))
        assert await client.receive() == Frame.text("done")


async def test_bytes_like_messages_are_binary_and_taken_at_the_time_of_the_call() -> None:
    def message(ws: Socket, _: str) -> None:
        changing: Any = bytearray(b"before")
        assert ws.send(changing) == 6
        view: Any = memoryview(changing)[:2]
        assert ws.send(view) == 2
        view.release()
        assert ws.publish("all", changing) == 6
        changing[:] = b"behind"

    async with (
        serving({"open": lambda ws: ws.subscribe("all"), "message": message}) as server,
        connected(server) as client,
        connected(server) as other,
    ):
        await client.send(text("go"))
        assert [await client.receive(), await client.receive()] == [Frame.binary(b"before"), Frame.binary(b"be")]
        assert await other.receive() == Frame.binary(b"before")


async def test_return_codes_are_bytes_of_the_payload() -> None:
    codes: list[int] = []

    def message(ws: Socket, _: str) -> None:
        codes.extend([ws.send("é"), ws.send(b"abc"), ws.send(""), ws.ping(), ws.ping("ab"), ws.pong(b"abcd")])
        ws.send("done")

    async with serving({"message": message}) as server, connected(server) as client:
        await client.send(text("go"))
        assert [(await client.receive()).payload for _ in range(7)] == [
            "é".encode(), b"abc", b"", b"", b"ab", b"abcd", b"done",
        ]  # fmt: skip
        assert codes == [2, 3, 0, 0, 2, 4]


# Closing


async def test_close_handler_finds_its_topics_sends_nothing_and_may_publish() -> None:
    facts: asyncio.Queue[object] = asyncio.Queue()

    def on_close(ws: Socket, code: int, reason: str) -> None:
        facts.put_nowait((code, reason, ws.ready_state, ws.subscriptions, ws.is_subscribed("a"), ws.buffered_amount))
        facts.put_nowait((ws.send("x"), ws.ping(), ws.subscribe("c"), ws.unsubscribe("a")))
        facts.put_nowait((ws.publish("a", "has left"), ws.publish("nobody", "x")))
        ws.close(4000)
        ws.terminate()
        ws.pause()
        ws.resume()

    def on_open(ws: Socket) -> None:
        ws.subscribe("b")
        ws.subscribe("a")

    async with (
        serving({"open": on_open, "close": on_close}) as server,
        connected(server) as leaving,
        connected(server) as staying,
    ):
        await leaving.send(close(3000, "bye"))
        assert await facts.get() == (3000, "bye", ReadyState.CLOSED, ["a", "b"], True, 0)
        assert await facts.get() == (0, 0, False, False)
        assert await facts.get() == (8, 0)
        assert await leaving.receive_all() == [Frame.close(3000, "bye")]
        assert await staying.receive() == Frame.text("has left")
        assert server.subscriber_count("a") == 1
        assert facts.empty()


async def test_publish_from_the_close_handler_arrives_when_the_connection_broke() -> None:
    table = {
        "open": lambda ws: ws.subscribe("room"),
        "close": lambda ws, code, reason: ws.publish("room", f"left with {code}"),
    }
    async with serving(table) as server, connected(server) as leaving, connected(server) as staying:
        leaving.reset()
        assert await staying.receive() == Frame.text("left with 1006")


@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [
        (999, "", ValueError), (1004, "", ValueError), (1005, "", ValueError), (1006, "", ValueError),
        (1015, "", ValueError), (2999, "", ValueError), (5000, "", ValueError), (-1, "", ValueError),
        ("1000", "", TypeError), (1000.0, "", TypeError), (True, "", TypeError), (None, "", TypeError),
        (1000, b"bye", TypeError), (1000, None, TypeError), (1000, "a" * 124, ValueError), (1000, "é" * 62, ValueError),
    ],
)  # fmt: skip
async def test_close_that_may_not_be_sent_raises_and_the_socket_stays_open(
    code: Any, reason: Any, error: type[Exception]
) -> None:
    def message(ws: Socket, _: str) -> None:
        with pytest.raises(error, match="close"):
            ws.close(code, reason)
        ws.send("still open")

    async with serving({"message": message}) as server, connected(server) as client:
        await client.send(text("go"))
        assert await client.receive() == Frame.text("still open")


async def test_close_without_arguments_is_1000_and_runs_the_close_handler_before_it_returns() -> None:
    order: list[object] = []

    def message(ws: Socket, _: str) -> None:
        ws.send("last")
        ws.close()
        order.append((ws.ready_state, ws.send("too late"), ws.buffered_amount))
        ws.close(4000)

    table = {"message": message, "close": lambda ws, code, reason: order.append((code, reason))}
    async with serving(table) as server, connected(server) as client:
        await client.send(text("go"))
        assert [await client.receive(), await client.receive()] == [Frame.text("last"), Frame.close(1000)]
        assert order == [(1000, ""), (ReadyState.CLOSED, 0, 0)]
        await client.send(close(1000))
        assert await client.has_ended()


async def test_socket_may_be_closed_in_open() -> None:
    told: list[object] = []
    table = {
        "open": lambda ws: (ws.send("sorry"), ws.close(4003, "full")),
        "message": echo,
        "close": lambda ws, code, reason: told.append((code, reason)),
    }
    async with serving(table) as server, connection(server) as client:
        await client.send(handshake(), text("ignored"), close(4003))
        assert (await client.receive_answer()).status == 101
        assert await client.receive_all() == [Frame.text("sorry"), Frame.close(4003, "full")]
        assert told == [(4003, "full")]


async def test_socket_may_be_terminated_in_open() -> None:
    told: list[object] = []
    table = {"open": lambda ws: ws.terminate(), "close": lambda ws, code, reason: told.append((code, reason))}
    async with serving(table) as server, connection(server) as client:
        await client.send(handshake(), text("ignored"))
        with contextlib.suppress(EOFError, ConnectionResetError):  # the end may overtake the 101
            await client.receive_answer()
        assert await client.receive_until_dropped() == []
        await until(lambda: not server._guests.engines)
        assert told == [(1006, "")]


async def test_every_socket_is_opened_once_and_closed_once_however_it_ends() -> None:
    opened: list[Socket] = []
    closed: list[Socket] = []
    table = {"open": opened.append, "message": echo, "close": lambda ws, code, reason: closed.append(ws)}
    async with serving(table) as server:
        for ending in (close(1000), close(), close(999), text("a", mask=None), b"", text("half")[:3]):
            async with connected(server) as client:
                await client.send(ending)
        async with connected(server) as client:
            client.reset()
        await until(lambda: not server._guests.engines)
        async with connected(server):
            pass  # it is still open for the server when that stops
    assert len(set(opened)) == 8
    assert len(closed) == 8
    assert set(opened) == set(closed)


# Async handlers


async def test_async_handlers_of_one_socket_run_one_at_a_time_and_in_order() -> None:
    order: list[str] = []
    told = asyncio.Event()

    async def on_open(ws: Socket) -> None:
        order.append("open begins")
        await asyncio.sleep(0)
        order.append("open ends")

    async def message(ws: Socket, message: str) -> None:
        order.append(f"{message} begins")
        for _ in range(3):
            await asyncio.sleep(0)
        order.append(f"{message} ends")

    async def on_ping(ws: Socket, data: bytes) -> None:
        order.append("ping begins")
        await asyncio.sleep(0)
        order.append("ping ends")

    async def on_close(ws: Socket, code: int, reason: str) -> None:
        order.append("close begins")
        await asyncio.sleep(0)
        order.append("close ends")
        told.set()

    table = {"open": on_open, "message": message, "ping": on_ping, "close": on_close}
    async with serving(table) as server, connection(server) as client:
        await client.send(handshake(), text("1"), text("2"), ping(), text("3"), close(1000))
        await told.wait()
    steps = ["open", "1", "2", "ping", "3", "close"]
    assert order == [f"{step} {part}" for step in steps for part in ("begins", "ends")]


async def test_sockets_do_not_wait_for_each_others_async_handlers() -> None:
    go_on = asyncio.Event()

    async def message(ws: Socket, message: str) -> None:
        if message == "wait":
            await go_on.wait()
        ws.send(message)

    async with serving({"message": message}) as server, connected(server) as one, connected(server) as other:
        await one.send(text("wait"), text("next"))
        await other.send(text("quick"))
        assert await other.receive() == Frame.text("quick")
        go_on.set()
        assert [await one.receive(), await one.receive()] == [Frame.text("wait"), Frame.text("next")]


async def test_messages_are_delivered_plainly_again_behind_an_async_one() -> None:
    def message(ws: Socket, message: str) -> object:
        async def lag() -> None:
            await asyncio.sleep(0)
            ws.send(f"async {message}")

        return lag() if message.startswith("lag") else ws.send(message)

    async with serving({"message": message}) as server, connected(server) as client:
        for _ in range(3):
            await client.send(text("a"), text("lag"), text("b"), text("lag too"), text("c"))
            frames = [await client.receive() for _ in range(5)]
            assert frames == [Frame.text(each) for each in ("a", "async lag", "b", "async lag too", "c")]


async def test_flood_meets_tcp_while_an_async_handler_lags_and_nothing_is_lost() -> None:
    got: list[bytes] = []
    go_on = asyncio.Event()
    sockets: list[Any] = []

    async def message(ws: Socket, message: bytes) -> None:
        await go_on.wait()
        got.append(message)

    async with serving({"open": sockets.append, "message": message}) as server, connected(server) as client:
        (engine,) = server._guests.engines
        transport: Any = engine._transport
        sent = 0
        unsent = b""
        full = 0
        while full < 3:  # the server has stopped reading, and the kernel takes nothing more
            unsent = unsent or binary(b"%08d" % sent + b"a" * 1000)
            try:
                unsent = unsent[client.socket.send(unsent) :]
                sent += not unsent
                full = 0
            except BlockingIOError:
                full += not transport.is_reading()
                await asyncio.sleep(0)
            assert sent < 200_000, "the flood is read without bound"

        inbox = sockets[0]._inbox
        assert len(inbox._events) < 64 + 65_536 / 1000 + 1
        assert got == []

        go_on.set()
        if unsent:
            await client.send(unsent)
            sent += 1
        await until(lambda: len(got) == sent)
        assert [int(each[:8]) for each in got] == list(range(sent))


async def test_close_handler_waits_for_the_async_handler_that_runs() -> None:
    order: list[str] = []
    go_on, told = asyncio.Event(), asyncio.Event()

    async def message(ws: Socket, message: str) -> None:
        await go_on.wait()
        order.append(f"message, ready_state {int(ws.ready_state)}, send {ws.send('x')}")

    def on_close(ws: Socket, code: int, reason: str) -> None:
        order.append(f"close {code}")
        told.set()

    async with serving({"message": message, "close": on_close}) as server, connected(server) as client:
        await client.send(text("a"), close(1000))
        assert await client.receive_all() == [Frame.close(1000)]
        assert order == []
        go_on.set()
        await told.wait()
    assert order == ["message, ready_state 3, send 0", "close 1000"]


async def test_async_handler_that_never_ends_is_cancelled_when_the_server_stops_and_close_is_told() -> None:
    told: list[object] = []
    running = asyncio.Event()

    async def message(ws: Socket, message: str) -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            told.append("cancelled")

    table = {"message": message, "close": lambda ws, code, reason: told.append(code)}
    async with serving(table) as server, connected(server) as client:
        await client.send(text("a"))
        await running.wait()
    assert told == ["cancelled", 1001]


# Exceptions


class Oops(Exception):
    pass


def raising(ws: Socket, *_: object) -> None:
    raise Oops("secret")


async def raising_later(ws: Socket, *_: object) -> None:
    await asyncio.sleep(0)
    raise Oops("secret")


async def raising_at_once(ws: Socket, *_: object) -> None:
    raise Oops("secret")


RAISING = [raising, raising_later, raising_at_once]


@pytest.mark.parametrize("handler", RAISING)
@pytest.mark.parametrize("event", ["open", "message", "ping", "pong"])
async def test_exception_of_any_handler_goes_to_error_and_the_socket_stays_open(
    event: str, handler: Callable[..., object]
) -> None:
    caught: asyncio.Queue[tuple[Socket, Exception]] = asyncio.Queue()
    table = {"error": lambda ws, exc: caught.put_nowait((ws, exc)), event: handler}
    async with serving(table) as server, connected(server) as client:
        await client.send({"open": b"", "message": text("a"), "ping": ping(b"1"), "pong": pong()}[event])
        ws, exc = await caught.get()
        assert isinstance(exc, Oops)
        assert ws.ready_state == ReadyState.OPEN
        if event == "ping":
            assert await client.receive() == Frame.pong(b"1")
        await on_loop(server, lambda: ws.send("still open"))
        assert await client.receive() == Frame.text("still open")


@pytest.mark.parametrize("handler", RAISING)
async def test_exception_of_the_close_handler_goes_to_error(handler: Callable[..., object]) -> None:
    caught: asyncio.Queue[Exception] = asyncio.Queue()
    table = {"error": lambda ws, exc: caught.put_nowait(exc), "close": handler}
    async with serving(table) as server, connected(server) as client:
        await client.send(close(1000))
        assert await client.receive_all() == [Frame.close(1000)]
        assert isinstance(await caught.get(), Oops)


@pytest.mark.parametrize("handler", RAISING)
@pytest.mark.parametrize("event", ["open", "message", "ping", "pong"])
async def test_exception_without_error_is_logged_and_closes_with_1011_and_the_peer_sees_no_text(
    event: str, handler: Callable[..., object], caplog: pytest.LogCaptureFixture
) -> None:
    told: asyncio.Queue[object] = asyncio.Queue()
    table = {event: handler, "close": lambda ws, code, reason: told.put_nowait((int(code), reason))}
    async with serving(table, complains=True) as server, connected(server) as client:
        await client.send({"open": b"", "message": text("a"), "ping": ping(), "pong": pong()}[event])
        if event == "ping":
            assert await client.receive() == Frame.pong()
        assert await client.receive() == Frame.close(1011)
        assert await told.get() == (1011, "")
    (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert record.name == "bunws"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], Oops)
    assert record.exc_info[2] is not None, "without its traceback"


@pytest.mark.parametrize("handler", RAISING)
@pytest.mark.parametrize("error", RAISING)
async def test_error_handler_that_raises_is_logged_and_closes_with_1011(
    error: Callable[..., object], handler: Callable[..., object], caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        serving({"message": handler, "error": error}, complains=True) as server,
        connected(server) as client,
    ):
        await client.send(text("a"))
        assert await client.receive() == Frame.close(1011)
    (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], Oops)


async def test_async_error_handler_finishes_before_the_next_message() -> None:
    order: list[str] = []

    def message(ws: Socket, message: str) -> None:
        order.append(message)
        if message == "bad":
            raise Oops
        ws.send(message)

    async def error(ws: Socket, exc: Exception) -> None:
        await asyncio.sleep(0)
        order.append("handled")

    async with serving({"message": message, "error": error}) as server, connected(server) as client:
        await client.send(text("bad"), text("good"))
        assert await client.receive() == Frame.text("good")
        assert order == ["bad", "handled", "good"]


async def test_messages_behind_one_whose_handler_raised_are_delivered() -> None:
    def message(ws: Socket, message: str) -> None:
        ws.send(message)
        if message == "bad":
            raise Oops

    async with (
        serving({"message": message, "error": lambda ws, exc: None}) as server,
        connected(server) as client,
    ):
        await client.send(text("a"), text("bad"), text("b"))
        assert [await client.receive() for _ in range(3)] == [Frame.text(each) for each in ("a", "bad", "b")]


# The turn


async def test_all_that_is_sent_in_one_turn_leaves_in_one_write_and_in_the_order_of_the_calls() -> None:
    def message(ws: Socket, _: str) -> None:
        for n in range(5):
            ws.send(f"send {n}")
            server.publish("a", f"server {n}")
            ws.publish("a", f"own {n}")
            ws.publish("b", f"to b {n}")
            ws.ping(b"%d" % n)

    sockets: list[Socket] = []

    def on_open(ws: Socket) -> None:
        sockets.append(ws)
        ws.subscribe("a")
        ws.subscribe("b")

    async with (
        serving({"open": on_open, "message": message}) as server,
        connected(server) as client,
        connected(server) as other,
    ):
        before = client.reads, other.reads
        await client.send(text("go"), text("go"))
        mine = [await client.receive() for _ in range(30)]
        others = [await other.receive() for _ in range(30)]
        assert (client.reads, other.reads) == (before[0] + 1, before[1] + 1)
        assert mine[:15] == [
            each
            for n in range(5)
            for each in (Frame.text(f"send {n}"), Frame.text(f"server {n}"), Frame.ping(b"%d" % n))
        ]
        assert others[:15] == [Frame.text(f"{kind} {n}") for n in range(5) for kind in ("server", "own", "to b")]


async def test_publish_reaches_all_others_and_with_publish_to_self_oneself() -> None:
    for to_self in (False, True):
        table = {
            "open": lambda ws: ws.subscribe("room"),
            "message": lambda ws, message: (ws.publish("room", message), ws.send("done")),
            "publish_to_self": to_self,
        }
        async with serving(table) as server, connected(server) as client, connected(server) as other:
            await client.send(text("hi"))
            assert await other.receive() == Frame.text("hi")
            if to_self:
                assert await client.receive() == Frame.text("hi")
            assert await client.receive() == Frame.text("done")


async def test_publish_needs_no_membership_and_nobody_who_listens_is_0() -> None:
    codes: list[int] = []

    def message(ws: Socket, message: str) -> None:
        codes.append(ws.publish("empty", "x"))
        codes.append(server.publish("empty", "x"))
        ws.subscribe("mine")
        codes.append(ws.publish("mine", "x"))
        codes.append(server.publish("mine", "é"))
        codes.append(ws.publish("theirs", b"abc"))

    async with (
        serving({"message": message}) as server,
        connected(server) as client,
        connected(server) as other,
    ):
        (theirs,) = [engine.ws for engine in server._guests.engines][-1:]
        for engine in server._guests.engines:
            engine.ws.subscribe("theirs")
        await client.send(text("go"))
        assert await client.receive() == Frame.text("é")
        assert await other.receive() == Frame.binary(b"abc")
        assert codes == [0, 0, 0, 2, 3]
        assert theirs.subscriptions


async def test_membership_counts_at_the_time_of_the_call() -> None:
    def message(ws: Socket, _: str) -> None:
        assert ws.unsubscribe("a") is False
        server.publish("a", "not heard")
        assert ws.subscribe("a") is True
        assert ws.subscribe("a") is True
        server.publish("a", "1")
        assert ws.unsubscribe("a") is True
        assert server.publish("a", "not heard") == 0
        ws.subscribe("a")
        server.publish("a", "2")
        ws.unsubscribe("a")
        ws.send("3")
        assert (ws.subscriptions, server.subscriber_count("a")) == ([], 0)

    async with serving({"message": message}) as server, connected(server) as client:
        await client.send(text("go"))
        assert [(await client.receive()).payload for _ in range(3)] == [b"1", b"2", b"3"]


async def test_message_of_16_kib_leaves_at_once_and_64_kib_of_small_ones_too() -> None:
    written: list[int] = []

    def sent(ws: Any) -> int:
        """Bytes that the turn still holds back."""
        return int(ws._unwritten())

    def message(ws: Any, _: str) -> None:
        ws.send(b"a" * 1000)
        written.append(sent(ws))
        ws.send(b"b" * 16_383)
        written.append(sent(ws))
        ws.send(b"c" * 16_384)
        written.append(sent(ws))
        for _n in range(65):
            ws.send(b"d" * 1000)
        written.append(sent(ws))
        ws.send(b"e" * 1000)
        written.append(sent(ws))

    async with serving({"message": message}) as server, connected(server) as client:
        await client.send(text("go"))
        sizes = [len((await client.receive()).payload) for _ in range(69)]
        assert sizes == [1000, 16_383, 16_384, *[1000] * 66]
        assert written == [1004, 17_391, 0, 65_260, 0]  # headers of 4 bytes included


async def test_messages_sent_outside_of_handlers_are_collected_as_well() -> None:
    sockets: list[Socket] = []
    async with serving({"open": sockets.append}, in_thread=True) as server, connected(server) as client:
        await on_loop(server, lambda: [sockets[0].send(f"{n}") for n in range(100)])
        before = client.reads
        assert [await client.receive() for _ in range(100)] == [Frame.text(f"{n}") for n in range(100)]
        assert client.reads == before + 1


async def test_cork_runs_its_callback_and_returns_what_that_returns() -> None:
    def message(ws: Socket, _: str) -> None:
        assert ws.cork(lambda same: (same is ws, same.send("corked"))) == (True, 6)

    async with serving({"message": message}) as server, connected(server) as client:
        await client.send(text("go"))
        assert await client.receive() == Frame.text("corked")


@pytest.mark.parametrize("in_thread", [False, True])
async def test_server_publish_reaches_every_subscriber_from_any_thread(in_thread: bool) -> None:
    async with (
        serving({"open": lambda ws: ws.subscribe("news")}, in_thread=in_thread) as server,
        connected(server) as client,
        connected(server) as other,
    ):
        assert await asyncio.to_thread(server.publish, "news", "from a thread") == 13
        assert await asyncio.to_thread(server.publish, "none", "x") == 0
        assert await client.receive() == Frame.text("from a thread")
        assert await other.receive() == Frame.text("from a thread")
        assert server.subscriber_count("news") == 2


async def test_thousand_clients_in_one_room_hear_everything() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2200:
        pytest.skip(f"this machine allows {hard} open files, 2200 are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2200), hard))
    try:
        table = {
            "open": lambda ws: ws.subscribe("room"),
            "message": lambda ws, message: ws.publish("room", message),
        }
        async with serving(table) as server, AsyncExitStack() as stack:
            clients: list[Client] = [await stack.enter_async_context(connected(server)) for _ in range(1000)]
            assert server.subscriber_count("room") == 1000
            for client in clients[:10]:
                await client.send(text("a"), text("b" * 200))
            for client in clients:
                count = 18 if client in clients[:10] else 20
                frames = [await client.receive() for _ in range(count)]
                assert sorted(frames) == sorted([Frame.text("a"), Frame.text("b" * 200)] * (count // 2))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Handlers as they may be given


async def test_handlers_may_be_attributes_of_an_object() -> None:
    class Chat:
        max_payload_length = 10

        def __init__(self) -> None:
            self.seen: list[str] = []

        async def message(self, ws: Socket, message: str) -> None:
            self.seen.append(message)
            ws.send(message.upper())

    chat = Chat()
    async with serving(None, fetch=plainly) as _:
        pass
    server = bunws.serve(fetch=plainly, websocket=chat, hostname="127.0.0.1", port=0)
    async with server, connected(server) as client:
        await client.send(text("hi"))
        assert await client.receive() == Frame.text("HI")
        await client.send(text("much too long"))
        assert await client.receive_all() == [Frame.close(1009, "Received too big message")]
    assert chat.seen == ["hi"]


async def test_without_handlers_messages_are_dropped_and_the_socket_stays_open() -> None:
    async with serving({}) as server, connected(server) as client:
        await client.send(text("a"), binary(b"b"), frame(1, "c", fin=False), frame(0, "d"), ping(b"there?"))
        assert await client.receive() == Frame.pong(b"there?")


def test_a_socket_hears_so_many_topics_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    server = FakeServer(max_subscriptions=2)
    ws = server.connect()
    assert [ws.subscribe(topic) for topic in ("a", "b", "c", "b")] == [True, True, False, True]
    assert ws.subscriptions == ["a", "b"]
    ws.unsubscribe("a")
    assert ws.subscribe("c")
    assert "max_subscriptions" in caplog.text


def test_the_number_of_topics_of_a_socket_is_limited_by_default_and_0_takes_the_limit_away() -> None:
    ws = FakeServer().connect()
    assert sum(ws.subscribe(str(number)) for number in range(2000)) == 1000
    ws = FakeServer(max_subscriptions=0).connect()
    assert sum(ws.subscribe(str(number)) for number in range(2000)) == 2000


def test_a_double_that_was_never_made_raises_and_takes_nothing_down() -> None:
    class Double(bunws.ServerWebSocket[None]):
        def __init__(self) -> None: ...

    with pytest.raises(AttributeError):
        Double().send("x")
    with pytest.raises(AttributeError):
        Double().publish("news", "x")
