"""Deflating and inflating, with `websockets` and Python's zlib as the other end."""

from __future__ import annotations

import itertools
import random
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import pytest
from hypothesis import given, settings, strategies as st
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.headers import parse_extension

from bunws.compress import COMPRESSORS, DECOMPRESSORS, DeflateOptions, DeflateParams, negotiate
from bunws.deflate import DEDICATED_THRESHOLD, EMPTY_BLOCK, SHARED_THRESHOLD, Deflater, Deflaters, Inflater
from bunws.exceptions import ProtocolError


LIMIT: Final = 1 << 24

TAKEOVER: Final = DeflateParams()
NO_TAKEOVER: Final = DeflateParams(server_no_context_takeover=True, client_no_context_takeover=True)
BOTH: Final = [TAKEOVER, NO_TAKEOVER]

TEXT: Final = b'{"user": "ann", "at": 1700000000, "text": "hello the room, what is the meaning of the room?"}' * 2


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def deflate(*messages: bytes, window_bits: int = 15, level: int = 6, flush: int = zlib.Z_SYNC_FLUSH) -> list[bytes]:
    """The payloads that a client on Python's zlib sends, with context takeover."""
    stream = zlib.compressobj(level, zlib.DEFLATED, -window_bits)
    return [(stream.compress(message) + stream.flush(flush)).removesuffix(EMPTY_BLOCK) for message in messages]


def flushed(message: bytes) -> bytes:
    return deflate(message)[0]


def stored(message: bytes) -> bytes:
    return deflate(message, level=0)[0]


def final(message: bytes, context: bytes = b"") -> bytes:
    """Blocks that end in one with BFINAL set; they may refer to `context`."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY, context)
    return stream.compress(message) + stream.flush()


def inflate(inflater: Inflater, *fragments: bytes, limit: int = LIMIT) -> bytes:
    """One message in these fragments, with what is left of the limit for each, as `messages` does it."""
    plain = b""
    for number, fragment in enumerate(fragments, 1):
        plain += inflater.inflate(fragment, number == len(fragments), limit - len(plain))
    return plain


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The data in pieces that end at these places (modulo its length)."""
    ends = sorted(place % (len(data) + 1) for place in places)
    return [data[start:end] for start, end in itertools.pairwise([0, *ends, len(data)])]


def deflater(preset: str = "shared", threshold: int | None = 0, window_bits: int = 15) -> Deflater:
    params = DeflateParams(preset == "shared", server_max_window_bits=min(window_bits, COMPRESSORS[preset][0]))
    made = Deflaters(DeflateOptions(preset, "shared", threshold)).deflater(params)
    assert made is not None
    return made


# Both ways, against `websockets`

words = st.sampled_from([b"the ", b"room ", b'"user": ', b"\x00", b"\xff\xfe", "é".encode(), b"a" * 300, TEXT])
messages = st.one_of(
    st.binary(max_size=300),
    st.lists(words, max_size=60).map(b"".join),
    st.builds(lambda seed, size: noise(size, seed), st.integers(0, 9), st.integers(0, 5000)),
    st.builds(lambda part, times: (part * times)[:80_000], st.binary(min_size=1, max_size=40), st.integers(0, 3000)),
)
cuts = st.lists(st.integers(0, 1 << 20), max_size=5)


@st.composite
def peers(draw: st.DrawFn) -> tuple[PerMessageDeflate, Deflater | None, Inflater]:
    """The two ends of a negotiated connection."""
    options = DeflateOptions(
        draw(st.sampled_from([*COMPRESSORS, "disable"])),
        draw(st.sampled_from([*DECOMPRESSORS, "disable"])),
        threshold=0,
    )
    factory = ClientPerMessageDeflateFactory(
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.sampled_from([None, *range(9, 16)])),
        draw(st.sampled_from([None, True, *range(9, 16)])),
    )
    asked = (name if value is None else f"{name}={value}" for name, value in factory.get_request_params())
    accepted = negotiate(["; ".join(["permessage-deflate", *asked])], options)
    assert accepted is not None
    response, params = accepted
    [(_, parameters)] = parse_extension(response)
    client = factory.process_response_params(parameters, [])
    assert isinstance(client, PerMessageDeflate)
    return client, Deflaters(options).deflater(params), Inflater(params)


@given(peers(), st.lists(messages, max_size=6))
def test_websockets_understands_whatever_we_send(
    ends: tuple[PerMessageDeflate, Deflater | None, Inflater], messages: list[bytes]
) -> None:
    client, deflater, _ = ends
    for message in messages:
        data = None if deflater is None else deflater.deflate(message)
        if data is not None:
            assert len(data) < len(message)
            frame = client.decode(Frame(Opcode.BINARY, data, rsv1=True))
            assert frame.data == message


@given(peers(), st.lists(st.tuples(messages, cuts), max_size=6))
def test_we_understand_whatever_websockets_sends(
    ends: tuple[PerMessageDeflate, Deflater | None, Inflater], messages: list[tuple[bytes, list[int]]]
) -> None:
    client, _, inflater = ends
    for message, places in messages:
        data = bytes(client.encode(Frame(Opcode.BINARY, message)).data)
        assert inflate(inflater, *cut(data, places)) == message


@given(peers(), st.lists(messages.map(lambda message: message[:300]), max_size=3))
def test_a_message_may_come_byte_by_byte(
    ends: tuple[PerMessageDeflate, Deflater | None, Inflater], messages: list[bytes]
) -> None:
    client, _, inflater = ends
    for message in messages:
        data = bytes(client.encode(Frame(Opcode.BINARY, message)).data)
        assert inflate(inflater, *(bytes([byte]) for byte in data), b"") == message


@given(peers(), st.lists(messages, min_size=1, max_size=4))
def test_a_message_that_websockets_sends_in_parts_is_one_message(
    ends: tuple[PerMessageDeflate, Deflater | None, Inflater], parts: list[bytes]
) -> None:
    client, _, inflater = ends
    for _ in range(2):
        fragments = [
            bytes(client.encode(Frame(Opcode.CONT if number else Opcode.TEXT, part, number == len(parts) - 1)).data)
            for number, part in enumerate(parts)
        ]
        assert inflate(inflater, *fragments) == b"".join(parts)


# Sending


@given(st.sampled_from(list(COMPRESSORS)), st.integers(9, 15), st.lists(messages, max_size=6))
def test_no_message_refers_to_more_than_the_agreed_window(preset: str, window_bits: int, messages: list[bytes]) -> None:
    sender = deflater(preset, window_bits=window_bits)
    receiver = zlib.decompressobj(-sender.window_bits)
    for message in messages:
        data = sender.deflate(message[:3000])
        if data is None:
            continue
        if not sender.context_takeover:
            receiver = zlib.decompressobj(-sender.window_bits)
        # One byte at a time, zlib has nothing but its window to look back into.
        plain, rest = b"", data + EMPTY_BLOCK
        while step := receiver.decompress(rest, 1):
            plain, rest = plain + step, receiver.unconsumed_tail
        assert plain == message[:3000]


@pytest.mark.parametrize("preset", ["shared", "dedicated"])
@pytest.mark.parametrize("window_bits", range(9, 15))
def test_what_is_further_away_than_the_window_is_sent_again(preset: str, window_bits: int) -> None:
    word = noise(200)
    near, far = word + b"-" * 50 + word, word + b"-" * (1 << window_bits) + word
    assert len(deflater(preset, window_bits=window_bits).deflate(near) or near) < 300
    assert len(deflater(preset, window_bits=window_bits).deflate(far) or far) > 400


def test_a_smaller_window_than_the_preset_s_costs_less_memory_too() -> None:
    tracemalloc.start()
    try:
        sender = deflater("256KB", window_bits=9)
        assert sender.deflate(TEXT) is not None
        assert tracemalloc.get_traced_memory()[0] < 20_000
    finally:
        tracemalloc.stop()


@given(st.lists(messages, max_size=6), st.integers(9, 15))
def test_a_shared_message_stands_for_itself(messages: list[bytes], window_bits: int) -> None:
    sender = deflater("shared", window_bits=window_bits)
    for message in [*messages, *messages]:
        data = sender.deflate(message)
        if data is not None:
            stream = zlib.decompressobj(-window_bits)
            assert stream.decompress(data + EMPTY_BLOCK) == message
            assert not stream.eof  # RFC 7692, 7.2.3.4 is for senders that have no flush


def test_a_dedicated_stream_remembers() -> None:
    sender = deflater("dedicated")
    first, second = sender.deflate(TEXT), sender.deflate(TEXT)
    assert first is not None
    assert second is not None
    assert len(second) < 10 < len(first)


def test_a_small_window_does_not_remember_far() -> None:
    sender = deflater("3KB")
    first, between, second = sender.deflate(TEXT), sender.deflate(b"-" * 1000), sender.deflate(TEXT)
    assert first is not None
    assert between is not None
    assert second is not None
    assert len(second) > 50


def test_a_stream_flushes_to_the_octets_of_the_rfc() -> None:
    # RFC 7692, 7.2.1: the message ends in "(possibly part of) the DEFLATE header bits with the "BTYPE" bits set to 00".
    for preset in COMPRESSORS:
        sender = deflater(preset)
        data = sender.deflate(TEXT)
        assert data is not None
        assert not data.endswith(EMPTY_BLOCK)
        assert zlib.decompressobj(-15).decompress(data + EMPTY_BLOCK) == TEXT


@given(st.sampled_from(list(COMPRESSORS)), st.lists(messages, max_size=8))
def test_a_message_is_never_sent_longer_than_it_is(preset: str, messages: list[bytes]) -> None:
    sender = deflater(preset)
    for message in messages:
        data = sender.deflate(message)
        assert data is None or len(data) < len(message)


@pytest.mark.parametrize("preset", COMPRESSORS)
def test_a_message_that_was_sent_plain_after_all_is_never_referred_to(preset: str) -> None:
    sender = deflater(preset)
    receiver = zlib.decompressobj(-15)
    seen = 0
    for message in [TEXT, noise(400), noise(400), TEXT, noise(300, 1), TEXT + noise(400), TEXT]:
        data = sender.deflate(message)
        if data is None:
            continue
        seen += 1
        if not sender.context_takeover:
            receiver = zlib.decompressobj(-15)
        assert receiver.decompress(data + EMPTY_BLOCK) == message
    assert seen == 4  # the text, and what begins with it; noise never, also not the second time


def test_a_dedicated_stream_learns_anew_behind_a_message_sent_plain() -> None:
    sender = deflater("256KB")
    sender.deflate(TEXT)
    assert sender.deflate(noise(400)) is None
    first, second = sender.deflate(TEXT), sender.deflate(TEXT)
    assert first is not None
    assert second is not None
    assert len(second) < 10 < len(first)


@pytest.mark.parametrize("preset", ["shared", "dedicated", "3KB"])
def test_a_stream_that_raised_half_way_is_not_used_again(preset: str) -> None:
    sender = deflater(preset)

    class Broken:
        def compress(self, data: bytes, /) -> bytes:
            return data

        def flush(self, mode: int, /) -> bytes:
            raise MemoryError

    sender._stream = Broken()
    with pytest.raises(MemoryError):
        sender.deflate(TEXT)
    data = sender.deflate(TEXT)
    assert data is not None
    assert zlib.decompressobj(-15).decompress(data + EMPTY_BLOCK) == TEXT


@pytest.mark.parametrize(
    ("preset", "threshold", "shortest"),
    [
        ("shared", None, SHARED_THRESHOLD),
        ("dedicated", None, DEDICATED_THRESHOLD),
        ("3KB", None, DEDICATED_THRESHOLD),
        ("shared", 1000, 1000),
        ("256KB", 1000, 1000),
        ("shared", 0, 13),  # there is nothing to gain on "aaaaaa"
    ],
)
def test_a_message_below_the_threshold_is_sent_plain(preset: str, threshold: int | None, shortest: int) -> None:
    sender = deflater(preset, threshold)
    assert sender.deflate(b"a" * (shortest - 1)) is None or threshold == 0
    assert sender.deflate(b"a" * shortest) is not None


@pytest.mark.parametrize("preset", COMPRESSORS)
def test_an_empty_message_is_sent_plain_and_forgets_nothing(preset: str) -> None:
    sender = deflater(preset)
    sender.deflate(TEXT)
    assert sender.deflate(b"") is None
    data = sender.deflate(TEXT)
    assert data is not None
    assert (len(data) < 10) is sender.context_takeover


def test_sockets_without_takeover_and_of_one_window_share_a_deflater() -> None:
    deflaters = Deflaters(DeflateOptions("dedicated", "shared"))
    shared = deflaters.deflater(DeflateParams(True, True, 15))
    assert shared is deflaters.deflater(DeflateParams(True, False, 15, 9))
    assert shared is not deflaters.deflater(DeflateParams(True, True, 9))
    own = deflaters.deflater(DeflateParams(False, True, 15))
    assert own is not shared
    assert own is not deflaters.deflater(DeflateParams(False, True, 15))
    assert repr(shared) == "<Deflater shared window_bits=15>"
    assert repr(own) == "<Deflater dedicated window_bits=15>"


def test_who_does_not_compress_has_no_deflater() -> None:
    assert Deflaters(DeflateOptions("disable", "shared")).deflater(NO_TAKEOVER) is None


# Receiving: what RFC 7692 prints

HELLO: Final = [
    # 7.2.3.1, whole and in its two fragments; 7.2.3.3; 7.2.3.4; 7.2.3.5.
    ["f248cdc9c90700"],
    ["f248cd", "c9c90700"],
    ["000500faff48656c6c6f00"],
    ["f348cdc9c9070000"],
    ["f248050000 00ffff cac9c90700"],
    # … and what is near: an end in an empty fragment; BFINAL without the octet behind, the octet in a fragment, twice,
    # empty blocks with it, and other blocks behind it.
    ["f248cdc9c90700", ""],
    ["", "f248cdc9c90700"],
    ["f348cdc9c90700"],
    ["f348cdc9c90700", ""],
    ["f348cdc9c90700", "00"],
    ["f348cdc9c90700", "", "00"],
    ["0300 f348cdc9c90700 0300 00"],
    ["0300", "0300", "f348cdc9c90700", "0300"],
    ["0300 f248cdc9c90700"],
    ["000500faff48656c6c6f01"],
    ["0300 f248050000 00ffff cac9c90700"],
    ["000000ffff" * 3 + "f248cdc9c90700"],
]


@pytest.mark.parametrize("params", BOTH)
@pytest.mark.parametrize("fragments", HELLO)
def test_hello_in_any_blocks(fragments: list[str], params: DeflateParams) -> None:
    inflater = Inflater(params)
    for _ in range(3):
        assert inflate(inflater, *map(bytes.fromhex, fragments)) == b"Hello"
        assert "idle" in repr(inflater)


def test_a_second_hello_that_refers_to_the_first() -> None:
    # RFC 7692, 7.2.3.2.
    inflater = Inflater(TAKEOVER)
    assert inflate(inflater, bytes.fromhex("f248cdc9c90700")) == b"Hello"
    assert inflate(inflater, bytes.fromhex("f200110000")) == b"Hello"


@pytest.mark.parametrize("params", BOTH)
@pytest.mark.parametrize("fragments", [["00"], [""], ["", ""], ["0300"], ["030000"], ["00", ""], ["000000ffff00"]])
def test_an_empty_message_in_any_blocks(fragments: list[str], params: DeflateParams) -> None:
    # RFC 7692, 7.2.3.6 for 0x00. No octet at all breaks it; zlib has always let it pass, and so do others.
    inflater = Inflater(params)
    assert inflate(inflater, *map(bytes.fromhex, fragments)) == b""
    assert inflate(inflater, bytes.fromhex("f248cdc9c90700")) == b"Hello"


def test_without_takeover_nothing_of_an_earlier_message_can_be_referred_to() -> None:
    # Least of all another socket's: there is no stream that two messages share.
    inflater = Inflater(NO_TAKEOVER)
    assert inflate(inflater, bytes.fromhex("f248cdc9c90700")) == b"Hello"
    with pytest.raises(ProtocolError, match="1007"):
        inflate(inflater, bytes.fromhex("f200110000"))


# Receiving: windows


@pytest.mark.parametrize("window_bits", range(9, 16))
def test_a_client_refers_to_its_whole_window_and_nothing_older_is_kept(window_bits: int) -> None:
    inflater = Inflater(DeflateParams(client_max_window_bits=window_bits))
    window = 1 << window_bits
    old = noise(window - 300, 1)
    sent = [old, b"x" * 30, old, noise(100_000), old, TEXT, old]
    for data, message in zip(deflate(*sent, window_bits=window_bits), sent, strict=True):
        assert inflate(inflater, data) == message
    assert repr(inflater) == f"<Inflater idle window_bits={window_bits} context={window}>"


def test_a_client_that_takes_9_bits_where_8_were_agreed_on_is_understood() -> None:
    inflater = Inflater(DeflateParams(client_max_window_bits=8))
    sent = [noise(250), noise(200, 1), noise(250)]
    first, second, third = deflate(*sent)
    assert len(third) < 100  # it does refer past 256 bytes
    assert [inflate(inflater, data) for data in (first, second, third)] == sent


def test_between_messages_a_socket_without_takeover_keeps_nothing() -> None:
    inflater = Inflater(NO_TAKEOVER)
    [data] = deflate(TEXT)
    inflate(inflater, data)
    assert repr(inflater) == "<Inflater idle window_bits=15 context=0>"
    inflater.inflate(data[:20], False, LIMIT)
    assert "inflating" in repr(inflater)
    inflate(inflater, data[20:])
    assert repr(inflater) == "<Inflater idle window_bits=15 context=0>"
    inflate(inflater, final(TEXT) + b"\x00")
    assert repr(inflater) == "<Inflater idle window_bits=15 context=0>"


@given(st.lists(st.tuples(st.booleans(), messages, cuts), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_interleaved_fragments_of_many_sockets_do_not_meet(
    sockets: list[tuple[bool, bytes, list[int]]], chance: random.Random
) -> None:
    """Each socket sends its message three times, in fragments, whenever chance lets it."""

    def talk(takeover: bool, message: bytes, places: list[int]) -> Iterator[None]:
        inflater = Inflater(TAKEOVER if takeover else NO_TAKEOVER)
        for data in deflate(*[message] * 3, flush=zlib.Z_SYNC_FLUSH if takeover else zlib.Z_FULL_FLUSH):
            plain = b""
            for left, fragment in zip(range(len(places), -1, -1), cut(data, places), strict=True):
                plain += inflater.inflate(fragment, not left, LIMIT)
                yield
            assert plain == message

    talking = [talk(*socket) for socket in sockets]
    while talking:
        socket = chance.choice(talking)
        if next(socket, True):
            talking.remove(socket)


# Receiving: blocks with BFINAL set


@given(st.lists(st.lists(messages.map(lambda part: part[:2000]), min_size=1, max_size=4), max_size=4), cuts)
def test_the_window_reaches_across_final_blocks(parts: list[list[bytes]], places: list[int]) -> None:
    inflater = Inflater(TAKEOVER)
    context = b""
    for message in parts:
        data = b""
        for part in message:
            data += final(part, context)
            context = (context + part)[-32768:]
        assert inflate(inflater, *cut(data + b"\x00", places)) == b"".join(message)


@given(st.lists(messages.map(lambda part: part[:2000]), min_size=1, max_size=4), cuts)
def test_within_a_message_the_window_reaches_across_final_blocks_without_takeover_too(
    parts: list[bytes], places: list[int]
) -> None:
    inflater = Inflater(NO_TAKEOVER)
    for _ in range(2):
        context = data = b""
        for part in parts:
            data += final(part, context)
            context = (context + part)[-32768:]
        assert inflate(inflater, *cut(data + b"\x00", places)) == b"".join(parts)


@pytest.mark.parametrize("params", BOTH)
@pytest.mark.parametrize("size", [5, 3000, 100_000])
def test_messages_by_flush_and_by_final_block_take_turns(size: int, params: DeflateParams) -> None:
    inflater = Inflater(params)
    message = noise(size)
    [flushed] = deflate(message)
    for data in [final(message), flushed, final(message) + b"\x00", final(message) + flushed, flushed]:
        assert inflate(inflater, data) in (message, message * 2)


@pytest.mark.parametrize("params", BOTH)
def test_a_flood_of_final_blocks_is_stopped(params: DeflateParams) -> None:
    assert inflate(Inflater(params), b"\x03\x00" * 100 + b"\x00") == b""
    with pytest.raises(ProtocolError, match="1008"):
        inflate(Inflater(params), b"\x03\x00" * 1_000_000 + b"\x00")


# Receiving: the limit


@pytest.mark.parametrize("params", BOTH)
@pytest.mark.parametrize("size", [0, 1, 5, 2000, 100_000])
@pytest.mark.parametrize("make", [flushed, final])
def test_a_message_of_the_limit_passes_and_one_more_byte_does_not(
    make: Callable[[bytes], bytes], size: int, params: DeflateParams
) -> None:
    for message in (bytes(size), noise(size)):
        assert inflate(Inflater(params), make(message), limit=size) == message
        for fragments in ([make(message + b"x")], cut(make(message + b"x"), [1, 7])):
            with pytest.raises(ProtocolError) as caught:
                inflate(Inflater(params), *fragments, limit=size)
            assert (caught.value.close_code, caught.value.phrase) == (1009, "Received too big message")


def test_a_limit_that_was_lowered_below_what_has_come_is_no_licence() -> None:
    inflater = Inflater(NO_TAKEOVER)
    [data] = deflate(TEXT)
    plain = inflater.inflate(data[:60], False, LIMIT)
    assert plain
    with pytest.raises(ProtocolError, match="1009"):
        inflater.inflate(data[60:], True, -2)


def allocated(inflater: Inflater, *fragments: bytes, limit: int) -> int:
    """Bytes at the peak while a message is refused as too big."""
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="1009"):
            inflate(inflater, *fragments, limit=limit)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("params", BOTH)
@pytest.mark.parametrize("tail", [b"", b"\x03\x00"], ids=["flushed", "behind a final block"])
def test_a_bomb_allocates_the_limit_and_one_chunk_at_most(tail: bytes, params: DeflateParams) -> None:
    limit = 1 << 20
    [bomb] = deflate(bytes(64 << 20), level=9)
    assert len(bomb) < 70_000  # 1000:1
    bomb = tail + bomb
    # The chunk is the bomb itself, that is: copies of what is left of it.
    assert allocated(Inflater(params), bomb, limit=limit) < limit + 3 * len(bomb) + 65_536


def test_a_bomb_is_not_inflated_at_all_where_nothing_more_is_allowed() -> None:
    [bomb] = deflate(bytes(1 << 20))
    for limit in (0, -1):  # to zlib, 0 is no limit
        assert allocated(Inflater(NO_TAKEOVER), bomb, limit=limit) < 50_000


@pytest.mark.parametrize("params", BOTH)
def test_a_bomb_in_fragments_stops_at_the_fragment_that_is_too_much(params: DeflateParams) -> None:
    inflater = Inflater(params)
    [bomb] = deflate(bytes(64 << 20), level=9)
    given = 0

    def feed() -> None:
        nonlocal given
        for fragment in cut(bomb, range(0, len(bomb), 100)):
            given += len(inflater.inflate(fragment, False, (1 << 20) - given))

    with pytest.raises(ProtocolError, match="1009"):
        feed()
    assert 900_000 < given <= 1 << 20  # 100 bytes more would have been too many


def test_many_small_bombs_with_takeover_are_each_held_to_the_limit() -> None:
    inflater = Inflater(TAKEOVER)
    bombs = deflate(*[bytes(1 << 20)] * 20, level=9)
    for bomb in bombs[:-1]:
        assert len(inflate(inflater, bomb, limit=1 << 20)) == 1 << 20
    assert allocated(inflater, bombs[-1], limit=100_000) < 300_000


# Receiving: what is broken


@pytest.mark.parametrize("params", BOTH)
@pytest.mark.parametrize("message", [b"Hello", TEXT, noise(300), TEXT + noise(300) + TEXT, TEXT * 40 + noise(3000)])
@pytest.mark.parametrize("make", [stored, flushed, final])
def test_a_message_that_ends_too_early_is_refused(
    make: Callable[[bytes], bytes], message: bytes, params: DeflateParams
) -> None:
    data = make(message)
    for end in range(2 if data[0] in (0, 1) else 1, len(data)):  # these alone are an empty message
        for fragments in ([data[:end]], [data[: end // 2], data[end // 2 : end]]):
            with pytest.raises(ProtocolError) as caught:
                inflate(Inflater(params), *fragments)
            assert caught.value.close_code == 1007, end


@pytest.mark.parametrize("params", BOTH)
@pytest.mark.parametrize(
    "broken",
    [
        "07",  # a block of type 3
        "f248cdc9c9070007",
        "f348cdc9c9070007",  # … behind a final block
        "f348cdc9c90700ffffff",
        "f348cdc9c907000500faff4865",  # a stored block that is cut, behind a final block
        "000500fafe48656c6c6f00",  # a length that is not its complement
        "f200110000",  # a reference to what was never sent
        "ff" * 50,
        "f248cdc9c907000000ffff",  # EMPTY_BLOCK not removed
        "f248cdc9c90700 0000ffff 0300 55",
    ],
)
def test_broken_data_is_refused_with_a_phrase(broken: str, params: DeflateParams) -> None:
    data = bytes.fromhex(broken)
    for fragments in ([data], [data, b""], [bytes([byte]) for byte in data]):
        with pytest.raises(ProtocolError) as caught:
            inflate(Inflater(params), *fragments)
        assert (caught.value.close_code, caught.value.phrase) == (1007, "Received invalid compressed data")
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


@given(
    st.sampled_from(BOTH),
    st.one_of(st.binary(max_size=200), messages.map(flushed), messages.map(final)),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=4),
    cuts,
    st.integers(0, 100_000),
)
@settings(max_examples=300)
def test_whatever_comes_is_a_message_or_a_protocol_error(
    params: DeflateParams, data: bytes, damage: list[tuple[int, int]], places: list[int], limit: int
) -> None:
    broken = bytearray(data)
    for place, byte in damage:
        if broken:
            broken[place % len(broken)] = byte
    inflater = Inflater(params)
    close_code = None
    try:
        for _ in range(2):
            assert len(inflate(inflater, *cut(bytes(broken), places), limit=limit)) <= limit
    except ProtocolError as error:
        close_code = error.close_code
    assert close_code in (None, 1007, 1008, 1009)
