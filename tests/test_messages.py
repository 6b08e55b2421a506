"""Messages: frames in, whole messages out."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from bunws.exceptions import ProtocolError
from bunws.frames import Opcode
from bunws.messages import MessageAssembler


LIMIT = 1000


class Doubling:
    """An inflater that makes two bytes of each, and asks for no more than it may give."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bool, int]] = []

    def inflate(self, fragment: bytes, fin: bool, max_length: int) -> bytes:
        self.asked.append((fragment, fin, max_length))
        if 2 * len(fragment) > max_length:
            raise ProtocolError(1009, "Received too big message")
        return b"".join(bytes([byte, byte]) for byte in fragment)


@st.composite
def fragmented(draw: st.DrawFn, payloads: st.SearchStrategy[bytes]) -> list[bytes]:
    """A payload, cut anywhere, empty fragments included."""
    payload = draw(payloads)
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=6)))
    return [payload[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(payload)], strict=True)]


def feed(assembler: MessageAssembler, opcode: int, fragments: list[bytes], rsv1: bool = False) -> str | bytes | None:
    """All fragments of one message; nothing may come out before the last."""
    for number, fragment in enumerate(fragments[:-1]):
        assert assembler.add(opcode if not number else 0, False, rsv1 and not number, fragment) is None
        assert not assembler.idle
    first = len(fragments) == 1
    return assembler.add(opcode if first else 0, True, rsv1 and first, fragments[-1])


# Good messages


@given(st.lists(fragmented(st.text(max_size=80).map(str.encode)), min_size=1, max_size=3))
def test_a_text_is_the_same_however_it_was_cut(messages: list[list[bytes]]) -> None:
    assembler = MessageAssembler(LIMIT)
    for fragments in messages:
        assert feed(assembler, Opcode.TEXT, fragments) == b"".join(fragments).decode()
        assert assembler.idle


@given(st.lists(fragmented(st.binary(max_size=80)), min_size=1, max_size=3))
def test_bytes_are_the_same_however_they_were_cut(messages: list[list[bytes]]) -> None:
    assembler = MessageAssembler(LIMIT)
    for fragments in messages:
        message = feed(assembler, Opcode.BINARY, fragments)
        assert type(message) is bytes
        assert message == b"".join(fragments)


@given(fragmented(st.binary(min_size=1, max_size=40)))
def test_a_compressed_message_is_inflated_fragment_by_fragment(fragments: list[bytes]) -> None:
    inflater = Doubling()
    assembler = MessageAssembler(LIMIT, inflater)
    payload = b"".join(fragments)
    assert feed(assembler, Opcode.BINARY, fragments, rsv1=True) == bytes(b for byte in payload for b in (byte, byte))
    assert [fragment for fragment, _, _ in inflater.asked] == fragments
    assert [fin for _, fin, _ in inflater.asked] == [False] * (len(fragments) - 1) + [True]
    given_so_far = 0
    for fragment, _, room in inflater.asked:
        assert room == LIMIT - given_so_far
        given_so_far += 2 * len(fragment)


def test_a_message_without_rsv1_is_not_inflated_where_compression_was_agreed() -> None:
    inflater = Doubling()
    assembler = MessageAssembler(LIMIT, inflater)
    assert feed(assembler, Opcode.TEXT, [b"plain", b" text"]) == "plain text"
    assert inflater.asked == []


# Limits


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
@given(fragmented(st.integers(0, 40).map(lambda size: b"x" * size)), st.integers(0, 40))
def test_a_message_fails_if_and_only_if_it_is_longer_than_the_limit(
    opcode: Opcode, fragments: list[bytes], limit: int
) -> None:
    assembler = MessageAssembler(limit)
    if sum(map(len, fragments)) <= limit:
        assert len(feed(assembler, opcode, fragments) or b"") == sum(map(len, fragments))
    else:
        with pytest.raises(ProtocolError, match="1009 Received too big message"):
            feed(assembler, opcode, fragments)


def test_the_limit_holds_for_what_is_inflated() -> None:
    assert feed(MessageAssembler(10, Doubling()), Opcode.BINARY, [b"abc", b"de"], rsv1=True) == b"aabbccddee"
    with pytest.raises(ProtocolError, match="1009"):
        feed(MessageAssembler(10, Doubling()), Opcode.BINARY, [b"abc", b"def"], rsv1=True)


def test_the_limit_is_for_each_message() -> None:
    assembler = MessageAssembler(10)
    for _ in range(3):
        assert feed(assembler, Opcode.BINARY, [b"12345", b"67890"]) == b"1234567890"


def test_the_limit_may_change_between_two_fragments() -> None:
    assembler = MessageAssembler(10)
    assembler.add(Opcode.BINARY, False, False, b"12345")
    assembler.max_payload_length = 7
    with pytest.raises(ProtocolError, match="1009"):
        assembler.add(Opcode.CONTINUATION, True, False, b"678")


# What a peer does wrong


def test_text_is_checked_as_it_comes() -> None:
    assembler = MessageAssembler(LIMIT)
    assert assembler.add(Opcode.TEXT, False, False, b"gr") is None
    with pytest.raises(ProtocolError, match="1007 Received invalid UTF-8"):
        assembler.add(Opcode.CONTINUATION, False, False, b"\xff")


@pytest.mark.parametrize("fragments", [[b"\xc3"], [b"gr", b"\xc3"], [b"gr\xc3", b""], [b"", b"\xed\xa0", b"\x80"]])
def test_a_text_that_ends_within_a_character_fails(fragments: list[bytes]) -> None:
    with pytest.raises(ProtocolError, match="1007 Received invalid UTF-8"):
        feed(MessageAssembler(LIMIT), Opcode.TEXT, fragments)


@given(fragmented(st.binary(max_size=12)))
def test_bytes_are_text_if_python_says_so_however_they_were_cut(fragments: list[bytes]) -> None:
    payload = b"".join(fragments)
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        with pytest.raises(ProtocolError, match="1007 Received invalid UTF-8"):
            feed(MessageAssembler(LIMIT), Opcode.TEXT, fragments)
    else:
        assert feed(MessageAssembler(LIMIT), Opcode.TEXT, fragments) == text


def test_bytes_need_not_be_text() -> None:
    assert feed(MessageAssembler(LIMIT), Opcode.BINARY, [b"\xff", b"\xfe"]) == b"\xff\xfe"


def test_a_continuation_needs_something_to_continue() -> None:
    assembler = MessageAssembler(LIMIT)
    assert feed(assembler, Opcode.TEXT, [b"whole"]) == "whole"
    with pytest.raises(ProtocolError, match="1002 Received continuation frame outside a fragmented message"):
        assembler.add(Opcode.CONTINUATION, True, False, b"")


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_a_message_may_not_begin_within_another(opcode: Opcode) -> None:
    assembler = MessageAssembler(LIMIT)
    assembler.add(Opcode.TEXT, False, False, b"")
    with pytest.raises(ProtocolError, match="1002 Received new message inside a fragmented message"):
        assembler.add(opcode, True, False, b"")


def test_rsv1_without_compression_fails() -> None:
    with pytest.raises(ProtocolError, match="1002 Received unexpected RSV1 bit"):
        MessageAssembler(LIMIT).add(Opcode.TEXT, True, True, b"")


def test_rsv1_belongs_to_the_first_frame() -> None:
    assembler = MessageAssembler(LIMIT, Doubling())
    assembler.add(Opcode.TEXT, False, True, b"a")
    with pytest.raises(ProtocolError, match="1002 Received unexpected RSV1 bit"):
        assembler.add(Opcode.CONTINUATION, True, True, b"b")
