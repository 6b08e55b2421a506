"""
Any mix of compressed and plain calls to a room of all kinds of receivers: what does each peer inflate, with zlib and
nothing but its own frames and its own parameters? And how often was a message deflated for that?

Who is over its limit is the business of test_turn_machine.py; here the model asks.
"""

from __future__ import annotations

import os
import random
import zlib
from collections import Counter
from typing import Final, NamedTuple

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bunws.compress import DeflateOptions, DeflateParams
from bunws.deflate import EMPTY_BLOCK, Deflater, Deflaters
from bunws.topics import Level
from bunws.turn import LARGE_MESSAGE
from bunws.websocket import ServerWebSocket
from tests.fakes import FakeServer, frames


LIMIT = 400  # bytes of backpressure
THRESHOLD = 50  # bytes
RSV1 = 0x40
TEXT, BINARY, CLOSE = 0x1, 0x2, 0x8

Socket = ServerWebSocket[object]


class Kind(NamedTuple):
    """What a peer has agreed on; a window of 0 bits: nothing."""

    window_bits: int
    takeover: bool


PLAIN: Final = Kind(0, False)
KINDS: Final = (PLAIN, Kind(15, False), Kind(10, False), Kind(15, True), Kind(9, True))


# What deflates, and counts


class _CountingStream:
    def __init__(self, stream: object, counts: Counter[bytes]) -> None:
        self._stream = stream
        self._counts = counts

    def compress(self, data: bytes, /) -> bytes:
        self._counts[data] += 1
        return self._stream.compress(data)  # type: ignore[attr-defined, no-any-return]  # zlib names no type for it

    def flush(self, mode: int, /) -> bytes:
        return self._stream.flush(mode)  # type: ignore[attr-defined, no-any-return]  # as above


class CountingDeflater(Deflater):
    """A Deflater that counts how often it (or its twin) has really deflated each message."""

    __slots__ = ("counts",)

    def __init__(self, original: Deflater) -> None:
        super().__init__(original.window_bits, original._mem_level, THRESHOLD, original.context_takeover)
        self.counts: Counter[bytes] = Counter()

    def aside(self) -> Deflater:
        if self.context_takeover:
            return self
        twin = CountingDeflater(self)
        twin.counts = self.counts
        return twin

    def _start(self) -> _CountingStream:
        return _CountingStream(super()._start(), self.counts)


class Room(FakeServer):
    """A server that makes sockets of any kind; those without takeover share their deflater, as `Deflaters` has it."""

    def __init__(self, **table: object) -> None:
        super().__init__(**table)
        self.turn.deflates = True
        self.deflaters = {
            takeover: Deflaters(DeflateOptions("dedicated" if takeover else "shared", "shared", THRESHOLD))
            for takeover in (False, True)
        }
        self.shared: dict[Deflater, CountingDeflater] = {}

    def join(self, kind: Kind, room: int = 1 << 60) -> Socket:
        return self.connect(room, deflater=self._deflater(kind))

    def _deflater(self, kind: Kind) -> CountingDeflater | None:
        if kind is PLAIN:
            return None
        params = DeflateParams(server_no_context_takeover=not kind.takeover, server_max_window_bits=kind.window_bits)
        deflater = self.deflaters[kind.takeover].deflater(params)
        assert deflater is not None
        assert deflater.window_bits == kind.window_bits
        assert deflater.context_takeover is kind.takeover
        if kind.takeover:
            return CountingDeflater(deflater)
        return self.shared.setdefault(deflater, CountingDeflater(deflater))


# What inflates


class Message(NamedTuple):
    """One message as its caller gave it."""

    opcode: int
    payload: bytes
    compress: bool


class Peer:
    """Reads the frames of one socket with zlib alone, and holds each against the message that was owed."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.owed: list[Message] = []
        self.heard = 0
        self.compressed = 0  # of the messages that it heard
        self._offset = 0  # in the bytes that it was sent
        self._context = zlib.decompressobj(-kind.window_bits) if kind.takeover else None

    def hear(self, taken: bytearray) -> None:
        """Check what has come since the last time."""
        for first, payload in frames(bytes(taken[self._offset :])):
            self._offset += len(payload) + (2 if len(payload) < 126 else 4 if len(payload) < 65_536 else 10)
            assert self.heard < len(self.owed), "nothing more was owed"
            expected = self.owed[self.heard]
            if first & RSV1:
                assert self.kind is not PLAIN
                assert expected.compress
                assert len(expected.payload) >= THRESHOLD
                assert len(payload) < len(expected.payload)
                payload = self._inflate(payload)
                self.compressed += 1
            assert first & ~RSV1 == 0x80 | expected.opcode
            assert payload == expected.payload
            self.heard += 1

    def _inflate(self, payload: bytes) -> bytes:
        stream = self._context or zlib.decompressobj(-self.kind.window_bits)
        plain = stream.decompress(payload + EMPTY_BLOCK)
        assert not stream.eof
        assert not stream.unconsumed_tail
        return plain


# The machine

TOPICS = st.sampled_from(["a", "b", "c"])
ROOMS = [1 << 60, 1 << 60, 1 << 60, 0, 60, 30_000]  # bytes that a peer takes before it has to read
SIZES = st.sampled_from([0, 20, THRESHOLD - 1, THRESHOLD, 90, 200, 200, 600, 3000, LARGE_MESSAGE])
STUFFS = st.sampled_from(["words", "words", "words", "noise"])
WORDS = b"the a room hello what where is bun python meaning of life fast server socket message to for and you".split()


class DeflateMachine(RuleBasedStateMachine):
    sockets: Bundle[Socket] = Bundle("sockets")

    def __init__(self) -> None:
        super().__init__()
        self.room = Room(backpressure_limit=LIMIT)
        self.peers: dict[Socket, Peer] = {}
        self.closed: set[Socket] = set()
        self.chance = random.Random(7692)
        self.plain: set[bytes] = set()  # payloads that nobody wanted compressed
        self.number = 0

    # What a test may do

    @initialize(
        target=sockets,
        kinds=st.permutations(KINDS),
        rooms=st.lists(st.sampled_from(ROOMS), min_size=5, max_size=5),
        topics=st.lists(st.sets(TOPICS, min_size=1), min_size=5, max_size=5),
    )
    def one_of_each_kind_is_there(
        self, kinds: list[Kind], rooms: list[int], topics: list[set[str]]
    ) -> MultipleResults[Socket]:
        sockets = [self.join(kind, room) for kind, room in zip(kinds, rooms, strict=True)]
        for ws, names in zip(sockets, topics, strict=True):
            for name in names:
                ws.subscribe(name)
        return multiple(*sockets)

    @rule(target=sockets, kind=st.sampled_from(KINDS), room=st.sampled_from(ROOMS), topic=TOPICS)
    def join_a_topic(self, kind: Kind, room: int, topic: str) -> Socket:
        ws = self.join(kind, room)
        ws.subscribe(topic)
        return ws

    def join(self, kind: Kind, room: int) -> Socket:
        ws = self.room.join(kind, room)
        self.peers[ws] = Peer(kind)
        return ws

    @rule(ws=sockets, topic=TOPICS)
    def subscribe(self, ws: Socket, topic: str) -> None:
        ws.subscribe(topic)

    @rule(ws=sockets, topic=TOPICS)
    def unsubscribe(self, ws: Socket, topic: str) -> None:
        ws.unsubscribe(topic)

    @rule(ws=sockets, size=SIZES, stuff=STUFFS, is_text=st.booleans(), compress=st.booleans())
    def send(self, ws: Socket, size: int, stuff: str, is_text: bool, compress: bool) -> None:
        message = self._message(size, stuff, is_text, compress)
        self._owe([] if ws in self.closed else [ws], message)
        ws.send(message.payload.decode() if is_text else message.payload, compress)

    @rule(
        ws=sockets,
        topic=TOPICS,
        size=SIZES,
        stuff=STUFFS,
        is_text=st.booleans(),
        compress=st.sampled_from([True] * 3 + [False]),
    )
    def publish(self, ws: Socket, topic: str, size: int, stuff: str, is_text: bool, compress: bool) -> None:
        message = self._message(size, stuff, is_text, compress)
        self._end_the_turn_before(message)
        self._owe([other for other in self._hearing(topic) if other is not ws], message)
        ws.publish(topic, message.payload.decode() if is_text else message.payload, compress)

    @rule(topic=TOPICS, size=SIZES, stuff=STUFFS, compress=st.sampled_from([True] * 3 + [False]))
    def server_publish(self, topic: str, size: int, stuff: str, compress: bool) -> None:
        message = self._message(size, stuff, False, compress)
        self._end_the_turn_before(message)
        self._owe(self._hearing(topic), message)
        self.room.turn.publish(None, topic, message.payload, compress)

    @rule()
    def end_turn(self) -> None:
        self.room.loop.end_turn()

    @rule(most=st.integers(1, 3))
    def some_jobs_beside_the_loop_are_done(self, most: int) -> None:
        self.room.loop.do_jobs(most)

    @rule(ws=sockets, size=st.sampled_from([1, 100, 2000, 200_000]))
    def peer_reads(self, ws: Socket, size: int) -> None:
        self.room.transports[ws].read(size)

    @precondition(lambda self: len(self.peers) - len(self.closed) > 4)
    @rule(ws=consumes(sockets))
    def close(self, ws: Socket) -> None:
        ws.close(1000, "bye")
        self.peers[ws].owed.append(Message(CLOSE, b"\x03\xe8bye", False))
        self.closed.add(ws)

    # What must hold

    @invariant()
    def every_peer_inflates_what_it_was_owed_in_order(self) -> None:
        for ws, peer in self.peers.items():
            peer.hear(self.room.transports[ws].taken)

    def teardown(self) -> None:
        self.room.loop.end_turn()
        self.room.loop.do_jobs()
        for ws, peer in self.peers.items():
            assert ws.deflater is None or not ws.deflater.jobs
            self.room.transports[ws].read(1 << 50)
            peer.hear(self.room.transports[ws].taken)
            assert peer.heard == len(peer.owed)
            if ws.deflater is not None:
                assert isinstance(ws.deflater, CountingDeflater)
                deflated = ws.deflater.counts
                assert all(len(payload) >= THRESHOLD for payload in deflated)
                assert not self.plain & deflated.keys()
                if ws.deflater.context_takeover:
                    owed = Counter(message.payload for message in peer.owed)
                    assert deflated <= owed, "it has deflated what its peer is not sent"

    # Helpers of the model

    def _message(self, size: int, stuff: str, is_text: bool, compress: bool) -> Message:
        self.number += 1
        head = f"{self.number} ".encode() if size else b""
        if stuff == "noise" and not is_text:
            payload = head + self.chance.randbytes(size)
        else:
            payload = head + b" ".join(self.chance.choices(WORDS, k=size // 3 + 2))
        payload = payload[:size]
        if not compress and payload:
            self.plain.add(payload)
        return Message(TEXT if is_text else BINARY, payload, compress)

    def _end_the_turn_before(self, message: Message) -> None:
        # A late message is alone in its turn; who is over the limit behind the turn before it misses it.
        if message.compress and len(message.payload) >= LARGE_MESSAGE:
            self.room.turn.flush()

    def _hearing(self, topic: str) -> list[Socket]:
        return [ws for ws in self.peers if ws not in self.closed and ws.is_subscribed(topic)]

    def _owe(self, receivers: list[Socket], message: Message) -> None:
        for ws in receivers:
            if ws._level is not Level.OVER:
                self.peers[ws].owed.append(message)


@pytest.fixture(autouse=True)
def no_more_than_large_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bunws.turn.LATE_MESSAGE", LARGE_MESSAGE)


def _run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        DeflateMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )


def test_every_peer_inflates_what_it_is_owed_in_the_order_of_the_calls() -> None:
    _run(examples=100, steps=30)


@pytest.mark.stress
@pytest.mark.timeout(3600)
def test_every_peer_inflates_what_it_is_owed_in_the_long_run() -> None:
    _run(examples=int(os.environ.get("BUNWS_EXAMPLES", "3000")), steps=60)


# How often a message is deflated

LINE: Final = (
    b'{"user": "ann", "at": 1700000000, "text": "what is the meaning of life"}, {"user": "bob", "text": "what"}'
)


def crowd(room: Room, kind: Kind, size: int, *topics: str) -> list[Socket]:
    members = [room.join(kind) for _ in range(size)]
    for ws in members:
        for topic in topics:
            ws.subscribe(topic)
    return members


def deflated(room: Room) -> dict[int, Counter[bytes]]:
    """How often each message was deflated by the shared deflater of each window."""
    return {deflater.window_bits: deflater.counts for deflater in room.shared.values()}


def written(room: Room, members: list[Socket]) -> list[bytes]:
    return [write for ws in members for write in room.transports[ws].writes]


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_message_is_deflated_once_however_many_hear_it(size: int) -> None:
    room = Room()
    members = crowd(room, Kind(15, False), size, "a")
    room.turn.publish(None, "a", LINE, True)
    room.loop.end_turn()
    assert deflated(room) == {15: {LINE: 1}}
    assert len(set(written(room, members))) == 1
    assert len(written(room, members)) == size


def test_message_is_deflated_once_for_each_window_and_not_for_those_who_take_it_plain() -> None:
    room = Room()
    for kind in (PLAIN, Kind(15, False), Kind(10, False)):
        crowd(room, kind, 20, "a")
    room.turn.publish(None, "a", LINE, True)
    room.loop.end_turn()
    assert deflated(room) == {15: {LINE: 1}, 10: {LINE: 1}}


def test_message_is_deflated_once_though_its_senders_do_not_hear_themselves() -> None:
    room = Room()
    members = crowd(room, Kind(15, False), 10, "a")
    lines = [b"%d: %s" % (number, LINE) for number in range(10)]
    for ws, line in zip(members, lines, strict=True):
        ws.publish("a", line, True)
    room.loop.end_turn()
    assert deflated(room) == {15: dict.fromkeys(lines, 1)}


def test_message_is_deflated_once_though_its_receivers_hear_different_topics() -> None:
    room = Room()
    for topics in ["a"], ["b"], ["a", "b"], ["a", "c"], ["a", "b", "c"]:
        crowd(room, Kind(15, False), 3, *topics)
    for topic in "abc":
        room.turn.publish(None, topic, topic.encode() + LINE, True)
    room.loop.end_turn()
    assert deflated(room) == {15: {topic + LINE: 1 for topic in (b"a", b"b", b"c")}}


def test_message_is_deflated_once_though_each_receiver_was_sent_something_of_its_own() -> None:
    room = Room()
    members = crowd(room, Kind(15, False), 20, "a")
    room.turn.publish(None, "a", LINE, True)
    for ws in members:
        ws.send("something of its own")
    room.loop.end_turn()
    assert deflated(room) == {15: {LINE: 1}}


@pytest.mark.parametrize("compress", [True, False])
def test_short_or_plain_message_is_not_deflated(compress: bool) -> None:
    room = Room()
    for kind in KINDS:
        crowd(room, kind, 3, "a")
    payload = LINE[: THRESHOLD - 1] if compress else LINE
    room.turn.publish(None, "a", payload, compress)
    room.loop.end_turn()
    assert deflated(room) == {15: {}, 10: {}}
    for ws in room.transports:
        assert room.received(ws) == [payload]
        if ws.deflater is not None:
            assert isinstance(ws.deflater, CountingDeflater)
            assert not ws.deflater.counts


def test_message_that_nobody_can_take_compressed_is_not_deflated() -> None:
    room = Room()
    crowd(room, PLAIN, 3, "a")
    bystander = room.join(Kind(15, False))
    room.turn.publish(None, "a", LINE, True)
    room.loop.end_turn()
    assert deflated(room) == {15: {}}
    assert room.received(bystander) == []


def test_message_that_is_dropped_for_a_dedicated_socket_is_no_part_of_its_context() -> None:
    room = Room(backpressure_limit=10)
    ws = room.join(Kind(15, True), room=0)
    peer = Peer(Kind(15, True))
    ws.subscribe("a")
    first, missed, last = (b"%s %s" % (word, LINE) for word in (b"first", b"missed", b"last"))
    room.turn.publish(None, "a", first, True)
    room.loop.end_turn()
    assert room.turn.publish(None, "a", missed, True) == 0
    room.loop.end_turn()
    room.transports[ws].read(1 << 50)
    room.turn.publish(None, "a", last, True)
    room.loop.end_turn()
    peer.owed = [Message(BINARY, first, True), Message(BINARY, last, True)]
    peer.hear(room.transports[ws].taken)
    assert (peer.heard, peer.compressed) == (2, 2)
    assert isinstance(ws.deflater, CountingDeflater)
    assert ws.deflater.counts == {first: 1, last: 1}


def test_slow_shared_sockets_keep_references_to_one_compressed_buffer() -> None:
    room = Room()
    members = [room.join(Kind(15, False), room=0) for _ in range(5)]
    for ws in members:
        ws.subscribe("a")
        ws.send("it fills the transport")
    room.loop.end_turn()
    room.turn.publish(None, "a", LINE * 20, True)
    room.loop.end_turn()
    assert len({id(data) for ws in members for data in ws._backlog or ()}) == 1


# Large messages are deflated beside the loop

LARGE: Final = LINE * (LARGE_MESSAGE // len(LINE) + 1)


@pytest.mark.parametrize("kind", KINDS[1:], ids=str)
def test_large_message_leaves_once_it_was_deflated_beside_the_loop_and_nothing_overtakes_it(kind: Kind) -> None:
    room = Room()
    ws, other = crowd(room, kind, 2, "a")
    ws.publish("a", "first", True)
    assert room.turn.publish(None, "a", LARGE, True) == -1
    ws.send("behind it", True)
    room.turn.publish(None, "a", b"and " + LINE, True)
    room.loop.end_turn()
    assert [room.received(ws), room.received(other)] == [[], [b"first"]]
    assert ws.buffered_amount > len(LARGE)
    room.loop.do_jobs()
    for receiver, owed in (ws, [LARGE, b"behind it", b"and " + LINE]), (other, [b"first", LARGE, b"and " + LINE]):
        peer = Peer(kind)
        opcodes = {b"first": TEXT, b"behind it": TEXT}
        peer.owed = [Message(opcodes.get(payload, BINARY), payload, True) for payload in owed]
        peer.hear(room.transports[receiver].taken)
        assert peer.heard == len(owed)
        assert peer.compressed == 2
        assert receiver.buffered_amount == 0


def test_large_message_holds_up_only_those_who_are_sent_it_compressed() -> None:
    room = Room()
    plain, compressed = room.join(PLAIN), room.join(Kind(15, False))
    for ws in plain, compressed:
        ws.subscribe("a")
    room.turn.publish(None, "a", LARGE, True)
    assert room.received(plain) == [LARGE]
    assert room.received(compressed) == []


def test_large_message_is_deflated_once_though_hundreds_wait_for_it() -> None:
    room = Room()
    members = crowd(room, Kind(15, False), 300, "a")
    members[0].publish("a", LARGE, True)
    room.loop.do_jobs()
    assert deflated(room) == {15: {LARGE: 1}}
    assert len(set(written(room, members))) == 1
    assert len(written(room, members)) == 299


def test_drain_comes_when_the_large_message_has_left() -> None:
    drained: list[Socket] = []
    room = Room(drain=drained.append)
    (ws,) = crowd(room, Kind(15, False), 1, "a")
    assert ws.send(LARGE, True) == -1
    room.loop.end_turn()
    assert drained == []
    room.loop.do_jobs()
    assert drained == [ws]


def test_large_messages_past_the_backpressure_limit_are_dropped_and_said_to_be() -> None:
    room = Room(backpressure_limit=2 * len(LARGE))
    crowd(room, Kind(15, False), 1, "a")
    assert [room.turn.publish(None, "a", LARGE, True) for _ in range(4)] == [-1, -1, -1, 0]


def test_socket_that_is_gone_before_its_large_message_was_deflated_disturbs_nobody() -> None:
    room = Room()
    gone, left = crowd(room, Kind(15, False), 2, "a")
    room.turn.publish(None, "a", LARGE, True)
    gone._lost()
    room.loop.do_jobs()
    assert room.received(gone) == []
    assert len(room.received(left)) == 1


def test_transport_that_fails_when_the_bytes_are_ready_does_not_disturb_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    room = Room()
    members = crowd(room, Kind(15, False), 3, "a")
    room.turn.publish(None, "a", LARGE, True)

    def fail(data: bytes | memoryview) -> None:
        raise OSError("broken")

    room.transports[members[0]].write = fail  # type: ignore[method-assign]  # a transport that raises
    room.loop.do_jobs()
    room.loop.end_turn()
    assert [len(room.received(ws)) for ws in members] == [0, 1, 1]
    assert "a transport failed" in caplog.text


def test_close_frame_waits_behind_a_large_message() -> None:
    room = Room()
    (ws,) = crowd(room, Kind(15, False), 1, "a")
    ws.send(LARGE, True)
    ws.close(1000, "bye")
    room.loop.end_turn()
    assert room.received(ws) == []
    room.loop.do_jobs()
    assert room.received(ws)[-1] == b"\x03\xe8bye"
    assert room.wires[ws].finished == [False]


@pytest.mark.parametrize("kind", KINDS[1:], ids=str)
def test_large_message_that_cannot_be_deflated_is_sent_plain(kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(CountingDeflater):
        __slots__ = ()

        def deflate(self, payload: bytes) -> bytes | None:
            raise MemoryError

        def aside(self) -> Deflater:
            return self

    room = Room()
    original = room._deflater(kind)
    assert original is not None
    ws = room.connect(deflater=Failing(original))
    ws.send(LARGE, True)
    room.loop.do_jobs()
    assert room.received(ws) == [LARGE]
    assert "sent plain" in caplog.text


def test_large_message_is_not_deflated_for_sockets_that_are_gone() -> None:
    room = Room()
    members = crowd(room, Kind(15, False), 3, "a")
    room.turn.publish(None, "a", LARGE, True)
    for ws in members:
        ws._lost()
    room.loop.do_jobs()
    assert deflated(room) == {15: {}}


def test_who_waits_for_us_to_deflate_is_not_over_its_limit() -> None:
    room = Room(backpressure_limit=100, close_on_backpressure_limit=True)
    (ws,) = crowd(room, Kind(15, False), 1, "a")
    assert room.turn.publish(None, "a", LARGE, True) == -1
    assert room.turn.publish(None, "a", b"behind it", False) == -1
    room.loop.end_turn()
    room.loop.do_jobs()
    assert [first & ~RSV1 for first, _ in frames(bytes(room.transports[ws].taken))] == [0x82, 0x82]
    assert ws.ready_state == 1
