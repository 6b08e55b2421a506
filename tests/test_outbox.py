"""Outbox: how bytes leave one socket, and what a sender is told about it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, strategies as st

from bunws.outbox import HUGE_MESSAGE
from bunws.turn import LARGE_MESSAGE, TOPIC_LIMIT
from bunws.websocket import ServerWebSocket
from tests.fakes import FakeServer


Socket = ServerWebSocket[object]


@pytest.fixture
def server() -> FakeServer:
    return FakeServer(backpressure_limit=1000)


def behind(server: FakeServer, room: int = 0) -> Socket:
    """A socket whose peer has taken `room` bytes and reads no more, with 100 bytes left over."""
    ws = server.connect(room)
    ws.send(b"\0" * (98 + room))
    server.loop.end_turn()
    assert ws.buffered_amount == 100
    return ws


def test_all_that_is_sent_in_a_turn_leaves_in_one_write(server: FakeServer) -> None:
    ws = server.connect()
    assert [ws.send("a"), ws.send(b"bc"), ws.ping(b"def"), ws.send("")] == [1, 2, 3, 0]
    assert server.transports[ws].writes == []
    server.loop.end_turn()
    assert server.transports[ws].writes == [b"\x81\x01a\x82\x02bc\x89\x03def\x81\x00"]


def test_what_one_was_sent_before_others_publish_comes_first_and_what_it_is_sent_after_comes_last(
    server: FakeServer,
) -> None:
    ann, ben = server.connect(), server.connect()
    ann.subscribe("news")
    assert [ann.send("1"), ben.publish("news", "2"), ann.send("3"), ben.publish("news", "4")] == [1, 1, 1, 1]
    assert ann.buffered_amount == 6
    server.loop.end_turn()
    assert server.transports[ann].writes == [b"\x81\x011\x81\x012\x81\x013\x81\x014"]


def test_every_turn_of_private_messages_counts_from_zero(server: FakeServer) -> None:
    ws = server.connect()
    for turn in range(2 * TOPIC_LIMIT // 1000):
        ws.send(b"\0" * 1000)
        assert len(server.transports[ws].writes) == turn  # it waits for the end of the turn
        server.loop.end_turn()


def test_a_socket_that_is_lost_takes_what_it_was_sent_with_it(server: FakeServer) -> None:
    ann, ben = server.connect(), server.connect()
    ann.send("lost")
    ben.send("kept")
    ann._lost()
    server.loop.end_turn()
    assert (server.transports[ann].writes, server.received(ben)) == ([], [b"kept"])


def test_a_large_message_leaves_at_once(server: FakeServer) -> None:
    ws = server.connect()
    ws.send("before")
    ws.send(b"\0" * LARGE_MESSAGE)
    assert server.received(ws) == [b"before", b"\0" * LARGE_MESSAGE]


def test_a_huge_message_is_written_as_it_is_behind_all_that_was_sent_before(server: FakeServer) -> None:
    ws, message = server.connect(), b"\0" * HUGE_MESSAGE
    ws.send("before")
    assert ws.send(message) == HUGE_MESSAGE
    ws.send("after")
    server.loop.end_turn()
    writes = server.transports[ws].writes
    assert writes[0] == b"\x81\x06before\x82\x7f" + HUGE_MESSAGE.to_bytes(8, "big")
    assert writes[1:] == [message, b"\x81\x05after"]


def test_a_huge_message_that_is_not_taken_whole_keeps_its_place(server: FakeServer) -> None:
    ws = server.connect(room=8)
    message = b"\1" * HUGE_MESSAGE
    assert [ws.send("x"), ws.send(message), ws.send("refused")] == [1, -1, 0]
    server.transports[ws].read(1 << 30)
    assert ws.send("y") == 1
    server.loop.end_turn()
    assert server.received(ws) == [b"x", message, b"y"]


def test_a_huge_message_that_others_hear_too_is_whole_for_all(server: FakeServer) -> None:
    ann, ben, cat = server.connect(), server.connect(), server.connect()
    message = b"\1" * HUGE_MESSAGE
    for ws in (ann, ben, cat):
        ws.subscribe("news")
    for ws, own in ((ann, "a"), (ben, "b")):  # so that each of them shares with nobody
        ws.subscribe(own)
        server.turn.publish(None, own, "hi", False)
    server.turn.publish(None, "news", message, False)
    server.loop.end_turn()
    assert [server.received(ws) for ws in (ann, ben, cat)] == [[b"hi", message], [b"hi", message], [message]]


def test_who_talks_in_two_rooms_that_no_other_hears_both_of_is_not_disturbed(server: FakeServer) -> None:
    ann, ben, cat = server.connect(), server.connect(), server.connect()
    for ws, rooms in ((ann, "xy"), (ben, "x"), (cat, "y")):
        for room in rooms:
            ws.subscribe(room)
    assert [ann.publish("x", "1"), ann.publish("y", "2")] == [1, 1]
    server.loop.end_turn()
    assert [server.received(ws) for ws in (ann, ben, cat)] == [[], [b"1"], [b"2"]]
    assert ann.send("on") == 2


def test_who_is_owed_nothing_but_was_settled_is_not_disturbed(server: FakeServer) -> None:
    ann, ben = server.connect(), server.connect()
    ann.subscribe("news")
    ben.publish("news", "heard")
    ben.subscribe("news")
    ben.unsubscribe("news")
    server.loop.end_turn()
    assert (server.received(ann), server.received(ben)) == ([b"heard"], [])
    assert not server.wires[ben].is_dropped
    assert ben.send("on") == 2


def test_many_small_ones_leave_when_the_turn_has_collected_its_limit(server: FakeServer) -> None:
    ws = server.connect()
    sent = 0
    while not server.transports[ws].writes:
        sent += ws.send(b"\0" * 1000)
        assert sent <= TOPIC_LIMIT + 1000
    assert sent >= TOPIC_LIMIT
    assert b"".join(server.received(ws)) == b"\0" * sent


def test_the_codes_of_a_peer_that_stops_reading_go_n_then_minus_1_then_0(server: FakeServer) -> None:
    ws = server.connect(room=50_000)
    codes = [ws.send(b"\0" * 20_000) for _ in range(5)]
    assert codes == [20_000, 20_000, -1, 0, 0]  # the third filled the kernel, and the limit
    server.transports[ws].read(1 << 40)
    assert ws.send(b"\0" * 20_000) == 20_000
    assert len(server.received(ws)) == 4


def test_what_is_sent_behind_backpressure_waits_and_arrives_in_order(server: FakeServer) -> None:
    ws = behind(server)
    for number in range(5):
        assert ws.send(str(number)) == -1
        server.loop.end_turn()
    assert server.received(ws) == []
    server.transports[ws].read(1 << 40)
    assert server.received(ws)[1:] == [b"0", b"1", b"2", b"3", b"4"]
    assert ws.send("5") == 1


def test_drain_comes_once_when_all_is_gone() -> None:
    drained: list[int] = []
    server = FakeServer(backpressure_limit=1000, drain=lambda ws: drained.append(ws.buffered_amount))
    ws = behind(server)
    ws.send("more")
    server.loop.end_turn()
    server.transports[ws].read(50)
    server.transports[ws].read(50)
    assert drained == []  # a part is no drain
    server.transports[ws].read(50)
    assert drained == [0]
    ws.send("hello")
    server.loop.end_turn()
    server.transports[ws].read(50)
    assert drained == [0]


def test_a_socket_that_was_never_behind_is_not_drained() -> None:
    drained: list[object] = []
    server = FakeServer(drain=drained.append)
    ws = server.connect()
    ws.send(b"\0" * 100_000)
    server.loop.end_turn()
    assert drained == []


def test_drain_may_send_and_fill_it_again() -> None:
    server = FakeServer(backpressure_limit=1000, drain=lambda ws: ws.send(b"\1" * 98))
    ws = behind(server)
    for _ in range(3):
        server.transports[ws].read(100)
        server.loop.end_turn()
        assert ws.buffered_amount == 100
    assert len(server.received(ws)) == 3


def test_the_limit_is_passed_by_one_message_at_most(server: FakeServer) -> None:
    ws = behind(server)
    codes = []
    for _ in range(20):
        codes.append(ws.send(b"\0" * 296))
        server.loop.end_turn()
    assert codes == [-1] * 4 + [0] * 16  # 100, 400, 700, 1000, 1300
    assert ws.buffered_amount == 1300


def test_limit_0_is_no_limit() -> None:
    server = FakeServer(backpressure_limit=0)
    ws = behind(server)
    for _ in range(100):
        assert ws.send(b"\0" * 20_000) == -1
    assert ws.buffered_amount > 2_000_000


def test_pings_and_pongs_are_dropped_over_the_limit_as_well(server: FakeServer) -> None:
    ws = behind(server)
    ws.send(b"\0" * 1000)
    server.loop.end_turn()
    assert (ws.ping(), ws.pong(b"x")) == (0, 0)


def test_a_socket_over_its_limit_is_dropped_where_the_table_says_so() -> None:
    server = FakeServer(backpressure_limit=50, close_on_backpressure_limit=True)
    ws = behind(server)
    assert ws.send("too much") == 0
    assert ws.ready_state == 1  # not in the middle of a turn
    server.loop.end_turn()
    assert ws.ready_state == 3
    assert server.wires[ws].is_dropped


def test_a_socket_over_its_limit_is_dropped_when_it_misses_a_publish() -> None:
    server = FakeServer(backpressure_limit=50, close_on_backpressure_limit=True)
    ws, other = behind(server), server.connect()
    for socket in (ws, other):
        socket.subscribe("news")
    assert server.turn.publish(None, "news", "hello", False) == 0
    server.loop.end_turn()
    assert (ws.ready_state, other.ready_state) == (3, 1)
    assert server.received(other) == [b"hello"]


def test_a_slow_socket_does_not_hold_up_the_others(server: FakeServer) -> None:
    slow, quick = behind(server), server.connect()
    for ws in (slow, quick):
        ws.subscribe("news")
    for number in range(3):
        assert quick.publish("news", str(number)) == -1
        assert server.turn.publish(None, "news", str(number), False) == -1
        server.loop.end_turn()
    assert server.received(quick) == [b"0", b"1", b"2"]
    server.transports[slow].read(1 << 40)
    assert server.received(slow)[1:] == [b"0", b"0", b"1", b"1", b"2", b"2"]


def test_slow_sockets_keep_references_to_the_same_bytes(server: FakeServer) -> None:
    sockets = [behind(server) for _ in range(3)]
    for ws in sockets:
        ws.subscribe("news")
    server.turn.publish(None, "news", "shared", False)
    server.loop.end_turn()
    assert len({id(data) for ws in sockets for data in ws._backlog or ()}) == 1


def test_a_closed_socket_takes_nothing_and_says_0(server: FakeServer) -> None:
    ws = server.connect()
    ws.send("before")
    ws.close(1000, "bye")
    assert (ws.send("after"), ws.ping(), ws.buffered_amount) == (0, 0, 0)
    server.loop.end_turn()
    assert server.received(ws) == [b"before", b"\x03\xe8bye"]
    assert server.wires[ws].finished == [False]


def test_a_close_frame_waits_for_what_was_accepted_and_passes_the_limit(server: FakeServer) -> None:
    ws = behind(server)
    ws.send(b"\0" * 1000)
    server.loop.end_turn()
    assert ws.send("dropped") == 0
    ws.close(1000)
    server.loop.end_turn()
    assert server.wires[ws].finished == []
    server.transports[ws].read(1 << 40)
    assert server.received(ws)[-1] == b"\x03\xe8"
    assert server.wires[ws].finished == [False]


@given(st.lists(st.tuples(st.sampled_from(["send", "read", "turn"]), st.integers(0, 400)), max_size=60))
def test_what_was_accepted_arrives_once_in_order_whatever_the_peer_does(steps: list[tuple[str, int]]) -> None:
    server = FakeServer(backpressure_limit=600)
    ws = server.connect(room=200)
    numbers: Iterator[int] = iter(range(1000))
    accepted = []
    for step, size in steps:
        if step == "send":
            payload = str(next(numbers)).encode().ljust(size, b".")
            if ws.send(payload):
                accepted.append(payload)
        elif step == "read":
            server.transports[ws].read(size)
        else:
            server.loop.end_turn()
    server.loop.end_turn()
    server.transports[ws].read(1 << 40)
    assert server.received(ws) == accepted
