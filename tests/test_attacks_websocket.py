"""
Attacks on open WebSockets: floods, bombs, silence, and peers that leave at the worst moment.

Rule 1: a peer that attacks costs no more memory than its limits say, and others are served meanwhile.
Rule 2: what was only an odd peer (ten pings in one packet) is served like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import zlib
from collections.abc import Callable, Iterator

import pytest

import bunws
from bunws import engine
from tests.attacks import BACKPRESSURE_LIMIT, LOOPS, MAX_PAYLOAD_LENGTH, MIB, Victim, counts_of
from tests.clients import (
    BINARY,
    CLOSE,
    EACH_LOOP,
    PONG,
    TEXT,
    Client,
    Frame,
    binary,
    close,
    connected,
    connection,
    cont,
    frame,
    handshake,
    ping,
    pong,
    serving,
    text,
    until,
)
from tests.support import RawWebSocket


LOOP_FACTORIES = EACH_LOOP

Socket = bunws.ServerWebSocket[object]

# RFC 7692, 6.1: "Per-Message Compressed" is RSV1.
RSV1 = 4


@pytest.fixture(params=[*LOOPS])
def victim(request: pytest.FixtureRequest) -> Iterator[Victim]:
    with Victim(request.param) as victim:
        yield victim


def wait_for(victim: Victim, mark: str) -> None:
    """Wait until the victim has handled everything up to the message that says so."""
    victim.until(lambda facts: mark in facts["marks"])


def mark(name: str) -> bytes:
    return text(f"mark {name}")


def is_served(victim: Victim) -> None:
    """Somebody else comes, and is answered."""
    with RawWebSocket(victim.port) as other:
        assert other.say("echo still there?").hear_text() == "still there?"


# Floods of a peer that reads nothing

# What is sent, how often, and how many MiB that may cost beside what the limits allow.
FLOODS: dict[str, tuple[bytes, int, int]] = {
    "pings of 125 bytes": (ping(b"a" * 125), 80_000, 4),
    "pongs of 125 bytes": (pong(b"a" * 125), 80_000, 4),
    "empty pongs": (pong(), 200_000, 4),
    "empty texts": (text(), 200_000, 4),
    "empty binary messages": (binary(), 200_000, 4),
    "messages of one byte": (binary(b"a"), 200_000, 4),
    "questions whose answers are not read": (text("echo " + "a" * 1000), 16_000, 4),
    "small questions with large answers": (text("give 60000"), 2_000, 4),
    "messages of 60 kB": (binary(b"a" * 60_000), 500, 4),
}


@pytest.mark.parametrize("name", FLOODS)
def test_flood_of_a_peer_that_does_not_read_takes_no_more_memory_than_its_limit(victim: Victim, name: str) -> None:
    piece, times, slack = FLOODS[name]
    some = piece * (times // 10)
    with RawWebSocket(victim.port) as peer, victim.growing_at_most(BACKPRESSURE_LIMIT + slack * MIB):
        for _ in range(5):
            peer.send(some)
        is_served(victim)
        for _ in range(5):
            peer.send(some)
        peer.send(mark("end"))
        wait_for(victim, "end")
    assert victim.until(lambda facts: not facts["engines"])["complaints"] == []


def test_peer_that_does_read_loses_no_pong(victim: Victim) -> None:
    # Autobahn 2.10 sends ten; a peer that reads may send as many as it likes.
    with RawWebSocket(victim.port) as peer:
        peer.send(b"".join(ping(b"%d" % n) for n in range(10)))
        assert [peer.hear() for _ in range(10)] == [(0xA, b"%d" % n) for n in range(10)]
        for _ in range(20):
            peer.send(ping(b"a") * 1000)
            assert [peer.hear() for _ in range(1000)] == [(0xA, b"a")] * 1000


# Floods within one message

FRAGMENTS: dict[str, tuple[bytes, bytes, int, bytes]] = {
    "empty": (text("mark e", fin=False), cont(b"", fin=False), 200_000, cont("nd")),
    "of one byte": (text("mark e", fin=False), cont(b"a", fin=False), 200_000, cont("nd")),
    "of one byte of binary": (binary(b"", fin=False), cont(b"a", fin=False), 200_000, cont() + mark("end")),
}


@pytest.mark.parametrize("name", FRAGMENTS)
def test_flood_of_fragments_costs_their_bytes_and_no_more(victim: Victim, name: str) -> None:
    first, piece, times, last = FRAGMENTS[name]
    some = piece * (times // 10)
    # 200,000 objects of the smallest size would be 8 MiB.
    with RawWebSocket(victim.port) as peer, victim.growing_at_most(5 * MIB):
        peer.send(first)
        for _ in range(5):
            peer.send(some + ping())
        # A control frame between fragments is answered, though the message has no end.
        assert [peer.hear() for _ in range(5)] == [(0xA, b"")] * 5
        is_served(victim)
        for _ in range(5):
            peer.send(some)
        peer.send(last)
        victim.until(lambda facts: facts["marks"])


@pytest.mark.parametrize("size", [1000, 60_000])
def test_message_without_an_end_is_refused_at_the_limit(victim: Victim, size: int) -> None:
    # bytearray grows by an eighth more than it needs, and is copied when it moves.
    with RawWebSocket(victim.port) as peer, victim.growing_at_most(3 * MAX_PAYLOAD_LENGTH + 4 * MIB):
        piece = cont(b"a" * size, fin=False)
        peer.send(binary(b"", fin=False))
        with contextlib.suppress(ConnectionError):
            for _ in range(4 * MAX_PAYLOAD_LENGTH // size):
                peer.send(piece)
        assert peer.hear_close() == (1009, "Received too big message")
    victim.until(lambda facts: not facts["engines"])
    is_served(victim)


def test_flood_of_empty_compressed_fragments_takes_no_memory(victim: Victim) -> None:
    head = "Sec-WebSocket-Extensions: permessage-deflate"
    with RawDeflating(victim.port, head) as peer, victim.growing_at_most(5 * MIB):
        peer.send(frame(TEXT, b"", fin=False, rsv=RSV1))
        for _ in range(10):
            peer.send(cont(b"", fin=False) * 30_000 + ping())
        assert [peer.hear() for _ in range(10)] == [(0xA, b"")] * 10
        peer.send(cont(b"\0"))
        is_served(victim)


class RawDeflating(RawWebSocket):
    """One that offers compression."""

    def __init__(self, port: int, *fields: str) -> None:
        self._fields = fields
        super().__init__(port)
        assert self.handshake.headers["Sec-WebSocket-Extensions"].startswith("permessage-deflate")

    def get(self, path: str = "/", *fields: str, method: str = "GET") -> RawDeflating:
        super().get(path, *fields, *self._fields, method=method)
        return self


def raw_deflated(size: int, level: int = 9) -> bytes:
    """So many zeros, as RFC 7692, 7.2.1 sends them."""
    deflater = zlib.compressobj(level, wbits=-15)
    return (deflater.compress(bytes(size)) + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


OFFERS = {
    "with context takeover": "permessage-deflate",
    "without context takeover": "permessage-deflate; client_no_context_takeover",
}


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("fragment", [1, 7, 1000], ids=lambda size: f"fragments of {size}")
def test_bomb_in_fragments_is_defused_in_either_mode(victim: Victim, offer: str, fragment: int) -> None:
    data = raw_deflated(32 * MIB)
    pieces = [data[at : at + fragment] for at in range(0, len(data), fragment)]
    wire = frame(BINARY, pieces[0], fin=False, rsv=RSV1) + b"".join(cont(piece, fin=False) for piece in pieces[1:])
    with (
        RawDeflating(victim.port, f"Sec-WebSocket-Extensions: {OFFERS[offer]}") as peer,
        victim.growing_at_most(3 * MAX_PAYLOAD_LENGTH + 4 * MIB),
    ):
        # The second message of a stream: its context is in use already.
        peer.send(frame(BINARY, raw_deflated(1000), rsv=RSV1))
        with contextlib.suppress(ConnectionError):
            peer.send(wire)
        assert peer.hear_close() == (1009, "Received too big message")
    is_served(victim)


def test_bombs_of_many_peers_at_once_cost_the_limit_of_each_at_most(victim: Victim) -> None:
    peers = 20
    # Each stays just below the limit, and never ends.
    wire = frame(BINARY, raw_deflated(MAX_PAYLOAD_LENGTH // 2), fin=False, rsv=RSV1)
    assert len(wire) < 10_000
    with contextlib.ExitStack() as stack, victim.growing_at_most(peers * MAX_PAYLOAD_LENGTH):
        for _ in range(peers):
            peer = stack.enter_context(RawDeflating(victim.port, "Sec-WebSocket-Extensions: permessage-deflate"))
            peer.send(wire + ping())
            assert peer.hear() == (0xA, b"")
        is_served(victim)
    after = victim.until(lambda facts: not facts["engines"])
    assert after["heard"] == peers + 1


# Promises that are not kept


def test_length_that_is_announced_is_not_allocated(victim: Victim) -> None:
    peers = 400
    with contextlib.ExitStack() as stack, victim.growing_at_most(peers * 16 * 1024 + 2 * MIB):
        for _ in range(peers):
            peer = stack.enter_context(RawWebSocket(victim.port))
            peer.send(binary(size=MAX_PAYLOAD_LENGTH, size_bytes=8) + b"a" * 1000)
        victim.until(lambda facts: facts["engines"] == peers)
        is_served(victim)


@pytest.mark.parametrize("size", [1 << 63, (1 << 64) - 1, (1 << 63) - 1, (1 << 31), MAX_PAYLOAD_LENGTH + 1])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_length_that_nobody_can_mean_is_refused_from_the_header(victim: Victim, size: int, opcode: int) -> None:
    # RFC 6455, 5.2: "the most significant bit MUST be 0".
    expected = (1002, "Received invalid payload length") if size >> 63 else (1009, "Received too big message")
    with RawWebSocket(victim.port) as peer, victim.growing_at_most(2 * MIB):
        peer.send(frame(opcode, b"", size=size, size_bytes=8))
        assert peer.hear_close() == expected
        assert peer.rest() == b""


@pytest.mark.parametrize(
    "last", [text("a", mask=None), close(1000), text("a", rsv=2), frame(3)], ids=["unmasked", "close", "rsv", "opcode"]
)
def test_flood_behind_the_last_frame_is_read_and_forgotten(victim: Victim, last: bytes) -> None:
    with RawWebSocket(victim.port) as peer, victim.growing_at_most(3 * MIB):
        peer.send(last)
        assert peer.hear()[0] == 8
        assert peer.rest() == b""
        with contextlib.suppress(ConnectionError):  # it may have been given up by now
            for _ in range(100):
                peer.send(binary(b"a" * 60_000))
        peer.half_close()
        is_served(victim)
    assert victim.until(lambda facts: not facts["engines"])["heard"] == 1


def test_flood_of_unmasked_frames_is_one_mistake(victim: Victim) -> None:
    with RawWebSocket(victim.port) as peer:
        with contextlib.suppress(ConnectionError):
            peer.send(text("mark forged", mask=None) * 10_000 + mark("forged as well"))
        assert peer.hear_close() == (1002, "Received an incorrectly masked frame")
        assert peer.rest() == b""
    assert victim.until(lambda facts: not facts["engines"])["marks"] == []


# Topics


def test_flood_of_subscriptions_is_bounded_and_leaves_nothing_behind(victim: Victim) -> None:
    peers = 5
    with contextlib.ExitStack() as stack, victim.growing_at_most(8 * MIB):
        for number in range(peers):
            peer = stack.enter_context(RawWebSocket(victim.port))
            peer.send(b"".join(text(f"join {number} {n} " + "x" * 100) for n in range(5000)))
            assert peer.say("echo done").hear_text() == "done"
        facts = victim.facts()
        assert facts["topics"] == peers * 1000
        assert len(facts["complaints"]) <= 2 + facts["time"], "at most one line a second"
        is_served(victim)
    victim.until(lambda facts: (facts["topics"], facts["engines"]) == (0, 0))


def test_flood_of_publishes_to_topics_that_nobody_hears_leaves_nothing_behind(victim: Victim) -> None:
    with RawWebSocket(victim.port) as peer, victim.growing_at_most(3 * MIB):
        for begin in range(0, 30_000, 1000):
            peer.send(b"".join(text(f"publish {n}") for n in range(begin, begin + 1000)))
        assert peer.say("echo done").hear_text() == "done"
        assert victim.facts()["topics"] == 0


def test_peers_that_come_join_and_die_leave_no_topic(victim: Victim) -> None:
    for number in range(300):
        peer = RawWebSocket(victim.port)
        peer.send(b"".join(text(f"join {number} {n}") for n in range(20)) + text("echo done"))
        if number % 3 == 0:
            assert peer.hear_text() == "done"
        if number % 2:
            peer.reset()
        else:
            peer.close()
    after = victim.until(lambda facts: not facts["engines"])
    assert (after["topics"], after["levels"], after["swept"], after["tasks"]) == (0, 0, 0, 0)


def test_subscribers_that_do_not_read_share_what_waits_and_miss_the_rest(victim: Victim) -> None:
    # Each may be 1 MiB behind: 50 MiB if each had its own.
    with contextlib.ExitStack() as stack, victim.growing_at_most(2 * BACKPRESSURE_LIMIT + 10 * MIB):
        peers = [stack.enter_context(RawWebSocket(victim.port, "/?news")) for _ in range(50)]
        victim.until(lambda facts: facts["engines"] == len(peers))
        reader = stack.enter_context(RawWebSocket(victim.port))
        for _ in range(1200):
            victim.ask("publish", "news", 16_000)
        assert victim.facts()["levels"] == len(peers)
        assert reader.say("echo still there?").hear_text() == "still there?"
        for peer in peers[::2]:
            peer.reset()
    after = victim.until(lambda facts: not facts["engines"])
    assert (after["topics"], after["levels"]) == (0, 0)


# Their share of the loop


class Order(list[str]):
    """Who was heard, in the order of the calls."""


@pytest.mark.parametrize(
    "flood", [binary(b""), text("a"), ping(), cont(b"", fin=False)], ids=["empty", "text", "ping", "fragment"]
)
async def test_flood_leaves_the_others_their_turns(flood: bytes) -> None:
    order = Order()

    def note(ws: Socket, message: str | bytes) -> None:
        if ws is sockets[0]:
            told()
        else:
            order.append("other")

    def told(*_: object) -> None:
        # As soon as the flood is felt, the kernel has something of somebody else.
        if not order:
            other.socket.sendall(text("now me"))
        order.append("flood")

    sockets: list[Socket] = []
    # A fragment is heard by nobody: pings between them tell how far the server is.
    piece = flood * 9 + ping() if flood == cont(b"", fin=False) else flood
    table = {"open": sockets.append, "message": note, "ping": told}
    async with serving(table) as server, connected(server) as peer, connected(server) as other:
        reading = asyncio.create_task(peer.receive_until_dropped())
        if piece is not flood:
            await peer.send(binary(b"a", fin=False))
        sending = asyncio.create_task(peer.send(piece * (1_200_000 // len(piece))))
        await until(lambda: "other" in order)
        # uvloop's first look at a peer may be some reads, while the buffer grows; then it is one for each turn.
        assert order.index("other") * len(piece) <= 6 * engine.READ_SIZE
        sending.cancel()
        reading.cancel()
        await asyncio.gather(sending, reading, return_exceptions=True)


# Handlers that fail or hang


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
async def test_handler_that_raises_every_time_ends_its_own_socket_only(
    is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    closes: list[int] = []

    def fail(ws: Socket, *args: object) -> object:
        if len(args) == 2:
            closes.append(args[0] if isinstance(args[0], int) else 0)
        if ws.data == "good":
            return None
        raise ValueError("secret")

    async def fail_later(ws: Socket, *args: object) -> object:
        await asyncio.sleep(0)
        return fail(ws, *args)

    def fetch(request: bunws.Request, server: bunws.Server) -> None:
        server.upgrade(request, data=request.url.query_string)

    failing = fail_later if is_async else fail
    table = dict.fromkeys(("message", "ping", "pong", "drain", "close", "error"), failing)
    caplog.set_level(logging.CRITICAL + 1, "asyncio")
    async with (
        serving(table, fetch=fetch, complains=True) as server,
        connected(server, line="GET /?good HTTP/1.1") as good,
    ):
        for message in (text("a"), ping(b"b"), pong(b"c"), text("a") * 100, text("a") + ping() + pong() + close(1000)):
            for _ in range(5):
                async with connected(server) as client:
                    await client.send(message)
                    while (frame := await client.receive()).opcode != CLOSE:
                        assert frame.opcode == PONG
                    # What the peer says counts where it is heard before the handler has raised.
                    assert frame in (Frame.close(1011), Frame.close(1000))
                    assert frame == Frame.close(1011) or (is_async and message.endswith(close(1000)))
                    with contextlib.suppress(ConnectionError):
                        await client.send(close(1011))
                    assert await client.has_ended()
        await good.send(ping(b"still there?"))
        assert await good.receive() == Frame.pong(b"still there?")
        await until(lambda: server.pending_websockets == 1)
        await until(lambda: len(server._guests.engines) == 1)
        await until(lambda: len(closes) == 25)
        assert set(closes) <= {1011, 1000}


async def test_handler_that_blocks_the_loop_costs_nobody_else_the_connection() -> None:
    blocked = threading.Event()

    def block(ws: Socket, message: str) -> None:
        if message == "block":
            # Longer than everybody's patience: only what was swept meanwhile counts, and nothing was.
            end = time.monotonic() + 3 * 0.3
            while time.monotonic() < end:
                blocked.wait(0.01)
        else:
            ws.send(message)

    table = {"message": block, "idle_timeout": 0.3, "send_pings": False}
    async with (
        serving(table, idle_timeout=0.3, in_thread=True) as server,
        connected(server) as silent,
        connected(server) as peer,
        connected(server) as other,
    ):
        await peer.send(text("block"))
        await other.send(text("me too"))
        assert await other.receive() == Frame.text("me too")
        await silent.send(text("and me"))
        assert await silent.receive() == Frame.text("and me")
        await peer.send(text("done"))
        assert await peer.receive() == Frame.text("done")


# Peers that leave in the middle of a callback

LEAVE: dict[str, Callable[[Client], None]] = {
    "FIN": lambda client: client.end(),
    "RST": lambda client: client.reset(),
    "Close": lambda client: client.socket.sendall(close(1001)),
}

PROVOKE: dict[str, bytes] = {
    "open": b"",
    "message": text("hello"),
    "ping": ping(b"a"),
    "pong": pong(b"a"),
    "error": text("raise"),
    "close": close(1000),
}


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("how", LEAVE)
@pytest.mark.parametrize("event", PROVOKE)
async def test_peer_that_leaves_within_a_callback_is_told_once_and_forgotten(
    event: str, how: str, is_async: bool
) -> None:
    told: list[int] = []
    left = asyncio.Event()
    clients: list[Client] = []

    def leave(ws: Socket) -> None:
        if left.is_set() or not clients:
            return
        left.set()
        LEAVE[how](clients[0])
        # What a program does that knows nothing of it.
        for _ in range(3):
            ws.send("answer")
            ws.subscribe("news")
            server.publish("news", "hello")
            ws.ping()

    def heard(name: str) -> Callable[..., object]:
        def plain(ws: Socket, *args: object) -> None:
            if name == "close":
                told.append(args[0] if isinstance(args[0], int) else 0)
            if args[:1] == ("raise",):
                raise ValueError("raise")
            if name == event:
                leave(ws)

        async def later(ws: Socket, *args: object) -> None:
            await asyncio.sleep(0)
            plain(ws, *args)
            await asyncio.sleep(0)
            ws.send("and more")

        return later if is_async else plain

    table = {name: heard(name) for name in PROVOKE}
    async with serving(table) as server:
        async with connection(server) as client:
            clients.append(client)
            await client.send(handshake() + PROVOKE[event])
            await left.wait()
            await until(lambda: len(told) == 1)
            if how == "Close":
                client.end()
            await until(lambda: not server._guests)
        assert set(counts_of(server).values()) == {0}
        assert len(told) == 1


@pytest.mark.parametrize("how", LEAVE)
async def test_peer_that_leaves_while_drain_is_told_is_forgotten(how: str, caplog: pytest.LogCaptureFixture) -> None:
    # asyncio's transport tells the end twice where a write fails within resume_writing, and complains about itself.
    caplog.set_level(logging.CRITICAL + 1, "asyncio")
    told: list[int] = []
    left = asyncio.Event()

    def fill(ws: Socket) -> None:
        ws.subscribe("news")
        for _ in range(500):  # 30 MB, more than the kernel takes
            if ws.send(bytes(60_000)) == -1:
                break

    def drain(ws: Socket) -> None:
        if not left.is_set():
            left.set()
            LEAVE[how](client)
            fill(ws)
            server.publish("news", "hello")

    table = {"open": fill, "drain": drain, "close": lambda ws, code, reason: told.append(code)}
    async with serving(table) as server:
        async with connected(server, receive_buffer=10_000) as client:
            reading = asyncio.create_task(client.receive_until_dropped())
            await left.wait()
            if how == "RST":
                reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            if how == "Close":
                client.end()
            await until(lambda: not server._guests)
        assert set(counts_of(server).values()) == {0}
        assert len(told) == 1


async def test_handler_that_sends_until_it_is_told_to_stop_is_told_when_the_peer_has_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL + 1, "asyncio")
    answers: list[int] = []

    def pour(ws: Socket, message: str) -> None:
        client.reset()
        for _ in range(500):  # 30 MB, more than any kernel takes
            answers.append(ws.send(bytes(60_000)))
            if answers[-1] <= 0:
                break

    async with serving({"message": pour}) as server, connected(server) as client:
        await client.send(text("go"))
        await until(lambda: not server._guests)
    assert answers[-1] <= 0


# Changes while messages fly


async def test_reload_while_messages_fly_loses_none_and_keeps_their_order() -> None:
    def table(number: int) -> dict[str, object]:
        def answer(ws: Socket, message: str) -> None:
            ws.send(f"{message} {number}")

        async def answer_later(ws: Socket, message: str) -> None:
            await asyncio.sleep(0)
            ws.send(f"{message} {number}")

        return {"message": answer_later if number % 3 else answer, "max_payload_length": 1000 + number}

    async def talk(client: Client, rounds: int) -> list[list[str]]:
        heard = []
        for n in range(0, rounds, 5):
            await client.send(*[text(str(n + m)) for m in range(5)])
            heard += [(await client.receive()).payload.decode().split() for _ in range(5)]
        return heard

    async with serving(table(0)) as server, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(server)) for _ in range(20)]
        talks = asyncio.gather(*[talk(client, 100) for client in clients])
        reloads = 0
        while not talks.done():
            reloads += 1
            server.reload(websocket=table(reloads))
            await asyncio.sleep(0)
        for heard in await talks:
            assert [int(message) for message, _ in heard] == list(range(100))
            tables = [int(number) for _, number in heard]
            assert tables == sorted(tables), "an old table never comes back"
            assert tables[-1] > 0
    assert reloads > 1


async def test_stop_while_messages_fly_tells_everybody_once_and_leaves_nothing() -> None:
    told: list[int] = []

    async def answer(ws: Socket, message: str) -> None:
        await asyncio.sleep(0)
        ws.publish("all", message)
        if len(heard) < 500:
            heard.append(message)
        elif not server._life.stopping:
            server.stop()

    heard: list[str] = []
    table = {
        "open": lambda ws: ws.subscribe("all"),
        "message": answer,
        "close": lambda ws, code, reason: told.append(code),
    }

    async def talk(client: Client) -> list[Frame]:
        async def shout() -> None:
            with contextlib.suppress(ConnectionError):
                for _ in range(500):
                    await client.send(text("a") * 10)

        shouting = asyncio.create_task(shout())
        frames = []
        while (frame := await client.receive()).opcode == TEXT:
            frames.append(frame)
        shouting.cancel()
        await asyncio.gather(shouting, return_exceptions=True)
        # What may have been cut is a frame that nobody looks at any more.
        client.end()
        return [frame]

    async with serving(table) as server, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(server)) for _ in range(20)]
        assert await asyncio.gather(*map(talk, clients)) == [[Frame.close(1001, "Server closed")]] * 20
        await server.wait_closed()
        assert set(counts_of(server).values()) == {0}
    assert told == [1001] * 20
