"""
Play: what a scenario may say, and how it is played on one server.

Rule 1: a scenario is data: who connects, which bytes are sent, which calls the server is told to make.
Rule 2: an answer is data as well, and holds nothing that depends on time: what each client heard, what the handlers
were called with, socket by socket, and what the calls returned.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import socket
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import urlencode

from tests.against_bun.peers import Peer
from tests.clients import CLOSE, PING, PONG, close, handshake, ping, pong
from tests.support import PATIENCE


__all__ = [
    "Answer",
    "Step",
    "Scenario",
    "Differs",
    "Opens",
    "Says",
    "Settles",
    "Hears",
    "HearsAccepted",
    "Drains",
    "Ends",
    "HalfCloses",
    "Resets",
    "Peeks",
    "Does",
    "Waits",
    "Serves",
    "play",
    "negotiate",
    "kept",
]

#: By place: a client (the frames that it heard), "handshake of", "events of" or "drains of" a client, "calls" (what
#: they returned), "serves" (whether it did).
Answer: TypeAlias = dict[str, list[Any]]

#: The fields of an answer to a handshake that are compared.
FIELDS: Final = (
    "upgrade",
    "connection",
    "sec-websocket-accept",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "sec-websocket-version",
    "set-cookie",
    "x-test",
)

SHORT: Final = 200  # bytes; of a longer payload, only the length and the digest are kept
SETTLED: Final = b"all said?"
EMPTY_BLOCK: Final = b"\0\0\xff\xff"  # RFC 7692, 7.2.1

_OPCODES: Final = {0: "continuation", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}


class Client:
    """One connection, from the client's side: blocking, and read only when it is asked to."""

    def __init__(self, port: int, receive_buffer: int | None) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect(("127.0.0.1", port))
        self.file = self.socket.makefile("rb")
        self.said_close = False
        self._inflater: Any = None
        self._keeps_context = False

    def send(self, data: bytes) -> None:
        # Whoever reads sees the end.
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            self.socket.sendall(data)

    def read_head(self) -> list[Any]:
        """The status and the fields of `FIELDS` that are there; "no answer" when the connection just ends."""
        line = self._exactly(1) + self.file.readline()
        status = int(line.split()[1])
        found: dict[str, Any] = {}
        while (each := self.file.readline()) not in (b"\r\n", b""):
            name, _, value = each.decode("latin-1").partition(":")
            if name.lower() in FIELDS:
                found.setdefault(name.lower(), []).append(value.strip())
        agreed = ", ".join(found.get("sec-websocket-extensions", []))
        self._keeps_context = "server_no_context_takeover" not in agreed
        if status != 101:
            found.pop("connection", None)  # whether more requests may follow is a matter of HTTP
        return [status, {name: ", ".join(values) for name, values in sorted(found.items())}]

    def read_frame(self) -> tuple[int, bytes, Any]:
        """Opcode, payload, and what is kept of it. Raises EOFError at the end, in whatever order it came."""
        first, size = self._exactly(2)
        if size >= 126:
            size = int.from_bytes(self._exactly({126: 2, 127: 8}[size]), "big")
        payload = self._exactly(size) if size else b""
        opcode = first & 0x0F
        kind = _OPCODES[opcode] if first & 0x80 else f"unfinished {_OPCODES[opcode]}"
        if first & 0x40:
            kind = f"compressed {kind}"
            if self._inflater is None or not self._keeps_context:
                self._inflater = zlib.decompressobj(-15)
            payload = self._inflater.decompress(payload + EMPTY_BLOCK)
        if opcode == CLOSE:
            return opcode, payload, [kind, *_close_facts(payload)]
        return opcode, payload, [kind, kept(payload)]

    def _exactly(self, size: int) -> bytes:
        try:
            data = self.file.read(size)
        except ConnectionResetError:
            data = b""
        if len(data) < size:
            raise EOFError
        return data


def _close_facts(payload: bytes) -> list[Any]:
    return [int.from_bytes(payload[:2], "big"), payload[2:].decode()] if payload else []


def kept(payload: bytes) -> Any:
    """What an answer holds of a payload."""
    if len(payload) > SHORT:
        return [len(payload), hashlib.sha1(payload, usedforsecurity=False).hexdigest()]
    return payload.decode("latin-1")


_runs = itertools.count()


class Stage:
    """One scenario on one server."""

    def __init__(self, peer: Peer, options: Mapping[str, object], *, own: bool) -> None:
        self.peer = peer
        self.port = peer.port(options, own=own)
        self.clients: dict[str, Client] = {}
        self.answer: Answer = {}
        self.accepted = 0  # by the last call that was repeated
        self._run = f"{next(_runs)}."  # names are those of one play
        self._open: set[str] = set()

    def name(self, client: str) -> str:
        return client if client in ("server", "me") else self._run + client

    def heard(self, client: str, *facts: object) -> None:
        self.answer.setdefault(client, []).extend(facts)

    def opened(self, client: str) -> None:
        self._open.add(client)

    def ended(self, client: str) -> None:
        """The connection has ended, so its `close` handler is called."""
        if client in self._open:
            self._open.remove(client)
            self.peer.wait_for(self.name(client), "close")

    def calls(self, calls: Any) -> Any:
        """The same calls, with the names of this play."""
        if isinstance(calls, list | tuple):
            return [self.calls(each) for each in calls]
        return self.name(calls) if isinstance(calls, str) and calls in self.clients else calls

    def finish(self) -> Answer:
        """The answer. Everybody leaves, and is seen to have left; what that causes is no part of the answer."""
        self.peer.do(self.port, [])  # what happened until now has been told
        for client in self.clients:
            name = self.name(client)
            events = [event[1:] for event in self.peer.events if event[0] == name]
            shown = [event for event in events if event[0] != "drain" and event[:2] != ["ping", SETTLED_TOLD]]
            if shown:
                self.answer[f"events of {client}"] = shown
        self.leave()
        return self.answer

    def leave(self) -> None:
        for client in self.clients.values():
            reset(client)
        for name in tuple(self._open):
            self.ended(name)
        self.peer.events.clear()


SETTLED_TOLD: Final = {"binary": SETTLED.hex()}


def reset(client: Client) -> None:
    """Close with RST, if it is not closed yet."""
    if client.file.closed:
        return
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.file.close()
    client.socket.close()


# The steps


class Step:
    """One line of a scenario."""

    def play(self, stage: Stage) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Opens(Step):
    """
    A client connects. The answer holds the status and some fields of the server's, or "no answer".

    mode: what the server does with messages: "echo", "deflate" (echo, compressed), "slowly" (an async handler that ends
    when it is released), or "silent". on: calls that a handler makes, by its name. headers: for the 101.
    changes, line: as in `clients.handshake`. request: in place of all that. tail: what is sent in the same packet.
    options: those of another server than the scenario's.
    """

    client: str
    mode: str = "echo"
    on: Mapping[str, list[list[object]]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    later: bool = False
    changes: Mapping[str, str | list[str] | None] = field(default_factory=dict)
    line: str = "GET {target} HTTP/1.1"
    request: bytes | None = None
    tail: bytes = b""
    receive_buffer: int | None = None
    options: Mapping[str, object] | None = None

    def play(self, stage: Stage) -> None:
        port = stage.port if self.options is None else stage.peer.port(self.options)
        client = stage.clients[self.client] = Client(port, self.receive_buffer)
        query = {"name": stage.name(self.client), "mode": self.mode}
        if self.on:
            query["on"] = json.dumps({handler: stage.calls(calls) for handler, calls in self.on.items()})
        if self.headers:
            query["headers"] = json.dumps(self.headers)
        if self.later:
            query["later"] = "1"
        request = self.request
        if request is None:
            request = handshake(self.changes, line=self.line.format(target=f"/?{urlencode(query)}"))
        client.send(request + self.tail)
        try:
            status, fields = client.read_head()
        except EOFError:
            stage.heard(f"handshake of {self.client}", "no answer")
            return
        stage.heard(f"handshake of {self.client}", status, fields)
        if status == 101 and self.request is None:
            stage.opened(self.client)
            stage.peer.wait_for(stage.name(self.client), "open")


@dataclass(frozen=True)
class Says(Step):
    """A client sends these bytes, in one packet as far as TCP allows."""

    client: str
    data: bytes

    def play(self, stage: Stage) -> None:
        client = stage.clients[self.client]
        client.said_close = client.said_close or self.data[:1] == b"\x88"
        client.send(self.data)


@dataclass(frozen=True)
class Settles(Step):
    """A client reads until the server has handled all that was sent and called so far, or the connection ends."""

    client: str

    def play(self, stage: Stage) -> None:
        client = stage.clients[self.client]
        client.send(ping(SETTLED))
        try:
            while True:
                opcode, payload, kept = client.read_frame()
                if opcode == PONG and payload == SETTLED:
                    return
                stage.heard(self.client, kept)
        except EOFError:
            stage.heard(self.client, "end")
            stage.ended(self.client)


@dataclass(frozen=True)
class Hears(Step):
    """A client reads so many frames."""

    client: str
    frames: int = 1
    answers_pings: bool = False

    def play(self, stage: Stage) -> None:
        client = stage.clients[self.client]
        for _ in range(self.frames):
            opcode, payload, kept = client.read_frame()
            stage.heard(self.client, kept)
            if opcode == PING and self.answers_pings:
                client.send(pong(payload))


@dataclass(frozen=True)
class Drains(Step):
    """Whether the buffer was empty whenever `drain` was called so far for the socket of a client."""

    client: str

    def play(self, stage: Stage) -> None:
        stage.peer.do(stage.port, [])
        name = stage.name(self.client)
        empty = {event[2] for event in stage.peer.events if event[:2] == [name, "drain"]}
        stage.heard(f"drains of {self.client}", *sorted(empty))


@dataclass(frozen=True)
class HearsAccepted(Step):
    """A client reads all, which should be as many messages as the last repeated call has accepted."""

    client: str

    def play(self, stage: Stage) -> None:
        client = stage.clients[self.client]
        heard = 0
        # A pong may be dropped like anything else, until there is room.
        while waiting := stage.peer.do(stage.port, [[stage.name(self.client), "getBufferedAmount"]])[0]:
            while waiting > 0:
                waiting -= len(client.read_frame()[1])
                heard += 1
        client.send(ping(SETTLED))
        while client.read_frame()[:2] != (PONG, SETTLED):
            heard += 1
        stage.heard(self.client, "all that was accepted" if heard == stage.accepted else "not all that was accepted")


@dataclass(frozen=True)
class Ends(Step):
    """A client reads until the connection ends; it answers a Close frame, unless told otherwise."""

    client: str
    answers: bool = True

    def play(self, stage: Stage) -> None:
        client = stage.clients[self.client]
        try:
            while True:
                opcode, payload, kept = client.read_frame()
                stage.heard(self.client, kept)
                if opcode == CLOSE and self.answers and not client.said_close:
                    client.said_close = True
                    client.send(close(int.from_bytes(payload[:2], "big") if payload else None))
        except EOFError:
            stage.heard(self.client, "end")
        stage.ended(self.client)


@dataclass(frozen=True)
class HalfCloses(Step):
    """A client sends FIN."""

    client: str

    def play(self, stage: Stage) -> None:
        stage.clients[self.client].socket.shutdown(socket.SHUT_WR)


@dataclass(frozen=True)
class Resets(Step):
    """A client's TCP sends RST."""

    client: str

    def play(self, stage: Stage) -> None:
        reset(stage.clients[self.client])
        stage.ended(self.client)


@dataclass(frozen=True)
class Peeks(Step):
    """Whether the connection of a client has ended by now, all that came before being read."""

    client: str

    def play(self, stage: Stage) -> None:
        sock = stage.clients[self.client].socket
        sock.setblocking(False)
        try:
            stage.heard(self.client, "open" if sock.recv(1, socket.MSG_PEEK) else "end")
        except BlockingIOError:
            stage.heard(self.client, "open")
        finally:
            sock.settimeout(PATIENCE)


@dataclass(frozen=True)
class Does(Step):
    """The server makes these calls in one turn; the answer holds what they return."""

    calls: list[list[Any]]

    def play(self, stage: Stage) -> None:
        for each in stage.peer.do(stage.port, stage.calls(self.calls)):
            if isinstance(each, dict) and "accepted" in each:
                stage.accepted = each["accepted"]
                stage.heard("calls", each["answers"])
            else:
                stage.heard("calls", each)


@dataclass(frozen=True)
class Waits(Step):
    """Until a handler was called so often for the socket of a client."""

    client: str
    handler: str
    times: int = 1

    def play(self, stage: Stage) -> None:
        stage.peer.wait_for(stage.name(self.client), self.handler, self.times)


@dataclass(frozen=True)
class Serves(Step):
    """Whether a server with these options can be had."""

    options: Mapping[str, object]

    def play(self, stage: Stage) -> None:
        stage.heard("serves", stage.peer.accepts(self.options))


# The scenario


@dataclass(frozen=True)
class Differs:
    """
    Where bunws does otherwise on purpose; docs/differences-from-bun.md says why, under this name.

    bun, bunws: what each answers in the places where they differ; what one of them has not at all is left out.
    """

    name: str
    bun: Answer
    bunws: Answer

    @property
    def places(self) -> set[str]:
        return self.bun.keys() | self.bunws.keys()


@dataclass(frozen=True)
class Scenario:
    """
    What is played, on a server with these options (in Bun's words); `own`: on one that nobody else is given.

    Both answer the same, but for what `differs`.
    """

    name: str
    steps: list[Step]
    options: Mapping[str, object] = field(default_factory=dict)
    own: bool = False
    differs: tuple[Differs, ...] = ()


def play(peer: Peer, scenario: Scenario) -> Answer:
    """Play a scenario on one server, and return what came of it."""
    stage = Stage(peer, scenario.options, own=scenario.own)
    try:
        for step in scenario.steps:
            step.play(stage)
        return stage.finish()
    except BaseException:
        stage.leave()
        raise


def negotiate(peer: Peer, options: Mapping[str, object], offers: list[str]) -> str:
    """Shake hands with these lines of Sec-WebSocket-Extensions. Returns the answer's."""
    client = Client(peer.port(options), None)
    try:
        client.send(handshake({"Sec-WebSocket-Extensions": offers}))
        status, fields = client.read_head()
        return str(fields.get("sec-websocket-extensions", "")) if status == 101 else f"status {status}"
    finally:
        reset(client)
