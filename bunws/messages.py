"""
Messages: frames in, whole messages out (RFC 6455, 5.4).

Rule: what is held for a peer grows with the bytes it has sent, never with the number of its frames, and never past
`max_payload_length`.
"""

from __future__ import annotations

import codecs
from typing import Protocol

from .exceptions import ProtocolError
from .frames import CloseCode, Opcode


__all__ = ["MessageAssembler", "MessageInflater"]

_utf8_decoder = codecs.getincrementaldecoder("utf-8")


class MessageInflater(Protocol):
    """What undoes permessage-deflate for one peer (RFC 7692)."""

    def inflate(self, fragment: bytes, fin: bool, max_length: int) -> bytes:
        """The plain bytes of this fragment, at most `max_length`. Raises ProtocolError."""


class MessageAssembler:
    """Joins the fragments of one peer's data frames; control frames are not its business."""

    __slots__ = ("_compressed", "_inflater", "_opcode", "_payload", "_utf8", "inflated", "max_payload_length")

    def __init__(self, max_payload_length: int, inflater: MessageInflater | None = None) -> None:
        #: Bytes in one message, after inflating. May be changed between frames.
        self.max_payload_length = max_payload_length
        #: Bytes that the last frame became, if it was compressed; else 0.
        self.inflated = 0
        self._inflater = inflater
        self._opcode = 0  # of the unfinished message; 0 between messages
        self._compressed = False
        self._payload = bytearray()
        self._utf8: codecs.IncrementalDecoder | None = None  # only inside a fragmented text

    @property
    def idle(self) -> bool:
        """Whether no message is unfinished."""
        return not self._opcode

    def add(self, opcode: int, fin: bool, rsv1: bool, payload: bytes) -> str | bytes | None:
        """
        One data frame. Returns the message that it completes; None means: need more.

        Raises ProtocolError; the assembler is of no use afterwards.
        """
        if opcode == Opcode.CONTINUATION:
            if not self._opcode:
                raise ProtocolError(
                    CloseCode.PROTOCOL_ERROR,
                    "Received continuation frame outside a fragmented message",
                )
            # RFC 7692, 6.1: RSV1 is set on the first frame of a message, and on no other.
            if rsv1:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, "Received unexpected RSV1 bit")
        else:
            if self._opcode:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, "Received new message inside a fragmented message")
            # RFC 6455, 5.2: RSV bits "MUST be 0 unless an extension is negotiated".
            if rsv1 and self._inflater is None:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, "Received unexpected RSV1 bit")
            self._opcode = opcode
            self._compressed = rsv1

        room = self.max_payload_length - len(self._payload)
        if self._compressed:
            assert self._inflater is not None
            payload = self._inflater.inflate(payload, fin, room)
            self.inflated = len(payload)
        elif len(payload) > room:
            raise ProtocolError(CloseCode.MESSAGE_TOO_BIG, "Received too big message")

        if fin:
            return self._finish(payload)
        self._payload += payload
        if self._opcode == Opcode.TEXT:
            self._check_utf8(payload)
        return None

    def _finish(self, payload: bytes) -> str | bytes:
        if self._payload:
            self._payload += payload
            payload = bytes(self._payload)
            self._payload = bytearray()
        opcode, self._opcode, self._utf8 = self._opcode, 0, None
        if opcode == Opcode.BINARY:
            return payload
        try:
            return payload.decode()
        except UnicodeDecodeError:
            # RFC 6455, 8.1: "that endpoint MUST _Fail the WebSocket Connection_".
            raise ProtocolError(CloseCode.INVALID_DATA, "Received invalid UTF-8") from None

    def _check_utf8(self, payload: bytes) -> None:
        """Fail at the first bad byte of an unfinished text, not when its last fragment comes."""
        if self._utf8 is None:
            self._utf8 = _utf8_decoder()
        try:
            self._utf8.decode(payload)
        except UnicodeDecodeError:
            raise ProtocolError(CloseCode.INVALID_DATA, "Received invalid UTF-8") from None
