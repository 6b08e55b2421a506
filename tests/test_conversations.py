"""
Whole conversations: requests, upgrades and frames, good and broken, split anywhere, against RFC 9112 and RFC 6455.

Rule 1: what is sent is accepted, or answered with the status or the close code that is due, and never with anything
else: no 500, no traceback, no silence. When the client is gone, nothing is left of it.
Rule 2: what is right is known apart from bunws: for a request since it was made to be right or wrong, for frames from
the model in `fuzz/rfc6455.py`.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import pytest
from hypothesis import given, settings, strategies as st

import bunws
from fuzz.conversation import hears_no_complaint
from fuzz.http import Answer, read_answers
from fuzz.rfc6455 import Verdict, judge, read_server_frames
from fuzz.stage import MAX_PAYLOAD, close_stages, plain_stage
from fuzz.websocket import check_frames, check_verdict

from .clients import frame, handshake
from .support import RawClient, quiet


# What a client sends, and what is due


class Said(NamedTuple):
    """One request."""

    data: bytes
    statuses: frozenset[int]
    #: Method and target that the handler must have seen, and the body that it echoes.
    seen: str = ""
    body: bytes = b""
    is_last: bool = False


class Conversation(NamedTuple):
    """All that one client sends."""

    requests: list[Said]
    #: What comes behind the last request, if that is an upgrade that is due a 101; else None.
    frames: bytes | None = None
    deflate: bool = False

    @property
    def data(self) -> bytes:
        return b"".join(said.data for said in self.requests) + (self.frames or b"")

    @property
    def answered(self) -> list[Said]:
        """The requests that are due an answer."""
        last = next((index for index, said in enumerate(self.requests) if said.is_last), len(self.requests))
        return self.requests[: last + 1]

    @property
    def upgrades(self) -> bool:
        return self.frames is not None and not any(said.is_last for said in self.requests)

    @property
    def verdict(self) -> Verdict:
        return judge(self.frames or b"", max_payload=MAX_PAYLOAD, deflate=self.deflate)

    def __repr__(self) -> str:
        return f"Conversation({self.data!r}, deflate={self.deflate})"


# Requests

OK: Final = frozenset({200})

names = st.text("abcXYZ-_!~09", min_size=1, max_size=8).map(lambda text: f"X-{text}")
values = st.text("abc ,;=\"'()\t~\xe9", max_size=12)
targets = st.builds(
    lambda path, query: f"/{path}{query}",
    st.text("abz09-_~/", max_size=12),
    st.sampled_from(["", "?", "?a=b", "?a=1&b=2&a=3"]),
)


@st.composite
def good_requests(draw: st.DrawFn) -> Said:
    method = draw(st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]))
    target = draw(targets)
    # RFC 9112, 9.3: "close" ends it, and 1.0 does unless it says "keep-alive".
    version, connection, is_last = draw(
        st.sampled_from(
            [("1.1", "", False)] * 20
            + [("1.1", "close", True), ("1.0", "", True), ("1.0", "keep-alive", False), ("1.1", "a, Close", True)]
        )
    )
    fields = draw(st.lists(st.tuples(names, values), max_size=4))
    body = draw(st.none() | st.binary(max_size=40))
    if connection:
        fields.append(("Connection", connection))
    framed = b""
    if body is not None and version == "1.1" and draw(st.booleans()):
        fields.append(("Transfer-Encoding", draw(st.sampled_from(["chunked", "Chunked"]))))
        framed = chunked(body, draw(st.integers(1, 20)), draw(st.sampled_from(["", ";a", ';a="b;c"', ";a=b;c"])))
    elif body is not None:
        fields.append(("Content-Length", draw(st.sampled_from(["{}", "0{}", " {} "])).format(len(body))))
        framed = body
    # RFC 9112, 2.2: "SHOULD ignore at least one empty line (CRLF) received prior to the request-line."
    blank = draw(st.sampled_from(["", "", "", "\r\n"]))
    head = f"{blank}{method} {target} HTTP/{version}\r\nHost: localhost\r\n"
    head += "".join(f"{name}:{value}\r\n" for name, value in draw(st.permutations(fields)))
    seen = f"{method} {target}".removesuffix("?")
    echoed = b"" if method == "HEAD" else body or b""
    return Said(f"{head}\r\n".encode("latin-1") + framed, OK, seen, echoed, is_last)


def chunked(body: bytes, size: int, extension: str) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    lines = [b"%x%s\r\n%s\r\n" % (len(piece), extension.encode(), piece) for piece in pieces]
    return b"".join(lines) + b"0\r\nX-Trailer: 1\r\n\r\n"


def wrong(*statuses: int, data: str) -> Said:
    return Said(data.encode("latin-1"), frozenset(statuses), is_last=True)


GET: Final = "GET / HTTP/1.1\r\nHost: localhost\r\n"
POST: Final = "POST / HTTP/1.1\r\nHost: localhost\r\n"
WRONG: Final = [
    wrong(400, data="GET / HTTP/1.1\r\n\r\n"),
    wrong(400, data=f"{GET}Host: localhost\r\n\r\n"),
    wrong(400, data="GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    wrong(400, data="GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    wrong(400, data="GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n"),
    wrong(400, data="GET /# HTTP/1.1\r\nHost: a\r\n\r\n"),
    wrong(400, data="GET / http/1.1\r\nHost: a\r\n\r\n"),
    wrong(505, data="GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    wrong(501, data="CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    wrong(501, data="FROB / HTTP/1.1\r\nHost: a\r\n\r\n"),
    wrong(400, data=f"{GET}Bad Name: 1\r\n\r\n"),
    wrong(400, data=f"{GET}X: a\x00b\r\n\r\n"),
    wrong(400, data=f"{GET}X: a\r\n folded\r\n\r\n"),
    wrong(400, data=f"{POST}Content-Length: 1, 2\r\n\r\n"),
    wrong(400, data=f"{POST}Content-Length: -1\r\n\r\n"),
    wrong(400, data=f"{POST}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    wrong(400, data=f"{POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    wrong(400, data=f"{POST}Transfer-Encoding: chunked, gzip\r\n\r\n"),
    wrong(501, data=f"{POST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    wrong(400, data="POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    wrong(400, data=f"{POST}Transfer-Encoding: chunked\r\n\r\nxyz\r\n"),
    wrong(400, data=f"{POST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello!!\r\n"),
    wrong(400, data=f"{POST}Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n"),
    wrong(413, data=f"{POST}Content-Length: 99999999\r\n\r\n"),
    wrong(413, data=f"{POST}Transfer-Encoding: chunked\r\n\r\nfffffff\r\n"),
    wrong(417, data=f"{POST}Expect: tea\r\nContent-Length: 1\r\n\r\n"),
    wrong(431, data=GET + "X: y\r\n" * 200 + "\r\n"),
    wrong(431, data=f"{GET}X: {'y' * 20_000}\r\n\r\n"),
    wrong(414, data=f"GET /{'y' * 10_000} HTTP/1.1\r\nHost: a\r\n\r\n"),
    wrong(400, data="\x16\x03\x01\x02\x00\x01"),
]


def refused(*statuses: int, line: str = "GET /chat HTTP/1.1", **changes: str | None) -> Said:
    fields = {name.replace("_", "-"): value for name, value in changes.items()}
    return Said(handshake(fields, line=line), frozenset(statuses), is_last=True)


REFUSED_UPGRADES: Final = [
    refused(400, Sec_WebSocket_Key=None),
    refused(400, Sec_WebSocket_Key="short"),
    refused(400, Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZR=="),  # bits behind the 16 bytes
    refused(426, Sec_WebSocket_Version=None),
    refused(426, Sec_WebSocket_Version="8"),
    refused(426, Sec_WebSocket_Version="13, 8"),
    refused(400, Connection="keep-alive"),
    refused(405, line="POST /chat HTTP/1.1"),
    refused(400, line="GET /chat HTTP/1.0"),
    Said(handshake({"Content-Length": "1"}) + b"x", frozenset({400}), is_last=True),
    refused(400, Sec_WebSocket_Protocol="a, a"),
    refused(400, Sec_WebSocket_Protocol=","),
    refused(400, Sec_WebSocket_Protocol="\xe9"),
    refused(400, Host=None),
]


# Frames

masks = st.sampled_from([b"\0\0\0\0", b"\x12\x34\x56\x78", b"\xff\xfe\xfd\xfc"])
texts = st.text(max_size=20).map(str.encode) | st.just("é" * 200).map(str.encode)
payloads = st.binary(max_size=20) | st.sampled_from([bytes(125), bytes(126), bytes(4096), b"ab" * 600])


@st.composite
def messages(draw: st.DrawFn, deflate: bool) -> list[tuple[int, bytes, dict[str, int]]]:
    """The frames of a good message, and of the control messages between them: opcode, payload, and what is odd."""
    opcode = draw(st.sampled_from([1, 2]))
    payload = draw(texts if opcode == 1 else payloads)
    compressed = deflate and draw(st.booleans())
    if compressed:
        payload = deflated(payload, draw(st.sampled_from([zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FINISH])))
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
    frames: list[tuple[int, bytes, dict[str, int]]] = []
    for begin, end in zip([0, *cuts], [*cuts, len(payload)], strict=True):
        frames.append((opcode if not frames else 0, payload[begin:end], {}))
    for index, (_, _, odd) in enumerate(frames):
        odd["fin"] = int(index == len(frames) - 1)
        odd["rsv"] = 4 if compressed and index == 0 else 0
    for _ in range(draw(st.integers(0, 2))):
        control = (draw(st.sampled_from([9, 10])), draw(st.binary(max_size=10)), {"fin": 1})
        frames.insert(draw(st.integers(0, len(frames))), control)
    return frames


def deflated(payload: bytes, mode: int) -> bytes:
    """RFC 7692, 7.2.1 and 7.2.3.4."""
    client = zlib.compressobj(6, zlib.DEFLATED, -15)
    data = client.compress(payload) + client.flush(mode)
    return data + b"\0" if mode == zlib.Z_FINISH else data[:-4]


closes = st.builds(
    lambda code, reason: code.to_bytes(2, "big") + reason,
    st.sampled_from([0, 999, 1000, 1001, 1004, 1005, 1006, 1012, 1015, 2999, 3000, 4999, 5000, 65_535]),
    st.sampled_from([b"", b"bye", "é".encode(), b"\xff"]),
) | st.sampled_from([b"", b"\x03"])


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A frame of any kind: good by chance, but rarely."""
    opcode = draw(st.integers(0, 15))
    payload = draw(closes if opcode == 8 else payloads | st.sampled_from([b"\xc3", b"\xed\xa0\x80", bytes(5000)]))
    return frame(
        opcode,
        payload,
        fin=draw(st.booleans()),
        rsv=draw(st.sampled_from([0, 0, 0, 4, 2, 1, 7])),
        mask=draw(masks | st.none()),
        size=draw(st.none() | st.sampled_from([0, 126, 65_535, 65_536, 1 << 31, (1 << 63) - 1, (1 << 64) - 1])),
        size_bytes=8 if draw(st.booleans()) else None,
    )


# One thing that is wrong with a frame which is good otherwise, and the code that is due.
FAULTS: Final = {
    "unmasked": (frame(2, b"a", mask=None), 1002),
    "rsv1": (frame(9, b"a", rsv=4), 1002),
    "rsv2": (frame(2, b"a", rsv=2), 1002),
    "rsv3": (frame(1, b"a", rsv=1), 1002),
    "reserved data opcode": (frame(3, b"a"), 1002),
    "reserved control opcode": (frame(0xB, b"a"), 1002),
    "fragmented ping": (frame(9, b"a", fin=False), 1002),
    "long ping": (frame(9, bytes(126)), 1002),
    "length of 16 bits that 7 hold": (frame(2, b"a", size_bytes=2), 1002),
    "length of 64 bits that 16 hold": (frame(2, bytes(200), size_bytes=8), 1002),
    "continuation of nothing": (frame(0, b"a"), 1002),
    "message in a message": (frame(1, b"a", fin=False) + frame(1, b"b"), 1002),
    "message of one byte too many": (frame(2, bytes(MAX_PAYLOAD + 1)), 1009),
    "fragments of one byte too many": (frame(2, bytes(MAX_PAYLOAD), fin=False) + frame(0, b"a"), 1009),
    "text": (frame(1, b"\xff"), 1007),
    "text that ends in a character": (frame(1, b"\xc3"), 1007),
    "text that is bad already in its first fragment": (frame(1, b"\xed\xa0\x80", fin=False), 1007),
    "close of one byte": (frame(8, b"\x03"), 1002),
    **{f"close with {code}": (frame(8, code.to_bytes(2, "big")), 1002) for code in (999, 1004, 1005, 1006, 1015, 5000)},
    "close with a bad reason": (frame(8, b"\x03\xe8\xff"), 1007),
}
DEFLATED_FAULTS: Final = {
    "bomb": (frame(2, deflated(bytes(MAX_PAYLOAD + 1), zlib.Z_SYNC_FLUSH), rsv=4), 1009),
    "no deflate": (frame(2, b"\xff\xff\xff", rsv=4), 1007),
    "cut short": (frame(2, deflated(b"abc" * 50, zlib.Z_SYNC_FLUSH)[:-3], rsv=4), 1007),
    "deflated bad text": (frame(1, deflated(b"\xff", zlib.Z_SYNC_FLUSH), rsv=4), 1007),
    "rsv1 on a continuation": (frame(2, b"", fin=False, rsv=4) + frame(0, b"", rsv=4), 1002),
}


@pytest.mark.parametrize("name", [*FAULTS, *DEFLATED_FAULTS])
def test_the_model_knows_each_fault(name: str) -> None:
    data, code = (FAULTS | DEFLATED_FAULTS)[name]
    assert code in judge(data, max_payload=MAX_PAYLOAD, deflate=name in DEFLATED_FAULTS).codes


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("name", [*FAULTS, *DEFLATED_FAULTS])
def test_each_fault_is_answered_with_its_code_behind_a_good_message(name: str, deflate: bool) -> None:
    data, _ = (FAULTS | DEFLATED_FAULTS)[name]
    stream = frame(1, b"good") + data + frame(1, b"behind")
    check_frames(stream, [stream], deflate=deflate)


@st.composite
def frame_streams(draw: st.DrawFn, deflate: bool) -> bytes:
    stream = b""
    for message in draw(st.lists(messages(deflate), max_size=4)):
        for opcode, payload, odd in message:
            stream += frame(opcode, payload, fin=bool(odd["fin"]), rsv=odd.get("rsv", 0), mask=draw(masks))
    end = draw(st.sampled_from(["open", "close", "fault", "fault", "fault", "broken", "noise"]))
    if end == "close":
        stream += frame(8, draw(closes))
    elif end == "fault":
        stream += draw(st.sampled_from([*FAULTS.values(), *(DEFLATED_FAULTS.values() if deflate else ())]))[0]
    elif end == "broken":
        stream += b"".join(draw(st.lists(broken(), min_size=1, max_size=3)))
    elif end == "noise":
        stream += draw(st.binary(max_size=30))
    if draw(st.booleans()):
        stream += frame(1, b"behind")
    return stream


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    requests = draw(st.lists(good_requests(), max_size=4))
    end = draw(st.sampled_from(["open", "wrong", "refused"] + ["upgrade"] * 6))
    if end == "open":
        return Conversation(requests)
    behind = draw(st.lists(good_requests(), max_size=1))  # for whom nobody is left
    if end == "wrong":
        return Conversation([*requests, draw(st.sampled_from(WRONG)), *behind])
    if end == "refused":
        return Conversation([*requests, draw(st.sampled_from(REFUSED_UPGRADES)), *behind])
    deflate = draw(st.booleans())
    offer = {"Sec-WebSocket-Extensions": draw(st.sampled_from(OFFERS)) if deflate else None}
    upgrade = Said(handshake(offer, line="GET /chat HTTP/1.1"), frozenset({101}))
    return Conversation([*requests, upgrade], draw(frame_streams(deflate)), deflate)


OFFERS: Final = [
    "permessage-deflate",
    "permessage-deflate; client_max_window_bits",
    "x-unknown; a=b, permessage-deflate; server_max_window_bits=10",
    "permessage-deflate; server_max_window_bits=8, permessage-deflate",
]

cuts = st.lists(st.floats(0, 1), max_size=8)


def split(data: bytes, cuts: Sequence[float]) -> list[bytes]:
    places = sorted({0, len(data), *(int(cut * len(data)) for cut in cuts)})
    return [data[begin:end] for begin, end in itertools.pairwise(places)]


# What is right


def check(conversation: Conversation, sent: bytes, *, ended: bool) -> None:
    answers, rest = read_answers(sent)
    due = conversation.answered
    assert len(answers) == len(due), (answers, due)
    for answer, said in zip(answers, due, strict=True):
        check_answer(answer, said)
    if conversation.upgrades:
        assert ("Sec-WebSocket-Extensions" in answers[-1].fields) is conversation.deflate
        check_verdict(conversation.verdict, rest, ended=ended)
    else:
        assert not rest
        assert ended is any(said.is_last for said in due)


def check_answer(answer: Answer, said: Said) -> None:
    assert answer.status in said.statuses, (answer, said)
    if said.statuses == OK:
        assert answer.fields["X-Seen"] == said.seen
        assert answer.body == said.body
    elif answer.status == 426:
        assert answer.fields["Sec-WebSocket-Version"] == "13"
        assert answer.fields["Upgrade"] == "websocket"


# In this process, where the reads are exactly those


@pytest.fixture(scope="module", autouse=True)
def _stages() -> Iterator[None]:
    yield
    close_stages()


@settings(max_examples=300, deadline=None)
@given(conversations(), cuts)
def test_every_conversation_is_answered_as_the_rfcs_say_however_it_is_split(
    conversation: Conversation, cuts: list[float]
) -> None:
    outcome = plain_stage().converse(split(conversation.data, cuts))
    assert not outcome.aborted
    check(conversation, outcome.sent, ended=outcome.ended)


@settings(max_examples=40, deadline=None)
@given(conversations().filter(lambda conversation: len(conversation.data) < 1500))
def test_it_is_answered_alike_when_every_byte_comes_alone(conversation: Conversation) -> None:
    data = conversation.data
    outcome = plain_stage().converse([data[at : at + 1] for at in range(len(data))])
    check(conversation, outcome.sent, ended=outcome.ended)


@settings(max_examples=150, deadline=None)
@given(conversations(), cuts, st.floats(0, 1), st.booleans())
def test_a_client_that_breaks_off_anywhere_leaves_nothing_behind(
    conversation: Conversation, cuts: list[float], end: float, reset: bool
) -> None:
    data = conversation.data[: int(end * len(conversation.data))]
    outcome = plain_stage().converse(split(data, cuts), reset=reset)  # which looks for what is left, and at the log
    answers, _ = read_answers(outcome.sent)
    assert all(answer.status in said.statuses for answer, said in zip(answers, conversation.answered, strict=False)), (
        answers
    )


@pytest.mark.parametrize("said", WRONG + REFUSED_UPGRADES)
def test_each_mistake_is_answered_with_its_status_behind_a_good_request(said: Said) -> None:
    good = Said(f"{GET}\r\n".encode(), OK, "GET /")
    conversation = Conversation([good, said, good])
    outcome = plain_stage().converse([conversation.data])
    check(conversation, outcome.sent, ended=outcome.ended)


# Over real sockets


@pytest.fixture(scope="module")
def server() -> Iterator[bunws.Server]:
    """On uvloop in a thread of its own, with the same answers as the stage."""
    stage = plain_stage().server
    assert stage._tables is not None
    (table,) = stage._tables
    with quiet(
        bunws.serve(
            fetch=stage._site._fetch,
            websocket={
                "message": table.handler.message,
                "max_payload_length": MAX_PAYLOAD,
                "per_message_deflate": {"compress": "disable", "decompress": "dedicated"},
            },
            max_request_body_size=64 * 1024,
            compression=True,
            hostname="127.0.0.1",
            port=0,
        )
    ) as server:
        yield server


@settings(max_examples=100, deadline=None)
@given(conversations(), cuts)
def test_the_same_holds_over_tcp(server: bunws.Server, conversation: Conversation, cuts: list[float]) -> None:
    assert server.port is not None
    may_stay = conversation.verdict.may_stay_open and not any(said.is_last for said in conversation.requests)
    with hears_no_complaint(), RawClient(server.port) as client:
        for chunk in split(conversation.data, cuts):
            client.send(chunk)
        sent = b""
        while not (may_stay and is_complete(conversation, sent)) and (data := client.socket.recv(65_536)):
            sent += data
        if may_stay:
            client.half_close()
        sent += client.rest()
    frames = read_server_frames(read_answers(sent)[1])[0]
    check(conversation, sent, ended=not may_stay or any(each.opcode == 8 for each in frames))


def is_complete(conversation: Conversation, sent: bytes) -> bool:
    """Whether all that is due has come."""
    answers, rest = read_answers(sent)
    if len(answers) < len(conversation.answered):
        return False
    return not conversation.upgrades or len(read_server_frames(rest)[0]) >= len(conversation.verdict.frames)
