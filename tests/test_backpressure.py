"""Backpressure and patience: peers that do not read, do not answer, or do neither fast."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

import bunws
from bunws.websocket import ReadyState
from tests.clients import (
    EACH_LOOP,
    Frame,
    close,
    connected,
    on_loop,
    ping,
    pong,
    serving,
    text,
    until,
)
from tests.support import patience


LOOP_FACTORIES = EACH_LOOP

Socket = bunws.ServerWebSocket[Any]

LIMIT = 64 * 1024  # the `backpressure_limit` of these tests
SIZE = 20_000  # bytes of a message: so large that it leaves at once, and the return codes are those of now
SMALL = 4096  # bytes that the kernel of a slow client takes ahead

# More than any kernel takes for one connection (net.ipv4.tcp_wmem ends at 4 to 6 MiB on most machines).
ENOUGH = 32 * 1024 * 1024 // SIZE


def numbered(n: int, size: int = SIZE) -> bytes:
    """A message that cannot be mistaken for another."""
    return struct.pack(">I", n) * (size // 4)


def fill(ws: Socket, send: Callable[[bytes], int] | None = None) -> list[int]:
    """Send numbered messages until one is dropped; the answers to all of them."""
    codes: list[int] = []
    while not codes or codes[-1] != 0:
        assert len(codes) < ENOUGH, "the backlog grows past its limit"
        codes.append((send or ws.send)(numbered(len(codes))))
    return codes


@pytest.mark.parametrize("in_thread", [False, True])
async def test_answers_go_from_bytes_to_behind_to_dropped_and_all_that_was_accepted_arrives(in_thread: bool) -> None:
    sockets: list[Socket] = []
    drains: list[int] = []
    table = {
        "open": sockets.append,
        "drain": lambda ws: drains.append(ws.buffered_amount),
        "backpressure_limit": LIMIT,
    }
    async with (
        serving(table, in_thread=in_thread) as server,
        connected(server, receive_buffer=SMALL) as client,
    ):
        (ws,) = sockets
        codes = await on_loop(server, lambda: fill(ws))
        assert sorted(set(codes), reverse=True) == [SIZE, 0, -1]
        # First all that went out, then all that had to wait, then the one that was dropped.
        accepted = len(codes) - 1
        behind = codes.count(-1)
        assert codes == [SIZE] * (accepted - behind) + [-1] * behind + [0]
        assert behind >= 3

        buffered, again = await on_loop(server, lambda: (ws.buffered_amount, ws.send("no") or ws.ping() or ws.pong()))
        assert LIMIT < buffered <= LIMIT + SIZE + 4
        assert again == 0
        assert drains == []

        for n in range(accepted):
            assert await client.receive() == Frame.binary(numbered(n))
        await until(lambda: drains)
        assert await on_loop(server, lambda: ws.send("again")) == 5
        assert await client.receive() == Frame.text("again")
        assert drains == [0]


async def test_drain_comes_once_for_each_time_that_the_backlog_empties() -> None:
    sockets: list[Socket] = []
    drains: list[int] = []
    table = {
        "open": sockets.append,
        "drain": lambda ws: drains.append(ws.buffered_amount),
        "backpressure_limit": LIMIT,
    }
    async with serving(table) as server, connected(server, receive_buffer=SMALL) as client:
        for rounds in (1, 2, 3):
            accepted = len(fill(sockets[0])) - 1
            for n in range(accepted):
                assert await client.receive() == Frame.binary(numbered(n))
            await until(lambda: sockets[0].buffered_amount == 0)
            assert len(drains) == rounds
        assert drains == [0, 0, 0]


async def test_drain_handler_that_sends_goes_on_until_all_has_arrived() -> None:
    total = 1200  # three times what the kernel takes
    sent = 0

    def send(ws: Socket) -> None:
        nonlocal sent
        while sent < total:
            code = ws.send(numbered(sent))
            assert code != 0
            sent += 1
            if code == -1:
                return

    table = {"open": send, "drain": send, "backpressure_limit": LIMIT}
    async with serving(table) as server, connected(server, receive_buffer=SMALL) as client:
        for n in range(total):
            assert await client.receive() == Frame.binary(numbered(n))
        assert sent == total


async def test_async_drain_handler_is_awaited() -> None:
    drained = asyncio.Event()
    sockets: list[Socket] = []

    async def drain(ws: Socket) -> None:
        await asyncio.sleep(0)
        drained.set()

    table = {"open": sockets.append, "drain": drain, "backpressure_limit": LIMIT}
    async with serving(table) as server, connected(server, receive_buffer=SMALL) as client:
        for _ in range(len(fill(sockets[0])) - 1):
            await client.receive()
        await drained.wait()


async def test_limit_of_0_drops_nothing() -> None:
    sockets: list[Socket] = []
    async with (
        serving({"open": sockets.append, "backpressure_limit": 0}) as server,
        connected(server, receive_buffer=SMALL) as client,
    ):
        codes = [sockets[0].send(numbered(n)) for n in range(500)]
        assert codes == [SIZE] * codes.count(SIZE) + [-1] * codes.count(-1)
        assert sockets[0].buffered_amount > LIMIT
        for n in range(500):
            assert await client.receive() == Frame.binary(numbered(n))


async def test_one_message_may_be_far_larger_than_the_limit() -> None:
    sockets: list[Socket] = []
    table = {"open": sockets.append, "backpressure_limit": LIMIT}
    async with serving(table) as server, connected(server, receive_buffer=SMALL) as client:
        large = numbered(7, 16 * 1024 * 1024)
        assert sockets[0].send(large) == -1
        assert sockets[0].send("dropped") == 0
        assert await client.receive() == Frame.binary(large)


async def test_close_behind_a_backlog_delivers_all_of_it_and_then_the_close() -> None:
    sockets: list[Socket] = []
    told: list[object] = []
    table = {
        "open": sockets.append,
        "close": lambda ws, code, reason: told.append((code, reason)),
        "drain": lambda ws: told.append("drain"),
        "backpressure_limit": LIMIT,
    }
    async with serving(table) as server, connected(server, receive_buffer=SMALL) as client:
        (ws,) = sockets
        accepted = len(fill(ws)) - 1
        ws.close(4000, "too slow")
        assert (told, ws.buffered_amount) == ([(4000, "too slow")], 0)

        for n in range(accepted):
            assert await client.receive() == Frame.binary(numbered(n))
        assert await client.receive() == Frame.close(4000, "too slow")
        await client.send(close(4000))
        assert await client.has_ended()
        assert told == [(4000, "too slow")]


async def test_peer_that_says_close_while_it_is_behind_gets_all_of_its_backlog_and_the_answer() -> None:
    sockets: list[Socket] = []
    table = {"open": sockets.append, "backpressure_limit": LIMIT}
    async with serving(table) as server, connected(server, receive_buffer=SMALL) as client:
        accepted = len(fill(sockets[0])) - 1
        await client.send(close(1000))
        frames = await client.receive_all()
        assert frames == [*[Frame.binary(numbered(n)) for n in range(accepted)], Frame.close(1000)]


async def test_peer_that_says_close_while_ours_waits_gets_all_of_its_backlog() -> None:
    sockets: list[Socket] = []
    table = {"open": sockets.append, "backpressure_limit": LIMIT}
    async with serving(table) as server, connected(server, receive_buffer=SMALL) as client:
        accepted = len(fill(sockets[0])) - 1
        sockets[0].close(4000)
        await client.send(close(1000))
        frames = await client.receive_all()
        assert frames == [*[Frame.binary(numbered(n)) for n in range(accepted)], Frame.close(4000)]


async def test_slow_reader_of_its_last_frames_is_not_dropped_while_it_reads() -> None:
    sockets: list[Socket] = []
    table = {"open": sockets.append, "backpressure_limit": LIMIT}
    async with serving(table) as server, connected(server, receive_buffer=SMALL) as client:
        (ws,) = sockets
        accepted = len(fill(ws)) - 1
        ws.close(4000)
        received = 0
        while (left := ws._buffered()) > LIMIT // 2:
            for _ in range(server.close_ticks - 1):
                server._guests.sweeper.sweep()
            while ws._buffered() == left:
                assert await client.receive() == Frame.binary(numbered(received))
                received += 1
        for n in range(received, accepted):
            assert await client.receive() == Frame.binary(numbered(n))
        assert await client.receive() == Frame.close(4000)


async def test_terminate_behind_a_backlog_drops_it_and_tells_close_once() -> None:
    sockets: list[Socket] = []
    told: list[object] = []
    table = {
        "open": sockets.append,
        "close": lambda ws, code, reason: told.append((code, reason)),
        "backpressure_limit": LIMIT,
    }
    async with serving(table) as server, connected(server, receive_buffer=SMALL) as client:
        fill(sockets[0])
        sockets[0].terminate()
        assert told == [(1006, "")]
        frames = await client.receive_until_dropped()
        assert frames == [Frame.binary(numbered(n)) for n in range(len(frames))]
        await until(lambda: not server._guests.engines)
        assert told == [(1006, "")]


@pytest.mark.parametrize("publishes", [False, True])
async def test_close_on_backpressure_limit_closes_with_1006_and_without_a_close_frame(publishes: bool) -> None:
    sockets: list[Socket] = []
    told: asyncio.Queue[object] = asyncio.Queue()

    def on_open(ws: Socket) -> None:
        sockets.append(ws)
        ws.subscribe("feed")

    table = {
        "open": on_open,
        "close": lambda ws, code, reason: told.put_nowait((ws, code, reason)),
        "backpressure_limit": LIMIT,
        "close_on_backpressure_limit": True,
    }
    async with serving(table) as server, connected(server, receive_buffer=SMALL) as client:
        (ws,) = sockets
        fill(ws, (lambda data: server.publish("feed", data)) if publishes else None)
        assert ws.ready_state == ReadyState.OPEN  # the answer comes first
        assert await told.get() == (ws, 1006, "")
        frames = await client.receive_until_dropped()
        assert frames == [Frame.binary(numbered(n)) for n in range(len(frames))]
        assert told.empty()
        assert server.subscriber_count("feed") == 0


# A room with a slow reader in it


async def test_slow_reader_delays_nobody_else_and_publish_tells_the_worst() -> None:
    sockets: list[Socket] = []

    def on_open(ws: Socket) -> None:
        sockets.append(ws)
        ws.subscribe("feed")

    table = {"open": on_open, "backpressure_limit": LIMIT}
    async with (
        serving(table) as server,
        connected(server, receive_buffer=SMALL) as slow,
        connected(server) as quick,
    ):
        codes: list[int] = []
        while not codes or codes[-1] != 0:
            codes.append(server.publish("feed", numbered(len(codes))))
            # The quick one has it before the next is published, however far behind the slow one is.
            assert await quick.receive() == Frame.binary(numbered(len(codes) - 1))
            assert len(codes) < ENOUGH
        behind = codes.count(-1)
        assert behind >= 3
        assert codes == [SIZE] * (len(codes) - behind - 1) + [-1] * behind + [0]
        assert sockets[1].publish("feed", "x") == 0
        assert sockets[0].publish("feed", "from the slow one") == 17
        assert sockets[1].buffered_amount == 0
        assert await quick.receive() == Frame.text("from the slow one")

        for n in range(len(codes) - 1):
            assert await slow.receive() == Frame.binary(numbered(n))
        await until(lambda: sockets[0].buffered_amount == 0)
        assert server.publish("feed", "both hear this") == 14
        assert await slow.receive() == Frame.text("both hear this")
        assert await quick.receive() == Frame.text("both hear this")


async def test_slow_readers_of_one_feed_hold_the_same_bytes() -> None:
    sockets: list[Any] = []

    def on_open(ws: Socket) -> None:
        sockets.append(ws)
        ws.subscribe("feed")

    table = {"open": on_open, "backpressure_limit": 8 * LIMIT}
    async with (
        serving(table) as server,
        connected(server, receive_buffer=SMALL),
        connected(server, receive_buffer=SMALL),
        connected(server, receive_buffer=SMALL),
    ):
        n = 0
        while min(ws.buffered_amount for ws in sockets) < 3 * LIMIT:
            server.publish("feed", numbered(n))
            n += 1
            assert n < ENOUGH
        backlogs = [{id(each) for each in ws._backlog} for ws in sockets]
        assert min(map(len, backlogs)) >= 5
        shared = set.intersection(*backlogs)
        assert len(shared) >= min(map(len, backlogs)) - 1


async def test_pongs_of_a_peer_that_does_not_read_are_bounded() -> None:
    sockets: list[Socket] = []
    pings = 0

    def count(ws: Socket, data: bytes) -> None:
        nonlocal pings
        pings += 1

    table = {"open": sockets.append, "ping": count, "backpressure_limit": LIMIT}
    async with serving(table) as server, connected(server, receive_buffer=SMALL) as client:
        flood = ping(b"a" * 125) * 500
        sent = 0
        # So many that their pongs are over the limit for sure; the server goes on reading.
        while sent < 6 * 1024 * 1024 // 125 or sockets[0].ping() != 0:
            await client.send(flood)
            sent += 500
            assert sockets[0].buffered_amount < LIMIT + 2 * 65_536
            assert sent < 32 * 1024 * 1024 // 125
        await until(lambda: pings == sent)
        assert sockets[0].buffered_amount < LIMIT + 2 * 65_536


# Pausing


async def test_paused_socket_is_not_read_and_still_sends_until_it_is_resumed() -> None:
    got: list[str] = []
    sockets: list[Socket] = []

    def message(ws: Socket, message: str) -> None:
        got.append(message)
        if message == "stop":
            ws.pause()
            ws.pause()
            assert ws.is_paused

    async with serving({"open": sockets.append, "message": message}) as server, connected(server) as client:
        (ws,) = sockets
        assert ws.is_paused is False
        await client.send(text("stop"))
        await until(lambda: got == ["stop"])
        await client.send(text("later"))
        assert ws.send("still sending") == 13
        assert await client.receive() == Frame.text("still sending")
        assert got == ["stop"]

        ws.resume()
        assert ws.is_paused is False
        await until(lambda: got == ["stop", "later"])


async def test_paused_socket_that_is_closed_still_hears_the_close_of_its_peer() -> None:
    sockets: list[Socket] = []
    async with serving({"open": sockets.append}) as server, connected(server) as client:
        sockets[0].pause()
        sockets[0].close(4000)
        assert sockets[0].is_paused is False
        assert await client.receive() == Frame.close(4000)
        await client.send(close(4000))
        assert await client.has_ended()


# Patience. A sweep stands for one tick of time.


def sweep(server: bunws.Server, ticks: int = 1) -> None:
    for _ in range(ticks):
        server._guests.sweeper.sweep()


def timed(told: list[object], sockets: list[Socket], **more: object) -> dict[str, object]:
    return {
        "open": sockets.append,
        "message": lambda ws, message: ws.send("heard"),
        "close": lambda ws, code, reason: told.append((int(code), reason)),
        **more,
    }


TIMED_OUT = (1006, "WebSocket timed out from inactivity")


async def test_silent_peer_is_pinged_and_then_dropped_though_the_server_keeps_sending() -> None:
    told: list[object] = []
    sockets: list[Socket] = []
    async with serving(timed(told, sockets)) as server, connected(server) as client:
        ping_after, close_after = patience(server)
        assert 0 < ping_after < close_after
        for _ in range(ping_after):
            sweep(server)
            sockets[0].send("tick")
            assert await client.receive() == (Frame.text("tick") if _ < ping_after - 1 else Frame.ping())
        assert await client.receive() == Frame.text("tick")
        for _ in range(close_after - ping_after - 1):
            sweep(server)
            sockets[0].send("tick")
            assert await client.receive() == Frame.text("tick")
        assert told == []

        sweep(server)
        assert told == [TIMED_OUT]
        assert sockets[0].ready_state == ReadyState.CLOSED
        assert await client.has_ended()
        await until(lambda: not server._guests.engines)
        assert told == [TIMED_OUT]


@pytest.mark.parametrize("sign", [pong(), ping(), text("a"), text("half")[:3]])
async def test_peer_that_gives_any_sign_of_life_stays(sign: bytes) -> None:
    told: list[object] = []
    sockets: list[Socket] = []
    async with serving(timed(told, sockets)) as server, connected(server) as client:
        (engine,) = server._guests.engines
        ping_after, close_after = patience(server)
        for _ in range(3):
            sweep(server, close_after - 1)
            assert engine._silent_ticks
            await client.send(sign)
            await until(lambda: engine._silent_ticks == 0)
            if sign.startswith(b"\x81\x84"):  # "half" is one frame only once
                sign = b""
                break
        sweep(server, ping_after - 1)
        assert told == []


async def test_without_pings_a_silent_peer_is_dropped_at_the_same_time() -> None:
    told: list[object] = []
    sockets: list[Socket] = []
    async with serving(timed(told, sockets, send_pings=False)) as server, connected(server) as client:
        assert patience(server).ping == 0
        sweep(server, patience(server).close - 1)
        sockets[0].send("not a ping")
        assert await client.receive() == Frame.text("not a ping")
        sweep(server)
        assert told == [TIMED_OUT]


async def test_idle_timeout_of_0_is_patient_for_ever() -> None:
    told: list[object] = []
    sockets: list[Socket] = []
    async with serving(timed(told, sockets, idle_timeout=0)) as server, connected(server) as client:
        sweep(server, 1000)
        await client.send(text("a"))
        assert await client.receive() == Frame.text("heard")
        assert told == []


async def test_slow_reader_that_takes_something_now_and_then_stays_though_it_is_silent() -> None:
    told: list[object] = []
    sockets: list[Socket] = []
    async with (
        serving(timed(told, sockets, backpressure_limit=32 * LIMIT)) as server,
        connected(server, receive_buffer=SMALL) as client,
    ):
        (ws,) = sockets
        (engine,) = server._guests.engines
        # The kernel is to take little at a time.
        engine._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LIMIT)
        fill(ws)
        sweep(server)
        rounds = 0
        while (before := ws._buffered()) > 4 * LIMIT:
            sweep(server, patience(server).close - 2)
            while ws._buffered() >= before:  # (it may have been pinged)
                await client.receive()
            sweep(server)  # sees that something was taken
            assert told == []
            rounds += 1
        assert rounds >= 3

        sweep(server, patience(server).close - 1)
        assert told == [TIMED_OUT], "a reader that has stopped for good is dropped"


async def test_silent_peer_that_does_not_read_is_dropped_though_the_server_keeps_sending() -> None:
    told: list[object] = []
    sockets: list[Socket] = []
    async with (
        serving(timed(told, sockets, backpressure_limit=LIMIT)) as server,
        connected(server, receive_buffer=SMALL),
    ):
        fill(sockets[0])
        for _ in range(patience(server).close + 1):
            sockets[0].send("x" * 1000)
            sweep(server)
        assert told == [TIMED_OUT]


async def test_paused_socket_is_not_dropped_and_starts_anew_when_it_is_resumed() -> None:
    told: list[object] = []
    sockets: list[Socket] = []
    async with serving(timed(told, sockets)) as server, connected(server) as client:
        sweep(server, patience(server).close - 1)
        sockets[0].pause()
        sweep(server, 1000)
        assert told == []
        sockets[0].resume()
        sweep(server, patience(server).close - 1)
        assert told == []
        await client.send(text("a"))
        while await client.receive() != Frame.text("heard"):
            pass


async def test_socket_whose_async_handler_lags_is_not_dropped() -> None:
    told: list[object] = []
    sockets: list[Socket] = []
    running, go_on = asyncio.Event(), asyncio.Event()

    async def message(ws: Socket, message: str) -> None:
        running.set()
        await go_on.wait()
        ws.send("done")

    async with serving(timed(told, sockets, message=message)) as server, connected(server) as client:
        (engine,) = server._guests.engines
        await client.send(*[text("a")] * 200)
        await running.wait()
        await until(lambda: not engine._transport.is_reading())
        sweep(server, 1000)
        assert told == []
        go_on.set()
        assert [await client.receive() for _ in range(200)] == [Frame.text("done")] * 200
