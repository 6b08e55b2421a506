"""Frames: the words of RFC 6455 on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from bunws.exceptions import ProtocolError
from bunws.frames import (
    BINARY_HEADERS,
    RSV1,
    TEXT_HEADERS,
    CloseCode,
    Opcode,
    check_close,
    close_frame,
    control_header,
    header,
    parse_close,
    parts,
)


# RFC 6455, 7.4.1 and 7.4.2
SENDABLE = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
NOT_SENDABLE = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535]


# Headers


@pytest.mark.parametrize(
    ("opcode", "size", "flags", "expected"),
    [
        (Opcode.TEXT, 0, 0, "81 00"),
        (Opcode.TEXT, 125, 0, "81 7d"),
        (Opcode.TEXT, 126, 0, "81 7e 007e"),
        (Opcode.BINARY, 65_535, 0, "82 7e ffff"),
        (Opcode.BINARY, 65_536, 0, "82 7f 0000000000010000"),
        (Opcode.BINARY, 1 << 40, 0, "82 7f 0000010000000000"),
        (Opcode.TEXT, 5, RSV1, "c1 05"),
        (Opcode.BINARY, 300, RSV1, "c2 7e 012c"),
    ],
)
def test_a_header_takes_as_few_bytes_as_it_can(opcode: Opcode, size: int, flags: int, expected: str) -> None:
    assert header(opcode, size, flags) == bytes.fromhex(expected)


def test_the_ready_made_headers_are_those_that_would_be_made() -> None:
    assert [header(Opcode.TEXT, size) for size in range(126)] == list(TEXT_HEADERS)
    assert [header(Opcode.BINARY, size) for size in range(126)] == list(BINARY_HEADERS)


# Messages


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Hello", (b"\x81\x05", b"Hello")),  # RFC 6455, 5.7
        ("", (b"\x81\x00", b"")),
        ("grüße", (b"\x81\x07", "grüße".encode())),
        ("x" * 126, (b"\x81\x7e\x00\x7e", b"x" * 126)),
        (b"", (b"\x82\x00", b"")),
        (b"\x00\xff", (b"\x82\x02", b"\x00\xff")),
        (bytearray(b"ab"), (b"\x82\x02", b"ab")),
        (memoryview(b"abcd")[1:3], (b"\x82\x02", b"bc")),
        (memoryview(b"abcd").cast("H"), (b"\x82\x04", b"abcd")),
        (b"x" * 256, (b"\x82\x7e\x01\x00", b"x" * 256)),
    ],
)
def test_a_message_has_a_header_and_a_payload(message: object, expected: tuple[bytes, bytes]) -> None:
    assert parts(message) == expected


def test_a_bytearray_may_change_after_it_was_sent() -> None:
    message = bytearray(b"before")
    _, payload = parts(message)
    message[:] = b"after!"
    assert payload == b"before"


@pytest.mark.parametrize("message", [None, 5, 1.5, {"a": 1}, ["a"], object()])
def test_what_is_no_message_is_refused_with_its_type_and_the_fix(message: object) -> None:
    with pytest.raises(
        TypeError, match=rf"got {type(message).__name__}; encode it first, for example with json\.dumps"
    ):
        parts(message)


def test_a_str_that_is_no_unicode_cannot_be_sent() -> None:
    with pytest.raises(UnicodeEncodeError):
        parts("\ud800")


# Control frames


@pytest.mark.parametrize(("opcode", "first"), [(Opcode.PING, 0x89), (Opcode.PONG, 0x8A)])
def test_a_control_frame_carries_125_bytes_at_most(opcode: Opcode, first: int) -> None:
    assert control_header(opcode, b"") == bytes([first, 0])
    assert control_header(opcode, b"x" * 125) == bytes([first, 125])
    with pytest.raises(ValueError, match=f"a {opcode.name.lower()} carries at most 125 bytes, got 126"):
        control_header(opcode, b"x" * 126)


# Closing


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (1000, b"", "88 02 03e8"),
        (1001, b"bye", "88 05 03e9 627965"),
        (4999, b"", "88 02 1387"),
        (CloseCode.NO_STATUS_RCVD, b"", "88 00"),
        (CloseCode.ABNORMAL_CLOSURE, b"", "88 00"),
    ],
)
def test_a_close_frame_carries_a_code_unless_it_may_not_be_sent(code: int, reason: bytes, expected: str) -> None:
    assert close_frame(code, reason) == bytes.fromhex(expected)


@pytest.mark.parametrize("code", SENDABLE)
def test_these_codes_may_be_sent_and_received(code: int) -> None:
    assert check_close(code, "why") == b"why"
    assert parse_close(code.to_bytes(2, "big") + b"why") == (code, "why")


@pytest.mark.parametrize("code", NOT_SENDABLE)
def test_these_codes_may_not_be_sent_nor_received(code: int) -> None:
    with pytest.raises(ValueError, match=f"close code {code} may not be sent: use 1000 to 1003"):
        check_close(code, "")
    with pytest.raises(ProtocolError, match="1002 Received invalid close code"):
        parse_close(code.to_bytes(2, "big"))


def test_every_code_with_a_name_but_two_may_be_sent() -> None:
    never = {CloseCode.NO_STATUS_RCVD, CloseCode.ABNORMAL_CLOSURE}
    assert {code for code in CloseCode if code in SENDABLE} == set(CloseCode) - never


@pytest.mark.parametrize("code", ["1000", 1000.0, None, True])
def test_a_code_is_an_int(code: object) -> None:
    with pytest.raises(TypeError, match="close code must be an int, got"):
        check_close(code, "")  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize("reason", [b"bytes", None, 5])
def test_a_reason_is_a_str(reason: object) -> None:
    with pytest.raises(TypeError, match="close reason must be a str, got"):
        check_close(1000, reason)  # type: ignore[arg-type]  # on purpose


def test_a_reason_is_measured_in_bytes() -> None:
    assert len(check_close(1000, "x" * 123)) == 123
    assert len(check_close(1000, "ü" * 61)) == 122
    with pytest.raises(ValueError, match="at most 123 bytes of UTF-8, got 124"):
        check_close(1000, "ü" * 62)


def test_an_empty_close_frame_means_1005() -> None:
    assert parse_close(b"") == (1005, "")


@pytest.mark.parametrize(
    ("payload", "code", "phrase"),
    [
        (b"\x03", 1002, "Received invalid close payload"),
        (b"\x03\xe8\xff", 1007, "Received invalid UTF-8"),
        (b"\x03\xe8\xed\xa0\x80", 1007, "Received invalid UTF-8"),  # a surrogate
        (b"\x03\xe8" + "ü".encode()[:1], 1007, "Received invalid UTF-8"),
    ],
)
def test_a_broken_close_frame_is_a_mistake_of_the_peer(payload: bytes, code: int, phrase: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_close(payload)
    assert (caught.value.close_code, caught.value.phrase) == (code, phrase)


@given(st.sampled_from(SENDABLE), st.text(max_size=40).filter(lambda text: len(text.encode()) <= 123))
def test_what_may_be_sent_can_be_read(code: int, reason: str) -> None:
    frame = close_frame(code, check_close(code, reason))
    assert frame[0] == 0x88
    assert frame[1] == len(frame) - 2 <= 125
    assert parse_close(frame[2:]) == (code, reason)


@given(st.binary(max_size=125))
def test_a_close_payload_is_read_or_refused(payload: bytes) -> None:
    answered: int | None = None
    try:
        code, reason = parse_close(payload)
    except ProtocolError as error:
        answered = error.close_code
    else:
        assert close_frame(code, reason.encode())[2:] == payload
    assert answered in (None, 1002, 1007)
