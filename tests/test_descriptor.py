"""Descriptor: a write without the transport in between."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from bunws import descriptor
from tests.fakes import FakeServer


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


def fill(sock: socket.socket) -> int:
    """Write until the kernel takes no more; how many bytes that were."""
    filled = 0
    while taken := descriptor.write(sock.fileno(), b"\0" * 65_536):
        filled += taken
    return filled


def read_all(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += sock.recv(size - len(data))
    return data


def test_it_says_how_many_bytes_the_kernel_took(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    assert descriptor.write(ours.fileno(), b"hello") == 5
    assert theirs.recv(100) == b"hello"


def test_nothing_is_taken_when_the_kernel_is_full_the_peer_is_gone_or_there_is_none(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    assert fill(ours) > 0
    assert descriptor.write(ours.fileno(), b"x") == 0
    theirs.close()
    assert descriptor.write(ours.fileno(), b"x") == 0
    assert descriptor.write(-1, b"x") == 0


def test_what_the_kernel_did_not_take_goes_through_the_transport(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    server = FakeServer()
    ws = server.connect(room=0)
    ws._descriptor = ours.fileno()
    transport = server.transports[ws]

    assert ws.send("first") == 5
    server.loop.end_turn()
    assert (theirs.recv(100), transport.writes) == (b"\x81\x05first", [])

    filled = fill(ours)
    assert ws.send("second") == 6
    server.loop.end_turn()
    assert transport.writes == [b"\x81\x06second"]

    read_all(theirs, filled)  # there is room again, but the transport has something left, and that comes first
    assert ws.send("third") == -1
    server.loop.end_turn()
    assert transport.writes == [b"\x81\x06second"]
    transport.read(1 << 30)
    assert server.received(ws) == [b"second", b"third"]

    assert ws.send("fourth") == 6
    server.loop.end_turn()
    assert theirs.recv(100) == b"\x81\x06fourth"


def test_a_write_that_is_taken_in_part_goes_on_where_it_stopped(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    server = FakeServer()
    ws = server.connect()
    ws._descriptor = ours.fileno()
    message = bytes(range(256)) * 16 * 1024  # 4 MiB, more than a socket buffer holds
    assert ws.send(message) == len(message)
    rest = bytes(server.transports[ws].taken)
    assert 0 < len(rest) < len(message)
    taken = read_all(theirs, 10 + len(message) - len(rest))
    assert taken[10:] + rest == message


def test_once_the_connection_is_lost_nothing_is_written_to_its_number(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    server = FakeServer()
    ann, ben = server.connect(), server.connect()
    for ws in (ann, ben):
        ws.subscribe("news")
    ann._descriptor = ours.fileno()
    assert ann.send("to ann") == 6
    ben.publish("news", "to all")
    assert ann.send("to ann again") == 12
    ann._lost()
    assert ann._descriptor == -1
    server.loop.end_turn()
    assert ann.send("refused") == 0
    server.loop.end_turn()
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
