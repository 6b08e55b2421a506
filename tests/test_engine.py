"""Engine: what the peer sees on the wire, frame by frame, and what `close` is told."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib.metadata
import random
import re
import tracemalloc
from pathlib import Path
from typing import Any

import picows
import pytest
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # what the engine imports

import bunws
from bunws import engine
from bunws.facade import SILENCE, Facade
from tests.clients import (
    EACH_LOOP,
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


LOOP_FACTORIES = EACH_LOOP

Closed = asyncio.Queue[tuple[int, str]]
Socket = bunws.ServerWebSocket[Any]

LIMIT = 100_000  # the `max_payload_length` of these tests


def echo(ws: Socket, message: str | bytes) -> None:
    ws.send(message)


def table(closed: Closed, **more: object) -> dict[str, object]:
    """Handlers that echo, and note what `close` is told."""

    def note(ws: Socket, code: int, reason: str) -> None:
        closed.put_nowait((int(code), reason))

    return {"message": echo, "close": note, "max_payload_length": LIMIT, **more}


# Failing the connection

MASK = (1002, "Received an incorrectly masked frame")
OPCODE = (1002, "Received invalid opcode")
RSV1 = (1002, "Received unexpected RSV1 bit")
RSV23 = (1002, "Received unexpected RSV2 or RSV3 bit")
FRAGMENTED = (1002, "Received fragmented control frame")
LONG_CONTROL = (1002, "Received too big control frame")
STRAY = (1002, "Received continuation frame outside a fragmented message")
NESTED = (1002, "Received new message inside a fragmented message")
LENGTH = (1002, "Received invalid payload length")
UTF8 = (1007, "Received invalid UTF-8")
TOO_BIG = (1009, "Received too big message")
CODE = (1002, "Received invalid close code")
PAYLOAD = (1002, "Received invalid close payload")

FAILURES: dict[str, tuple[bytes, tuple[int, str]]] = {
    "unmasked_text": (text("a", mask=None), MASK),
    "unmasked_empty_text": (text(mask=None), MASK),
    "unmasked_binary": (binary(b"a", mask=None), MASK),
    "unmasked_ping": (ping(mask=None), MASK),
    "unmasked_close": (close(1000, mask=None), MASK),
    **{f"opcode_{opcode:x}": (frame(opcode, b"a"), OPCODE) for opcode in (3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF)},
    "rsv1_text": (text("a", rsv=0b100), RSV1),
    "rsv1_binary": (binary(b"a", rsv=0b100), RSV1),
    "rsv1_first_fragment": (text("a", rsv=0b100, fin=False), RSV1),
    "rsv1_continuation": (text("a", fin=False) + cont("b", rsv=0b100), RSV1),
    "rsv1_ping": (ping(rsv=0b100), RSV1),
    "rsv1_pong": (pong(rsv=0b100), RSV1),
    "rsv1_close": (close(1000, rsv=0b100), RSV1),
    "rsv2_text": (text("a", rsv=0b010), RSV23),
    "rsv3_binary": (binary(b"a", rsv=0b001), RSV23),
    "rsv123_text": (text("a", rsv=0b111), RSV23),
    "rsv2_continuation": (text("a", fin=False) + cont("b", rsv=0b010), RSV23),
    "rsv3_ping": (ping(rsv=0b001), RSV23),
    "rsv2_close": (close(1000, rsv=0b010), RSV23),
    "fragmented_ping": (ping(fin=False), FRAGMENTED),
    "fragmented_pong": (pong(fin=False), FRAGMENTED),
    "fragmented_close": (close(fin=False), FRAGMENTED),
    "ping_of_126": (ping(b"a" * 126), LONG_CONTROL),
    "pong_of_126": (pong(b"a" * 126), LONG_CONTROL),
    "close_of_126": (close(1000, "a" * 124), LONG_CONTROL),
    "ping_of_64_bit_length": (ping(b"a" * 70_000), LONG_CONTROL),
    "stray_continuation": (cont("a"), STRAY),
    "stray_first_part_of_a_continuation": (cont("a", fin=False), STRAY),
    "text_inside_text": (text("a", fin=False) + text("b"), NESTED),
    "binary_inside_text": (text("a", fin=False) + binary(b"b"), NESTED),
    "fragment_inside_binary": (binary(b"a", fin=False) + text("b", fin=False), NESTED),
    "16_bit_length_of_125": (text("a" * 125, size_bytes=2), LENGTH),
    "16_bit_length_of_0": (text(size_bytes=2), LENGTH),
    "64_bit_length_of_65535": (binary(b"a" * 65_535, size_bytes=8), LENGTH),
    "64_bit_length_of_5": (text("hello", size_bytes=8), LENGTH),
    "length_2_63": (binary(size=1 << 63), LENGTH),
    "length_2_64_less_1": (binary(size=(1 << 64) - 1), LENGTH),
    "text_cut_inside_a_character": (text(b"caf\xc3"), UTF8),
    "text_with_stray_byte": (text(b"\x80"), UTF8),
    "text_with_surrogate": (text(b"\xed\xa0\x80"), UTF8),
    "text_overlong": (text(b"\xc0\xaf"), UTF8),
    "text_past_unicode": (text(b"\xf4\x90\x80\x80"), UTF8),
    "bad_text_in_unfinished_fragment": (text(b"a\xff", fin=False), UTF8),
    "bad_text_in_middle_fragment": (text(b"a", fin=False) + cont(b"\xff", fin=False), UTF8),
    "bad_text_in_last_fragment": (text(b"caf\xc3", fin=False) + cont(b"\xc3"), UTF8),
    "fragmented_text_cut_inside_a_character": (text(b"caf", fin=False) + cont(b"\xc3"), UTF8),
    "close_reason_not_utf8": (close(1000, b"\xff"), UTF8),
    "close_reason_not_utf8_of_3000": (close(3000, b"a\xc3"), UTF8),
    "text_over_the_limit": (text("a" * (LIMIT + 1)), TOO_BIG),
    "binary_over_the_limit": (binary(b"a" * (LIMIT + 1)), TOO_BIG),
    "fragments_over_the_limit": (binary(b"a" * LIMIT, fin=False) + cont(b"a"), TOO_BIG),
    "unfinished_fragments_over_the_limit": (text("a" * LIMIT, fin=False) + cont(b"a", fin=False), TOO_BIG),
    "declared_over_the_limit": (binary(size=LIMIT + 1), TOO_BIG),
    "declared_2_63_less_1": (binary(size=(1 << 63) - 1), TOO_BIG),
    "declared_continuation_over_the_limit": (text("a", fin=False) + cont(size=LIMIT + 1), TOO_BIG),
    **{
        f"close_{code}": (close(code), CODE)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
    },
    "close_999_with_reason": (close(999, "bye"), CODE),
    "close_of_1_byte": (frame(0x8, b"\x03"), PAYLOAD),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_broken_frame_fails_the_connection_with_its_code_and_phrase(name: str) -> None:
    broken, (code, phrase) = FAILURES[name]
    closed = Closed()
    async with serving(table(closed)) as server, connected(server) as client:
        await client.send(broken)

        assert await client.receive_all() == [Frame.close(code, phrase)]
        assert await closed.get() == (1006, phrase)


@pytest.mark.parametrize("name", FAILURES)
async def test_good_message_before_a_broken_frame_is_answered_first(name: str) -> None:
    broken, (code, phrase) = FAILURES[name]
    closed = Closed()
    async with serving(table(closed)) as server, connected(server) as client:
        await client.send(text("one"), binary(b"two"), broken, text("not this"))

        frames = await client.receive_all()

        assert frames == [Frame.text("one"), Frame.binary(b"two"), Frame.close(code, phrase)]
        assert await closed.get() == (1006, phrase)
        assert closed.empty()


@pytest.mark.parametrize("name", ["unmasked_text", "rsv1_text", "text_with_stray_byte", "declared_over_the_limit"])
async def test_broken_frame_behind_the_handshake_in_one_packet_fails_the_connection(name: str) -> None:
    broken, (code, phrase) = FAILURES[name]
    closed = Closed()
    async with serving(table(closed)) as server, connection(server) as client:
        await client.send(handshake(), text("one"), broken)

        assert (await client.receive_answer()).status == 101
        assert await client.receive_all() == [Frame.text("one"), Frame.close(code, phrase)]
        assert await closed.get() == (1006, phrase)


@pytest.mark.parametrize("name", FAILURES)
async def test_broken_frame_that_comes_byte_by_byte_is_seen_all_the_same(name: str) -> None:
    broken, (code, phrase) = FAILURES[name]
    if len(broken) > 1000:
        broken, rest = broken[:20], broken[20:]
    else:
        rest = b""
    closed = Closed()
    async with serving(table(closed)) as server, connected(server) as client:
        for at in range(len(broken)):
            await client.send(broken[at : at + 1])
            await asyncio.sleep(0)
        await client.send(rest)

        assert await client.receive_all() == [Frame.close(code, phrase)]
        assert await closed.get() == (1006, phrase)


async def test_continuation_behind_a_whole_message_fails_the_connection() -> None:
    async with serving(table(Closed())) as server, connected(server) as client:
        await client.send(text("a", fin=False), cont("b"), cont("c"))
        assert await client.receive_all() == [Frame.text("ab"), Frame.close(*STRAY)]


async def test_oversize_frame_is_refused_from_its_header_and_nothing_is_allocated() -> None:
    closed = Closed()
    limit = 1 << 40
    async with serving(table(closed, max_payload_length=limit)) as server, connected(server) as client:
        tracemalloc.start()
        try:
            await client.send(binary(size=limit + 1), b"a" * 100_000)
            assert await client.receive_all() == [Frame.close(*TOO_BIG)]
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
        finally:
            tracemalloc.stop()


async def test_message_of_exactly_the_limit_is_delivered() -> None:
    async with serving(table(Closed())) as server, connected(server) as client:
        await client.send(binary(b"a" * LIMIT), text("b" * (LIMIT - 1), fin=False), cont("b"))

        assert await client.receive() == Frame.binary(b"a" * LIMIT)
        assert await client.receive() == Frame.text("b" * LIMIT)


async def test_what_a_peer_sends_behind_a_broken_frame_is_read_and_forgotten_until_it_ends() -> None:
    closed = Closed()
    async with serving(table(closed)) as server, connected(server) as client:
        await client.send(text("a", mask=None))
        assert await client.receive() == Frame.close(*MASK)
        assert await client.has_ended()

        await client.send(*[binary(b"a" * 60_000)] * 50)
        client.end()
        await until(lambda: not server._guests.engines)
        assert closed.qsize() == 1


async def test_broken_frame_fails_the_connection_while_an_async_handler_runs() -> None:
    closed = Closed()
    go_on = asyncio.Event()

    async def message(ws: Socket, message: str) -> None:
        await go_on.wait()
        ws.send(message)

    async with serving(table(closed, message=message)) as server, connected(server) as client:
        await client.send(text("a"), text("b", rsv=2))
        assert await client.receive_all() == [Frame.close(*RSV23)]
        assert closed.empty()

        go_on.set()
        assert await closed.get() == (1006, RSV23[1])


# The closing handshake


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999])
async def test_close_of_the_peer_is_echoed_and_told_with_its_reason(code: int) -> None:
    closed = Closed()
    async with serving(table(closed)) as server, connected(server) as client:
        await client.send(text("before"), close(code, "bye ✓"))

        assert await client.receive_all() == [Frame.text("before"), Frame.close(code, "bye ✓")]
        assert await closed.get() == (code, "bye ✓")


async def test_empty_close_is_answered_with_an_empty_close_and_told_as_1005() -> None:
    closed = Closed()
    async with serving(table(closed)) as server, connected(server) as client:
        await client.send(close())

        assert await client.receive_all() == [Frame.close()]
        assert await closed.get() == (1005, "")


async def test_reason_of_123_bytes_is_told_whole() -> None:
    closed = Closed()
    async with serving(table(closed)) as server, connected(server) as client:
        await client.send(close(1000, "a" * 123))

        assert await client.receive_all() == [Frame.close(1000, "a" * 123)]
        assert await closed.get() == (1000, "a" * 123)


async def test_second_close_in_the_same_packet_is_ignored() -> None:
    closed = Closed()
    async with serving(table(closed)) as server, connected(server) as client:
        await client.send(close(3001, "first"), close(3002, "second"))

        assert await client.receive_all() == [Frame.close(3001, "first")]
        assert await closed.get() == (3001, "first")
        client.end()
        await until(lambda: not server._guests.engines)
        assert closed.empty()


@pytest.mark.parametrize("name", ["unmasked_text", "rsv1_text", "opcode_3", "declared_over_the_limit"])
async def test_broken_frame_behind_a_close_in_the_same_packet_is_ignored(name: str) -> None:
    closed = Closed()
    async with serving(table(closed)) as server, connected(server) as client:
        await client.send(close(3001), FAILURES[name][0])

        assert await client.receive_all() == [Frame.close(3001)]
        assert await closed.get() == (3001, "")


async def test_data_behind_a_close_is_ignored() -> None:
    closed = Closed()
    async with serving(table(closed)) as server, connected(server) as client:
        await client.send(close(1000), text("late"), ping(b"late"))

        assert await client.receive_all() == [Frame.close(1000)]
        await client.send(text("later"))
        client.end()
        assert await closed.get() == (1000, "")
        await until(lambda: not server._guests.engines)


async def test_server_that_closes_waits_for_the_close_of_the_peer_and_then_ends_the_connection() -> None:
    closed = Closed()

    def message(ws: Socket, message: str) -> None:
        ws.send("before")
        ws.close(4000, "enough")

    async with serving(table(closed, message=message)) as server, connected(server) as client:
        await client.send(text("a"), text("ignored"), ping(b"ignored"))
        assert await client.receive() == Frame.text("before")
        assert await client.receive() == Frame.close(4000, "enough")
        assert await closed.get() == (4000, "enough")
        await client.send(text("ignored as well"))
        assert server._guests.engines

        await client.send(close(4000))
        assert await client.has_ended()
        assert closed.empty()


async def test_peer_that_never_answers_a_close_is_dropped_after_the_deadline() -> None:
    closed = Closed()

    async with (
        serving(table(closed, open=lambda ws: ws.close(4000))) as server,
        connected(server) as client,
    ):
        assert await client.receive() == Frame.close(4000)
        for _ in range(server.close_ticks - 1):
            server._guests.sweeper.sweep()
        assert server._guests.engines

        server._guests.sweeper.sweep()
        assert await client.has_ended()
        await until(lambda: not server._guests.engines)
        assert await closed.get() == (4000, "")
        assert closed.empty()


async def test_peer_that_stays_after_both_have_said_close_is_dropped_after_the_deadline() -> None:
    async with serving(table(Closed())) as server, connected(server) as client:
        await client.send(close(1000))
        assert await client.receive_all() == [Frame.close(1000)]
        assert server._guests.engines

        for _ in range(server.close_ticks):
            server._guests.sweeper.sweep()
        await until(lambda: not server._guests.engines)


async def test_peer_that_neither_reads_nor_leaves_is_dropped_after_the_deadline_though_its_close_waits() -> None:
    closed = Closed()

    def message(ws: Socket, message: str) -> None:
        while ws.send(b"a" * 65_536) > 0:
            pass
        ws.close(4000)

    async with serving(table(closed, message=message)) as server, connected(server, receive_buffer=4096) as client:
        await client.send(text("go"))
        assert await closed.get() == (4000, "")
        assert server._guests.engines

        # What the kernel still takes on its own is progress, so there may be a few ticks more.
        for _ in range(server.close_ticks * 3):
            server._guests.sweeper.sweep()
        await until(lambda: not server._guests.engines)


async def test_peer_that_ends_without_a_close_is_told_as_1006() -> None:
    closed = Closed()
    async with serving(table(closed)) as server, connected(server) as client:
        await client.send(text("a"))
        assert await client.receive() == Frame.text("a")
        client.end()

        assert await closed.get() == (1006, "")
        assert await client.has_ended()


async def test_peer_that_resets_the_connection_is_told_as_1006() -> None:
    closed = Closed()
    async with serving(table(closed)) as server, connected(server) as client:
        client.reset()
        assert await closed.get() == (1006, "")
        await until(lambda: not server._guests.engines)
        assert closed.empty()


async def test_peer_that_ends_inside_a_frame_is_told_as_1006() -> None:
    closed = Closed()
    async with serving(table(closed)) as server, connected(server) as client:
        await client.send(text("hello")[:-1])
        client.end()
        assert await closed.get() == (1006, "")
        assert await client.has_ended()


async def test_terminate_drops_the_connection_without_a_close() -> None:
    closed = Closed()

    def message(ws: Socket, message: str) -> None:
        ws.terminate()
        closed.put_nowait((ws.ready_state, "behind"))

    async with serving(table(closed, message=message)) as server, connected(server) as client:
        await client.send(text("a"))
        assert await client.receive_until_dropped() == []
        assert await closed.get() == (1006, "")  # told before `terminate` returned
        assert await closed.get() == (3, "behind")
        assert closed.empty()


# Good frames


async def test_one_message_may_come_in_many_fragments_with_control_frames_in_between() -> None:
    got: list[object] = []

    def message(ws: Socket, message: str | bytes) -> None:
        got.append(message)
        ws.send("done")

    handlers = {
        "message": message,
        "ping": lambda ws, data: got.append(("ping", data)),
        "pong": lambda ws, data: got.append(("pong", data)),
    }
    async with serving(handlers) as server, connected(server) as client:
        await client.send(
            text("he", fin=False), ping(b"1"), cont("", fin=False), cont("ll", fin=False), pong(b"2"), cont("o")
        )
        await client.send(binary(b"", fin=False), cont(b"\xff", fin=False), cont(b""), text("", fin=False), cont(""))

        assert await client.receive() == Frame.pong(b"1")
        assert [await client.receive() for _ in range(3)] == [Frame.text("done")] * 3
        assert got == [("ping", b"1"), ("pong", b"2"), "hello", b"\xff", ""]


async def test_close_between_fragments_closes() -> None:
    closed = Closed()
    async with serving(table(closed)) as server, connected(server) as client:
        await client.send(text("a", fin=False), close(1001), cont("b"))
        assert await client.receive_all() == [Frame.close(1001)]
        assert await closed.get() == (1001, "")


async def test_character_may_be_split_over_fragments() -> None:
    async with serving(table(Closed())) as server, connected(server) as client:
        payload = "κόσμε 🎉".encode()
        fragments = [payload[at : at + 1] for at in range(len(payload))]
        await client.send(text(fragments[0], fin=False), *[cont(f, fin=False) for f in fragments[1:]], cont())
        assert await client.receive() == Frame.text("κόσμε 🎉")


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
async def test_every_form_of_the_length_is_read_and_written(size: int) -> None:
    async with serving(table(Closed())) as server, connected(server) as client:
        payload = bytes(range(256)) * (size // 256 + 1)
        await client.send(binary(payload[:size]), text("a" * size))
        assert await client.receive() == Frame.binary(payload[:size])
        assert await client.receive() == Frame.text("a" * size)


@pytest.mark.parametrize("step", [1, 2, 7])
async def test_frames_may_be_split_anywhere(step: int) -> None:
    async with serving(table(Closed())) as server, connected(server) as client:
        wire = text("hello") + text("", fin=False) + ping(b"p") + cont("w" * 200) + binary(b"\x00" * 3) + close(1000)
        for at in range(0, len(wire), step):
            await client.send(wire[at : at + step])
            await asyncio.sleep(0)

        assert await client.receive_all() == [
            Frame.text("hello"),
            Frame.pong(b"p"),
            Frame.text("w" * 200),
            Frame.binary(b"\x00" * 3),
            Frame.close(1000),
        ]


async def test_frame_with_a_mask_of_zeros_is_good() -> None:
    async with serving(table(Closed())) as server, connected(server) as client:
        await client.send(text("hello", mask=b"\0\0\0\0"))
        assert await client.receive() == Frame.text("hello")


async def test_thousands_of_messages_in_one_packet_are_answered_in_order() -> None:
    async with serving(table(Closed())) as server, connected(server) as client:
        sending = asyncio.ensure_future(client.send(*[text(f"{n}") for n in range(20_000)]))
        assert [await client.receive() for _ in range(20_000)] == [Frame.text(f"{n}") for n in range(20_000)]
        await sending


# Pings and pongs


@pytest.mark.parametrize("payload", [b"", b"hello", b"\xff" * 125])
async def test_ping_is_answered_once_with_its_payload(payload: bytes) -> None:
    async with serving(table(Closed())) as server, connected(server) as client:
        await client.send(ping(payload), text("next"))
        assert await client.receive() == Frame.pong(payload)
        assert await client.receive() == Frame.text("next")


async def test_ten_pings_in_one_packet_get_ten_pongs_in_order() -> None:
    async with serving(table(Closed())) as server, connected(server) as client:
        await client.send(*[ping(b"%d" % n) for n in range(10)], text("next"))
        assert [await client.receive() for _ in range(10)] == [Frame.pong(b"%d" % n) for n in range(10)]
        assert await client.receive() == Frame.text("next")


async def test_handlers_hear_pings_and_pongs_with_their_payload() -> None:
    got: list[object] = []
    handlers = {
        "message": echo,
        "ping": lambda ws, data: got.append(("ping", data)),
        "pong": lambda ws, data: got.append(("pong", data)),
    }
    async with serving(handlers) as server, connected(server) as client:
        await client.send(ping(b"\xff"), pong(b"nobody asked"), text("done"))
        assert await client.receive() == Frame.pong(b"\xff")
        assert await client.receive() == Frame.text("done")
        assert got == [("ping", b"\xff"), ("pong", b"nobody asked")]


# The read buffer


def buffer_size(client_of: bunws.Server) -> int:
    """What the parser of the only socket has to read into."""
    (one,) = client_of._guests.engines
    reader: Any = one._transport.get_protocol()
    return len(reader._parser.get_buffer(-1))


async def exchange(client: Client, message: bytes) -> None:
    sending = asyncio.ensure_future(client.send(binary(message)))
    assert await client.receive() == Frame.binary(message)
    await sending


def pass_ticks(server: bunws.Server, ticks: int) -> None:
    (one,) = server._guests.engines
    for _ in range(ticks):
        one.tick()


def address(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


@pytest.mark.parametrize("seed", range(5))
async def test_every_read_goes_to_where_the_parser_wants_it_however_the_stream_is_cut(seed: int) -> None:
    chances = random.Random(seed)
    sizes = [chances.choice((0, 1, 30, 500, 900, 1500, 5000, 70_000)) for _ in range(200)]
    stream = b"".join(binary(b"x" * size) for size in sizes)
    async with serving({"message": echo}) as server, connected(server) as client:
        (one,) = server._guests.engines
        at = 0
        while at < len(stream):
            reader: Any = one._transport.get_protocol()
            for _ in range(chances.randint(1, 2)):  # a read that brings nothing asks in vain
                view = reader.get_buffer(-1)
            wanted = reader._parser.get_buffer(-1)
            assert address(view) == address(wanted)
            assert len(view) <= len(wanted)
            size = min(len(view), len(stream) - at, chances.choice((1, 7, 100, 512, 513, 1000, 100_000)))
            view[:size] = stream[at : at + size]
            reader.buffer_updated(size)
            at += size
        for expected in sizes:
            assert len((await client.receive()).payload) == expected


async def test_read_that_a_handler_breaks_off_costs_no_later_message() -> None:
    heard: list[str | bytes] = []

    def message(_: Socket, message: str | bytes) -> None:
        heard.append(message)
        if message == "stop":
            raise KeyboardInterrupt

    async with serving({"message": message}) as server, connected(server):
        (one,) = server._guests.engines
        reader: Any = one._transport.get_protocol()
        for word in ("a", "stop", "b", "c", "d", "stop", "e", "f"):
            view, data = reader.get_buffer(-1), text(word)
            assert address(view) == address(reader._parser.get_buffer(-1))
            view[: len(data)] = data
            with pytest.raises(KeyboardInterrupt) if word == "stop" else contextlib.nullcontext():
                reader.buffer_updated(len(data))
    assert heard == ["a", "stop", "b", "c", "d", "stop", "e", "f"]


async def test_large_buffer_is_kept_while_it_is_used_and_given_up_when_it_was_not_for_a_tick() -> None:
    async with serving({"message": echo}) as server, connected(server) as client:
        before = buffer_size(server)
        for _ in range(3):
            await exchange(client, b"a" * 2_000_000)
            grown = buffer_size(server)
            assert grown > 2_000_000
            pass_ticks(server, 1)
            assert buffer_size(server) == grown
        pass_ticks(server, 1)
        assert buffer_size(server) == before
        await exchange(client, b"b")
        await exchange(client, b"a" * 2_000_000)


async def test_buffer_with_a_part_of_a_frame_in_it_is_not_given_up() -> None:
    async with serving({"message": echo}) as server, connected(server) as client:
        before = buffer_size(server)
        large, small = b"a" * 2_000_000, text("small")
        sending = asyncio.ensure_future(client.send(binary(large), small * 5, text("half")[:-2]))
        assert await client.receive() == Frame.binary(large)
        assert [await client.receive() for _ in range(5)] == [Frame.text("small")] * 5
        await sending
        pass_ticks(server, 3)
        await client.send(text("half")[-2:], text("more"))
        assert await client.receive() == Frame.text("half")
        assert await client.receive() == Frame.text("more")
        pass_ticks(server, 2)
        assert buffer_size(server) == before


async def test_part_of_a_frame_outlives_a_reload_behind_a_large_message() -> None:
    table_of_all: dict[str, object] = {"message": echo}
    async with serving(table_of_all) as server, connected(server) as client:
        await exchange(client, b"a" * 2_000_000)
        server.reload(websocket=table_of_all)
        await client.send(text("ends the read"))
        assert await client.receive() == Frame.text("ends the read")
        whole = text("in halves")
        await client.send(whole[:8])
        (one,) = server._guests.engines
        await until(lambda: one._tail == -1)
        pass_ticks(server, 4)
        await client.send(whole[8:])
        assert await client.receive() == Frame.text("in halves")


async def test_large_fragments_leave_no_large_buffer_behind() -> None:
    async with serving({"message": echo}) as server, connected(server) as client:
        before = buffer_size(server)
        part = b"a" * 1_000_000
        sending = asyncio.ensure_future(
            client.send(binary(part, fin=False), ping(b"1"), cont(part, fin=False), cont(b"b"), text("next"))
        )
        assert await client.receive() == Frame.pong(b"1")
        pass_ticks(server, 3)
        assert await client.receive() == Frame.binary(part + part + b"b")
        assert await client.receive() == Frame.text("next")
        await sending
        pass_ticks(server, 2)
        assert buffer_size(server) == before


async def test_message_of_16_mib_goes_both_ways() -> None:
    async with serving({"message": echo}) as server, connected(server) as client:
        await exchange(client, bytes(range(256)) * 65_536)
        await client.send(binary(size=16 * 1024 * 1024 + 1))
        assert await client.receive_all() == [Frame.close(*TOO_BIG)]


# What the engine stands on


def test_picows_is_the_version_that_the_engine_was_written_for() -> None:
    pinned = re.search(r'"picows==([\d.]+)"', (Path(__file__).parents[1] / "pyproject.toml").read_text())
    assert pinned is not None
    assert importlib.metadata.version("picows") == pinned[1], "read engine.py beside the new picows, then pin it"


async def test_constructor_of_the_parser_takes_what_the_engine_gives_it() -> None:
    arguments: list[Any] = [None, None, False, lambda _: None, SILENCE, False, None]
    arguments += [False, 0, 0, picows.WSAutoPingStrategy.PING_WHEN_IDLE, False, 1000, None, 2048]
    WSProtocol(*arguments)
    with pytest.raises(TypeError):
        WSProtocol(*arguments[:-1])
    with pytest.raises(TypeError):
        WSProtocol(*arguments, None)


CLOSE_HEADER = 0x88


async def test_every_failure_that_the_engine_translates_is_one_that_picows_tells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: set[bytes] = set()
    write = Facade.write

    def spy(self: Facade, wire: bytes) -> None:
        if wire[0] == CLOSE_HEADER:
            told.add(wire[4 if wire[1] < 126 else 6 :])
        write(self, wire)

    monkeypatch.setattr(Facade, "write", spy)
    async with serving(table(Closed())) as server:
        for broken, _ in FAILURES.values():
            async with connected(server) as client:
                await client.send(broken)
                await client.receive_all()

    prefixes = [prefix for prefix, _ in engine._FAILURES]
    unheard = [prefix for prefix in prefixes if not any(each.startswith(prefix) for each in told)]
    untranslated = [each for each in told if not each.startswith(tuple(prefixes))]
    assert (unheard, untranslated) == ([], [])
