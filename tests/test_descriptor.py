"""Descriptor: a write without the transport in between."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bunws import descriptor
from tests.fakes import FakeServer
from tests.support import ROOT


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


def test_what_is_sent_when_the_loop_is_closed_reaches_nobody() -> None:
    # uvloop closes descriptors with its loop, and tells nobody: their numbers are soon another file's.
    script = """
import asyncio, socket, sys, uvloop
import bunws

sockets = []

def opened(ws):
    ws.subscribe("news")
    sockets.append(ws)

def fetch(request, server):
    return None if server.upgrade(request) else bunws.Response("no")

websocket = {"open": opened, "message": lambda ws, message: None}
loop = uvloop.new_event_loop() if sys.argv[1] == "uvloop" else asyncio.new_event_loop()

async def main():
    server = bunws.serve(fetch=fetch, websocket=websocket, hostname="127.0.0.1", port=0)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET / HTTP/1.1\\r\\nHost: localhost\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
                 b"Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\n\\r\\n")
    await reader.readuntil(b"\\r\\n\\r\\n")
    return server, writer

kept = loop.run_until_complete(main())
loop.close()
pairs = [socket.socketpair() for _ in range(32)]
for _ in range(3):
    for send in (sockets[0].send, lambda message: kept[0].publish("news", message), lambda _: sockets[0].terminate()):
        try:
            send(b"x" * 20_000)
        except RuntimeError as error:
            print(error)
for sock in (sock for pair in pairs for sock in pair):
    sock.setblocking(False)
    try:
        print("another's socket got", sock.recv(100))
    except BlockingIOError:
        pass
"""
    for kind in ("uvloop", "asyncio"):
        command = [sys.executable, "-W", "ignore", "-c", script, kind]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=ROOT)
        assert set(done.stdout.splitlines()) == {"Event loop is closed"}, (done.stdout, done.stderr)
