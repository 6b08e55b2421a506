"""
permessage-deflate through a whole server: real clients, what they may do wrong, and bombs.

`deflate` and `turn` have tests of their own; here everything is wired, and the other end is somebody else's code.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import gc
import itertools
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

import bunws
from bunws import engine
from bunws.compress import COMPRESSORS
from bunws.deflate import EMPTY_BLOCK, SHARED_THRESHOLD
from tests.clients import (
    BINARY,
    CLOSE,
    EACH_LOOP,
    PING,
    PONG,
    TEXT,
    Client,
    binary,
    close,
    connected,
    cont,
    frame,
    ping,
    pong,
    serving,
    text,
    until,
)


LOOP_FACTORIES = EACH_LOOP

Socket = bunws.ServerWebSocket[Any]

MIB: Final = 1024 * 1024
RSV1: Final = 0b100

# Both ways at once, as a server would have it.
SHARED: Final = {"compress": "shared", "decompress": "shared", "threshold": 0}
DEDICATED: Final = {"compress": "dedicated", "decompress": "dedicated", "threshold": 0}
BOTH: Final = pytest.mark.parametrize("options", [SHARED, DEDICATED], ids=["shared", "dedicated"])

WORDS: Final = ("the", "a", "room", "hello", "what", "where", "is", "bun", "python", "meaning", "of", "life", "fast")


def prose(size: int, seed: int = 0) -> str:
    """Words of `size` bytes in all; another seed, other words."""
    return " ".join(random.Random(seed).choices(WORDS, k=size // 2 + 1))[:size]


def echo(ws: Socket, message: str | bytes) -> None:
    ws.send(message, compress=True)


# A client that says exactly what it is told, compressed


def deflated(payload: bytes | str, *, mode: int = zlib.Z_SYNC_FLUSH, window_bits: int = 15) -> bytes:
    """The payload of one compressed message that stands for itself."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -window_bits)
    data = stream.compress(payload.encode() if isinstance(payload, str) else payload) + stream.flush(mode)
    return data.removesuffix(EMPTY_BLOCK) if mode != zlib.Z_FINISH else data + b"\0"


def compressed(payload: bytes | str, opcode: int = TEXT, **oddities: Any) -> bytes:
    """One frame with one compressed message."""
    return frame(opcode, deflated(payload), **{"rsv": RSV1, **oddities})


@functools.cache
def bomb(size: int = MIB) -> bytes:
    """A frame of a thousandth of the bytes that it becomes."""
    return compressed(bytes(size), BINARY)


BROKEN: Final = frame(BINARY, b"\xff\xff\xff", rsv=RSV1)  # no such type of block


class Peer:
    """A client that has negotiated compression, and tells which of the frames it gets are compressed."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.send = client.send
        (self.agreed,) = client.answer.all("Sec-WebSocket-Extensions") or [""]
        takeover = "server_no_context_takeover" not in self.agreed
        self._context = zlib.decompressobj(-15) if takeover else None

    async def hear(self) -> tuple[int, bytes, bool]:
        """Opcode, plain payload, and whether it came compressed. Raises EOFError where there is none."""
        first, size = await self.client._take(2)
        if size >= 126:
            size = int.from_bytes(await self.client._take(2 if size == 126 else 8), "big")
        payload = await self.client._take(size)
        assert first & 0x80
        assert not first & 0x30
        is_compressed = bool(first & 0x40)
        if is_compressed:
            assert self.agreed
            stream = self._context or zlib.decompressobj(-15)
            payload = stream.decompress(payload + EMPTY_BLOCK)
        return first & 0x0F, payload, is_compressed

    async def hear_payload(self) -> bytes:
        _, payload, _ = await self.hear()
        return payload

    async def hear_close(self) -> tuple[int, str]:
        """The code and reason of the Close frame, which has to come next, and behind it the end."""
        opcode, payload, _ = await self.hear()
        assert opcode == CLOSE, (opcode, payload)
        with pytest.raises(EOFError):
            await self.hear()
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()


@contextlib.asynccontextmanager
async def deflating(
    server: bunws.Server, offer: str | None = "permessage-deflate; client_max_window_bits"
) -> AsyncIterator[Peer]:
    async with connected(server, {"Sec-WebSocket-Extensions": offer}) as client:
        yield Peer(client)


async def let_read_whole(peer: Peer) -> None:
    """From now on one read of the server takes 64 KiB: it begins small and grows with what comes."""
    for _ in range(8):
        # Pongs, so that no message is heard of it.
        await peer.send(pong(b"a" * 125) * 500, ping())
        assert await peer.hear() == (PONG, b"", False)


# `websockets`

FACTORIES: Final = [
    ClientPerMessageDeflateFactory(
        server_no_context_takeover=server_no_takeover,
        client_no_context_takeover=client_no_takeover,
        server_max_window_bits=server_bits,
        client_max_window_bits=client_bits,
    )
    for server_no_takeover, client_no_takeover, server_bits, client_bits in itertools.product(
        (False, True), (False, True), (None, 9, 12, 15), (None, True, 9, 12, 15)
    )
]


@contextlib.asynccontextmanager
async def websockets_client(
    server: bunws.Server, *factories: ClientPerMessageDeflateFactory
) -> AsyncIterator[ClientConnection]:
    async with connect(
        f"ws://127.0.0.1:{server.port}", extensions=factories or None, max_size=None, ping_interval=None
    ) as client:
        yield client


def agreed_on(client: ClientConnection) -> list[str]:
    return [extension.name for extension in client.protocol.extensions]


@pytest.mark.parametrize("preset", [*COMPRESSORS])
async def test_websockets_understands_every_preset_with_every_offer(preset: str) -> None:
    messages: list[str | bytes] = [
        "",
        "a",
        prose(50),
        prose(200),
        prose(200),
        random.Random(1).randbytes(300),
        prose(5000),
        prose(70_000),
    ]
    options = {"compress": preset, "decompress": preset, "threshold": 0}
    async with serving({"message": echo, "per_message_deflate": options}) as server:
        for factory in FACTORIES:
            async with websockets_client(server, factory) as client:
                assert agreed_on(client) == ["permessage-deflate"]
                for message in messages:
                    await client.send(message)
                    assert await client.recv() == message


@BOTH
async def test_websockets_may_send_its_message_in_compressed_fragments(options: dict[str, object]) -> None:
    parts = [prose(700, seed) for seed in range(20)]
    async with (
        serving({"message": echo, "per_message_deflate": options}) as server,
        websockets_client(server) as client,
    ):
        assert agreed_on(client) == ["permessage-deflate"]
        for _ in range(3):
            await client.send(parts)
            await client.ping()
            assert await client.recv() == "".join(parts)


@BOTH
async def test_websockets_hears_what_is_published_compressed_by_all_kinds_of_callers(
    options: dict[str, object],
) -> None:
    def publish(ws: Socket, message: str) -> None:
        ws.publish("room", message, compress=True)

    table = {"open": lambda ws: ws.subscribe("room"), "message": publish, "per_message_deflate": options}
    lines = [prose(size, size) for size in (60, 200, 1000, 20_000, 100_000)]
    async with (
        serving(table) as server,
        websockets_client(server) as speaker,
        websockets_client(server, FACTORIES[0]) as listener,
        websockets_client(server, FACTORIES[-1]) as another,
        connect(f"ws://127.0.0.1:{server.port}", compression=None) as plain,
    ):
        for line in lines:
            await speaker.send(line)
            server.publish("room", line[::-1])
        for listening in (listener, another, plain):
            # The two publishers take turns as the server reads; each keeps its own order.
            heard = [await listening.recv() for _ in range(2 * len(lines))]
            assert [line for line in heard if line in lines] == lines
            assert [line for line in heard if line not in lines] == [line[::-1] for line in lines]
        assert [await speaker.recv() for _ in lines] == [line[::-1] for line in lines]


# The clients of Node and Bun

PEERS: Final = Path(__file__).parent / "peers_deflate"
INSTALL: Final = ("npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", str(PEERS))


def _bun_package() -> str:
    machine = {"x86_64": "x64", "AMD64": "x64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    return f"@oven/bun-{sys.platform}-{machine}"


def _find_modules() -> Path | None:
    """Where Node finds `ws`, with Bun's binary beside it."""
    given = os.environ.get("NODE_PATH")
    places = [Path(place) for place in given.split(os.pathsep)] if given else []
    for place in (*places, PEERS / "node_modules"):
        if all((place / package / "package.json").is_file() for package in ("ws", _bun_package())):
            return place
    return None


@pytest.fixture(scope="module")
def modules() -> Path:
    """Where the peers are. Where they are missing: skip, or install them and fail if BUNWS_REQUIRE_PEERS=1."""
    found = _find_modules()
    if found is None and os.environ.get("BUNWS_REQUIRE_PEERS") == "1":
        subprocess.run(INSTALL, check=True, timeout=240)
        found = _find_modules()
    if found is not None and shutil.which("node"):
        return found
    reason = f"no Node, ws and Bun: set NODE_PATH, or run {' '.join(INSTALL)}"
    if os.environ.get("BUNWS_REQUIRE_PEERS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


class Meter:
    """A cable to a server that counts what passes: so a client cannot only say that it compresses."""

    def __init__(self) -> None:
        self.up = 0
        self.down = 0
        self.port = 0

    @contextlib.asynccontextmanager
    async def before(self, server: bunws.Server) -> AsyncIterator[Meter]:
        relays: set[asyncio.Task[None]] = set()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            relays.add(task)
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", server.port)
            await asyncio.gather(self._relay(reader, server_writer, "up"), self._relay(server_reader, writer, "down"))

        listener = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            await asyncio.gather(*relays)
            await listener.wait_closed()

    async def _relay(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, direction: str) -> None:
        try:
            while data := await source.read(65_536):
                setattr(self, direction, getattr(self, direction) + len(data))
                sink.write(data)
                await sink.drain()
            sink.close()
        except ConnectionError:
            sink.transport.abort()  # one half was reset, so is the other


class JavaScriptClient:
    """One client in a process of its own."""

    def __init__(self, stdin: asyncio.StreamWriter, stdout: asyncio.StreamReader) -> None:
        self._stdin = stdin
        self._stdout = stdout

    async def do(self, *step: object) -> None:
        self._stdin.write(json.dumps(step).encode() + b"\n")
        await self._stdin.drain()

    async def heard(self) -> list[Any]:
        fact: list[Any] = json.loads(await self._stdout.readline())
        return fact


@contextlib.asynccontextmanager
async def dialled(modules: Path, client: str, port: int) -> AsyncIterator[JavaScriptClient]:
    """A client, "bun" or ws's `perMessageDeflate` as JSON, that connects; it must have ended by itself at the end."""
    program = modules / _bun_package() / "bin" / "bun" if client == "bun" else "node"
    process = await asyncio.create_subprocess_exec(
        program, str(PEERS / "client.mjs"), f"ws://127.0.0.1:{port}/", client,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=1 << 24, env={**os.environ, "NODE_PATH": str(modules)},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield JavaScriptClient(process.stdin, process.stdout)
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


JAVASCRIPT_CLIENTS: Final = [
    "bun",
    "true",
    '{"clientNoContextTakeover": true}',
    '{"serverNoContextTakeover": true}',
    '{"clientNoContextTakeover": true, "serverNoContextTakeover": true, "threshold": 0}',
    '{"serverMaxWindowBits": 10, "clientMaxWindowBits": 10}',
    '{"serverMaxWindowBits": 9, "clientMaxWindowBits": 9, "serverNoContextTakeover": true}',
    '{"clientMaxWindowBits": 8}',
]


@pytest.mark.timeout(300)
@BOTH
@pytest.mark.parametrize("client", JAVASCRIPT_CLIENTS)
async def test_clients_of_node_and_bun_talk_compressed_both_ways(
    client: str, options: dict[str, object], modules: Path
) -> None:
    ends: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
    table = {
        "open": lambda ws: ws.subscribe("room"),
        "message": echo,
        "close": lambda _, code, reason: ends.put_nowait((int(code), reason)),
        "per_message_deflate": options,
    }
    texts = ["", "a", prose(200), prose(200), prose(5000), prose(70_000), prose(MIB)]
    noise = base64.b64encode(random.Random(4).randbytes(3000)).decode()
    async with (
        serving(table) as server,
        Meter().before(server) as meter,
        dialled(modules, client, meter.port) as peer,
    ):
        opened, extensions = await peer.heard()
        assert opened == "open"
        assert "permessage-deflate" in extensions
        for line in texts:
            await peer.do("text", line)
            assert await peer.heard() == ["text", line]
        await peer.do("binary", noise)
        assert await peer.heard() == ["binary", noise]
        for line in texts:
            server.publish("room", line)
        for line in texts:
            assert await peer.heard() == ["text", line]
        await peer.do("close", 4000, "bye")
        assert await peer.heard() == ["close", 4000, "bye"]
        assert await ends.get() == (4000, "bye")
    said = sum(map(len, texts))
    assert meter.up < said / 2
    assert meter.down < said  # it was said twice


# The parameter sets of Autobahn's cases 12 (the client asks for nothing in particular) and 13 (what it asks for:
# requestNoContextTakeover, requestMaxWindowBits; 13.7 is a list of offers). 9 stands for its 8, which zlib lacks.

AUTOBAHN: Final[dict[str, Sequence[tuple[bool, int]]]] = {
    "12": [(False, 0)],
    "13.1": [(False, 0)],
    "13.2": [(True, 0)],
    "13.3": [(False, 9)],
    "13.4": [(False, 15)],
    "13.5": [(True, 9)],
    "13.6": [(True, 15)],
    "13.7": [(True, 9), (True, 0), (False, 0)],
}
# Bytes of a message; each comes whole, and in fragments of 256 bytes.
AUTOBAHN_SIZES: Final = (16, 64, 256, 1024, 4096, 8192, 16_384, 32_768, 65_536, 131_072)


def _autobahn_factories(offers: Sequence[tuple[bool, int]]) -> Iterator[ClientPerMessageDeflateFactory]:
    for no_takeover, window_bits in offers:
        yield ClientPerMessageDeflateFactory(
            server_no_context_takeover=no_takeover,
            server_max_window_bits=window_bits or None,
            client_max_window_bits=True,
        )


async def _play_autobahn(options: dict[str, object], offers: Sequence[tuple[bool, int]], times: int) -> None:
    async with (
        serving({"message": echo, "per_message_deflate": options}) as server,
        websockets_client(server, *_autobahn_factories(offers)) as client,
    ):
        assert agreed_on(client) == ["permessage-deflate"]
        for size in AUTOBAHN_SIZES:
            for number in range(times):
                message = json.dumps({"number": number, "text": prose(size, number)})[:size]
                await client.send(message)
                assert await client.recv() == message
            pieces = [message[at : at + 256] for at in range(0, len(message), 256)]
            await client.send(pieces)
            assert await client.recv() == message


@BOTH
@pytest.mark.parametrize("case", [*AUTOBAHN])
async def test_parameters_of_autobahn_connect_and_echo(case: str, options: dict[str, object]) -> None:
    await _play_autobahn(options, AUTOBAHN[case], times=3)


@pytest.mark.stress
@pytest.mark.timeout(3600)
@BOTH
@pytest.mark.parametrize("case", [*AUTOBAHN])
async def test_parameters_of_autobahn_echo_in_the_long_run(case: str, options: dict[str, object]) -> None:
    await _play_autobahn(options, AUTOBAHN[case], times=1000)


# What is sent


async def test_what_a_caller_did_not_ask_to_compress_is_sent_plain() -> None:
    line = prose(1000)

    def say(ws: Socket) -> None:
        ws.subscribe("room")
        ws.send(line)
        ws.send(line, compress=True)
        ws.send_text(line, compress=True)
        ws.send_binary(line.encode(), compress=True)
        ws.ping(b"never")

    async with (
        serving({"open": say, "per_message_deflate": True}) as server,
        deflating(server) as peer,
    ):
        assert peer.agreed
        assert [await peer.hear() for _ in range(5)] == [
            (TEXT, line.encode(), False),
            (TEXT, line.encode(), True),
            (TEXT, line.encode(), True),
            (BINARY, line.encode(), True),
            (PING, b"never", False),
        ]
        server.publish("room", line)
        assert await peer.hear() == (TEXT, line.encode(), True)
        server.publish("room", line, compress=False)
        assert await peer.hear() == (TEXT, line.encode(), False)


async def test_short_messages_and_noise_are_sent_plain() -> None:
    short, noise = prose(SHARED_THRESHOLD - 1).encode(), random.Random(2).randbytes(10_000)
    async with (
        serving({"message": echo, "per_message_deflate": True}) as server,
        deflating(server) as peer,
    ):
        for payload, expected in ((short, False), (noise, False), (short + b".", True), (b"", False)):
            await peer.send(binary(payload))
            assert await peer.hear() == (BINARY, payload, expected)


async def test_who_has_not_offered_compression_is_sent_everything_plain() -> None:
    line = prose(1000)
    async with (
        serving({"message": echo, "per_message_deflate": DEDICATED}) as server,
        deflating(server, None) as peer,
    ):
        await peer.send(text(line))
        assert await peer.hear() == (TEXT, line.encode(), False)


@pytest.mark.parametrize(
    ("compress", "decompress", "comes_compressed"), [("disable", "shared", False), ("shared", "disable", True)]
)
async def test_peer_may_compress_even_where_we_do_not(compress: str, decompress: str, comes_compressed: bool) -> None:
    line = prose(1000)
    options = {"compress": compress, "decompress": decompress}
    async with (
        serving({"message": echo, "per_message_deflate": options}) as server,
        deflating(server) as peer,
    ):
        await peer.send(compressed(line))
        assert await peer.hear() == (TEXT, line.encode(), comes_compressed)


# What is received


@BOTH
async def test_compressed_message_may_come_in_any_fragments(options: dict[str, object]) -> None:
    line = prose(3000)
    data = deflated(line)
    async with (
        serving({"message": echo, "per_message_deflate": options}) as server,
        deflating(server) as peer,
    ):
        for size in (1, 2, 7, 1000):
            pieces = [data[at : at + size] for at in range(0, len(data), size)]
            frames = [text(pieces[0], fin=False, rsv=RSV1), *(cont(piece, fin=False) for piece in pieces[1:]), cont()]
            await peer.send(*frames)
            assert await peer.hear_payload() == line.encode()


async def test_fragments_may_be_empty_and_pings_come_between_them() -> None:
    data = deflated(prose(1000))
    async with (
        serving({"message": echo, "per_message_deflate": True}) as server,
        deflating(server) as peer,
    ):
        await peer.send(
            text(fin=False, rsv=RSV1), ping(b"1"), cont(fin=False), cont(data, fin=False), ping(b"2"), cont()
        )
        assert [await peer.hear() for _ in range(3)] == [
            (PONG, b"1", False),
            (PONG, b"2", False),
            (TEXT, prose(1000).encode(), True),
        ]


@BOTH
async def test_plain_and_compressed_messages_take_turns(options: dict[str, object]) -> None:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    async with (
        serving({"message": echo, "per_message_deflate": options}) as server,
        deflating(server) as peer,
    ):
        for number in range(6):
            line = prose(300, number // 3)
            if number % 3 == 2:
                await peer.send(text(line))
            elif options is DEDICATED:
                data = stream.compress(line.encode()) + stream.flush(zlib.Z_SYNC_FLUSH)
                await peer.send(text(data.removesuffix(EMPTY_BLOCK), rsv=RSV1))
            else:
                await peer.send(compressed(line))
            assert await peer.hear_payload() == line.encode()


@BOTH
async def test_message_that_ends_in_a_final_block_is_understood_and_so_is_the_next(options: dict[str, object]) -> None:
    async with (
        serving({"message": echo, "per_message_deflate": options}) as server,
        deflating(server) as peer,
    ):
        for size in (1, 100, 10_000):
            await peer.send(text(deflated(prose(size), mode=zlib.Z_FINISH), rsv=RSV1))
            assert await peer.hear_payload() == prose(size).encode()


async def test_character_may_be_split_over_compressed_fragments() -> None:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    line = "€" * 100
    first = stream.compress(line.encode()[:100]) + stream.flush(zlib.Z_SYNC_FLUSH)
    second = stream.compress(line.encode()[100:]) + stream.flush(zlib.Z_SYNC_FLUSH)
    async with (
        serving({"message": echo, "per_message_deflate": True}) as server,
        deflating(server) as peer,
    ):
        await peer.send(text(first, fin=False, rsv=RSV1), cont(second.removesuffix(EMPTY_BLOCK)))
        assert await peer.hear_payload() == line.encode()


# What a peer may not do

RESERVED: Final = (1002, "Received unexpected RSV1 bit")
CORRUPT: Final = (1007, "Received invalid compressed data")
TOO_BIG: Final = (1009, "Received too big message")

MISUSES: Final[dict[str, tuple[bytes, tuple[int, str]]]] = {
    "compressed_ping": (ping(b"a", rsv=RSV1), RESERVED),
    "compressed_pong": (pong(b"a", rsv=RSV1), RESERVED),
    "compressed_close": (close(1000, rsv=RSV1), RESERVED),
    "compressed_continuation": (
        text(deflated("a"), fin=False, rsv=RSV1) + cont(deflated("b"), rsv=RSV1),
        RESERVED,
    ),
    "compressed_continuation_of_a_plain_message": (text("a", fin=False) + cont(deflated("b"), rsv=RSV1), RESERVED),
    "rsv2_beside_rsv1": (frame(TEXT, deflated("a"), rsv=0b110), (1002, "Received unexpected RSV2 or RSV3 bit")),
    "corrupt": (BROKEN, CORRUPT),
    "corrupt_in_a_fragment": (text(deflated("a")[:1], fin=False, rsv=RSV1) + cont(b"\xff" * 50), CORRUPT),
    "cut_short": (frame(TEXT, deflated(prose(100))[:-10], rsv=RSV1), CORRUPT),
    "plain_that_says_compressed": (text(prose(100), rsv=RSV1), CORRUPT),
    "bad_utf8": (compressed(b"\xc3\x28"), (1007, "Received invalid UTF-8")),
    "bad_utf8_in_a_fragment": (
        text(deflated(b"\xc3\x28"), fin=False, rsv=RSV1),
        (1007, "Received invalid UTF-8"),
    ),
    "a_flood_of_final_blocks": (binary(b"\x03\x00" * 150 + b"\0", rsv=RSV1), (1008, "Received too many final blocks")),
}


@BOTH
@pytest.mark.parametrize("name", [*MISUSES])
async def test_misuse_fails_the_connection_and_good_messages_before_it_are_answered(
    name: str, options: dict[str, object]
) -> None:
    wire, expected = MISUSES[name]
    ends = []
    table = {
        "message": echo,
        "close": lambda _, code, reason: ends.append((code, reason)),
        "per_message_deflate": options,
    }
    async with serving(table) as server, deflating(server) as peer:
        await peer.send(compressed("good"), wire, text("behind"))
        assert await peer.hear_payload() == b"good"
        assert await peer.hear_close() == expected
        assert ends == [(1006, expected[1])]


@pytest.mark.parametrize("options", [None, SHARED], ids=["off", "not_offered"])
async def test_compressed_message_is_refused_where_nothing_was_negotiated(options: object) -> None:
    offer = None if options else "permessage-deflate"
    async with (
        serving({"message": echo, "per_message_deflate": options}) as server,
        deflating(server, offer) as peer,
    ):
        assert not peer.agreed
        await peer.send(compressed("a"))
        assert await peer.hear_close() == RESERVED


# Bombs

LIMIT: Final = 100_000


@BOTH
async def test_limit_is_of_the_inflated_size(options: dict[str, object]) -> None:
    table = {"message": echo, "max_payload_length": LIMIT, "per_message_deflate": options}
    async with serving(table) as server:
        async with deflating(server) as peer:
            await peer.send(compressed(bytes(LIMIT), BINARY))
            assert await peer.hear_payload() == bytes(LIMIT)
            await peer.send(compressed(bytes(LIMIT + 1), BINARY))
            assert await peer.hear_close() == TOO_BIG
        async with deflating(server) as peer:
            data = deflated(bytes(LIMIT + 1))
            await peer.send(binary(data[:50], fin=False, rsv=RSV1), cont(data[50:]))
            assert await peer.hear_close() == TOO_BIG


@contextlib.contextmanager
def allocating_at_most(size: int) -> Iterator[None]:
    """What is allocated inside this block, less what was there before, never exceeds `size` bytes."""
    gc.collect()
    tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before <= size


# One that is whole, one in fragments, and one that is many messages: each would be 64 MiB.
def _fragmented_bomb() -> bytes:
    data = deflated(bytes(64 * MIB))
    pieces = [data[at : at + 1000] for at in range(0, len(data), 1000)]
    return binary(pieces[0], fin=False, rsv=RSV1) + b"".join(cont(piece, fin=False) for piece in pieces[1:]) + cont()


BOMBS: Final[dict[str, tuple[Callable[[], bytes], tuple[int, str]]]] = {
    "whole": (lambda: bomb(64 * MIB), TOO_BIG),
    "fragments": (_fragmented_bomb, TOO_BIG),
    "messages": (lambda: compressed(bytes(LIMIT), BINARY) * 640 + compressed(bytes(LIMIT + 1), BINARY), TOO_BIG),
}


@BOTH
@pytest.mark.parametrize("name", [*BOMBS])
async def test_bomb_takes_no_more_memory_than_the_limit_and_others_are_served(
    name: str, options: dict[str, object]
) -> None:
    make, expected = BOMBS[name]
    wire = make()
    table = {"message": lambda ws, _: None, "max_payload_length": LIMIT, "per_message_deflate": options}
    async with serving(table) as server, deflating(server) as peer, deflating(server) as other:
        with allocating_at_most(len(wire) + 3 * MIB):  # our own client reads 1 MiB at once
            sending = asyncio.create_task(peer.send(wire))
            assert await peer.hear_close() == expected
            with contextlib.suppress(ConnectionError):
                await sending
        await other.send(ping(b"still there?"))
        assert await other.hear() == (PONG, b"still there?", False)


class Log(list[str]):
    """Who was heard, in the order of the handler's calls."""

    def __call__(self, ws: Socket, message: str | bytes) -> None:
        self.append(message if isinstance(message, str) else f"{len(message) // MIB} MiB")


async def test_others_are_answered_in_between_where_one_packet_becomes_many_megabytes() -> None:
    log = Log()
    bombs = 40

    def note(ws: Socket, message: str | bytes) -> None:
        if not log:
            # From here on the kernel has a message of the other client.
            other.client.socket.send(text("other") + ping(b"?"))
        log(ws, message)
        if message == "other":
            ws.send(f"after {len(log)}")

    wire = bomb() * bombs
    assert len(wire) < engine.READ_SIZE, "one read takes all of it"
    async with (
        serving({"message": note, "per_message_deflate": True}) as server,
        deflating(server) as peer,
        deflating(server) as other,
    ):
        await let_read_whole(peer)
        await peer.send(wire)
        _, answer, _ = await other.hear()
        assert await other.hear() == (PONG, b"?", False)
        await until(lambda: len(log) == bombs + 1)
        # The first bomb alone is more than the budget of a turn; what the other says may take a few turns to be read.
        assert log.index("other") < 10
        assert answer == f"after {log.index('other') + 1}".encode()


async def test_flood_of_empty_compressed_messages_is_spread_over_turns() -> None:
    log = Log()
    empty = frame(TEXT, b"\0", rsv=RSV1)
    count = engine.READ_SIZE // len(empty)

    def note(ws: Socket, message: str | bytes) -> None:
        if not log:
            other.client.socket.send(text("other"))
        log(ws, message)

    async with (
        serving({"message": note, "per_message_deflate": True}) as server,
        deflating(server) as peer,
        deflating(server) as other,
    ):
        await let_read_whole(peer)
        await peer.send(empty * count)
        await until(lambda: len(log) == count + 1)
        assert log.index("other") < count // 2


# What waits for the next turn


def noting(log: list[object], **more: object) -> dict[str, object]:
    """Handlers that note all they are told, and answer messages."""

    def message(ws: Socket, message: str | bytes) -> None:
        size = len(message)
        log.append(message if size < 100 else size)
        ws.send(message[:20], compress=True)

    return {
        "message": message,
        "ping": lambda _, data: log.append(("ping", data)),
        "pong": lambda _, data: log.append(("pong", data)),
        "close": lambda _, code, reason: log.append(("close", code, reason)),
        "per_message_deflate": DEDICATED,
        **more,
    }


@contextlib.asynccontextmanager
async def waiting(log: list[object], **more: object) -> AsyncIterator[tuple[bunws.Server, Peer]]:
    """A server and a peer of which one read takes a whole packet, so that something is left to wait."""
    async with serving(noting(log, **more)) as server, deflating(server) as peer:
        await let_read_whole(peer)
        log.clear()
        yield server, peer


WORK: Final = bomb(2 * MIB)  # more than the budget of a turn: what comes behind it in one read waits


async def test_what_waits_keeps_its_order_with_pings_and_a_close() -> None:
    log: list[object] = []
    async with waiting(log) as (_, peer):
        await peer.send(
            WORK,
            compressed("1"),
            ping(b"2"),
            text("3"),
            WORK,
            pong(b"4"),
            text("5", fin=False),
            ping(b"6"),
            cont("7"),
            close(1000, "8"),
            text("behind"),
        )
        heard = [await peer.hear_payload() for _ in range(8)]
        assert heard == [bytes(20), b"1", b"2", b"3", bytes(20), b"6", b"57", b"\x03\xe88"]
        assert log == [
            2 * MIB,
            "1",
            ("ping", b"2"),
            "3",
            2 * MIB,
            ("pong", b"4"),
            ("ping", b"6"),
            "57",
            ("close", 1000, "8"),
        ]


async def test_what_comes_later_is_delivered_behind_what_waits() -> None:
    log: list[object] = []
    async with waiting(log) as (_, peer):
        for number in range(5):
            await peer.send(WORK, text(f"{number} a"), WORK, text(f"{number} b"))
        await peer.send(text("end"))
        while await peer.hear_payload() != b"end":
            pass
        assert [entry for entry in log if entry != 2 * MIB] == [
            *(f"{number} {letter}" for number in range(5) for letter in "ab"),
            "end",
        ]
        # The fast way is open again.
        await peer.send(text("fast"))
        assert await peer.hear_payload() == b"fast"


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (frame(0x3), (1002, "Received invalid opcode")),
        (text("a", mask=None), (1002, "Received an incorrectly masked frame")),
        (text("a", rsv=0b010), (1002, "Received unexpected RSV2 or RSV3 bit")),
        (BROKEN, CORRUPT),
        (text(b"\xff"), (1007, "Received invalid UTF-8")),
    ],
    ids=["opcode", "mask", "rsv2", "corrupt", "utf8"],
)
async def test_broken_frame_behind_what_waits_fails_the_connection_after_it(
    broken: bytes, expected: tuple[int, str]
) -> None:
    log: list[object] = []
    async with waiting(log) as (_, peer):
        await peer.send(WORK, compressed("1"), WORK, ping(b"2"), text("3"), broken, text("behind"))
        assert [await peer.hear_payload() for _ in range(5)] == [bytes(20), b"1", bytes(20), b"2", b"3"]
        assert await peer.hear_close() == expected
        assert log == [2 * MIB, "1", 2 * MIB, ("ping", b"2"), "3", ("close", 1006, expected[1])]


async def test_corrupt_message_that_waits_fails_the_connection_though_a_broken_frame_was_seen_behind_it() -> None:
    log: list[object] = []
    async with waiting(log) as (_, peer):
        await peer.send(WORK, BROKEN, text("behind"), compressed("behind"), frame(0x3))
        assert await peer.hear_payload() == bytes(20)
        assert await peer.hear_close() == CORRUPT
        assert log == [2 * MIB, ("close", 1006, CORRUPT[1])]


async def test_corrupt_message_right_before_a_broken_frame_fails_the_connection_itself() -> None:
    log: list[object] = []
    async with waiting(log) as (_, peer):
        await peer.send(BROKEN, frame(0x3))
        assert await peer.hear_close() == CORRUPT
        assert log == [("close", 1006, CORRUPT[1])]


async def test_socket_that_pauses_itself_still_gets_what_was_read_and_then_nothing() -> None:
    log: list[object] = []
    sockets: list[Socket] = []

    def message(ws: Socket, message: str | bytes) -> None:
        log.append(len(message))
        if not sockets:
            sockets.append(ws)
            ws.pause()

    async with waiting(log, message=message) as (server, peer), deflating(server) as other:
        await peer.send(WORK, text("1"), WORK, text("22"))
        await until(lambda: len(log) == 4)
        await peer.send(text("333"))
        # The server has had every occasion to read it: it has read what another client has sent later.
        for _ in range(5):
            await other.send(ping())
            assert await other.hear() == (PONG, b"", False)
        assert log == [2 * MIB, 1, 2 * MIB, 2, *[("ping", b"")] * 5]
        sockets[0].resume()
        await until(lambda: log[-1] == 3)


async def test_socket_that_terminates_itself_gets_nothing_more_of_what_waits() -> None:
    log: list[object] = []

    def message(ws: Socket, message: str | bytes) -> None:
        log.append(len(message))
        ws.terminate()

    async with waiting(log, message=message) as (server, peer):
        await peer.send(WORK, text("1"), ping(b"2"), WORK, close(1000))
        with pytest.raises((EOFError, ConnectionResetError)):
            await peer.hear()
        await until(lambda: not server.pending_websockets)
        assert log == [2 * MIB, ("close", 1006, "")]


async def test_socket_that_closes_itself_gets_nothing_more_of_what_waits_but_the_close() -> None:
    log: list[object] = []

    def message(ws: Socket, message: str | bytes) -> None:
        log.append(len(message))
        ws.close(4000, "enough")

    async with waiting(log, message=message) as (_, peer):
        await peer.send(WORK, text("1"), ping(b"2"), WORK, close(1000))
        assert await peer.hear_close() == (4000, "enough")
        assert log == [2 * MIB, ("close", 4000, "enough")]


async def test_connection_that_is_lost_while_frames_wait_is_told_once() -> None:
    log: list[object] = []

    def message(ws: Socket, message: str | bytes) -> None:
        log.append(len(message))
        if len(log) == 1:
            peer.client.reset()

    async with waiting(log, message=message) as (server, peer):
        await peer.send(*[WORK, text("1")] * 5)
        await until(lambda: not server.pending_websockets)
        assert log[-1] == ("close", 1006, "")
        assert sum(isinstance(entry, tuple) for entry in log) == 1


async def test_peer_that_ends_its_side_while_frames_wait_is_heard_out() -> None:
    log: list[object] = []
    async with waiting(log) as (server, peer):
        await peer.send(*[WORK, text("1")] * 5)
        peer.client.end()
        await until(lambda: not server.pending_websockets)
        assert log == [*[2 * MIB, "1"] * 5, ("close", 1006, "")]


async def test_server_that_stops_while_frames_wait_says_goodbye() -> None:
    log: list[object] = []

    def message(ws: Socket, message: str | bytes) -> None:
        log.append(len(message))
        server.stop()

    async with waiting(log, message=message) as (server, peer):
        await peer.send(WORK, text("1"), WORK, text("2"))
        opcode, payload, _ = await peer.hear()
        assert (opcode, payload) == (CLOSE, b"\x03\xe9Server closed")
        await peer.send(close(1001))
        with pytest.raises(EOFError):
            await peer.hear()
        peer.client.end()
        await server.wait_closed()
        assert log[-1][:2] == ("close", 1001)  # type: ignore[index]  # it is the last thing that is told
        assert sum(isinstance(entry, tuple) for entry in log) == 1


async def test_async_handler_that_lags_makes_the_rest_wait_uninflated() -> None:
    log: list[int] = []
    go_on = asyncio.Event()

    async def message(ws: Socket, message: str | bytes) -> None:
        log.append(len(message))
        await go_on.wait()

    wire = bomb() * 50
    assert len(wire) < engine.READ_SIZE
    async with (
        serving({"message": message, "per_message_deflate": True}) as server,
        deflating(server) as peer,
        deflating(server) as other,
    ):
        await let_read_whole(peer)
        with allocating_at_most(8 * MIB):
            await peer.send(wire, text("end"))
            await until(lambda: log)  # and nothing is read behind `wire`, which came in one piece
            for _ in range(60):  # turns enough for all that was read
                await other.send(ping())
                assert await other.hear() == (PONG, b"", False)
        go_on.set()
        await until(lambda: log[-1] == 3)
        assert log == [*[MIB] * 50, 3]


# While sockets are open


async def test_reload_leaves_open_sockets_what_they_have_agreed_on() -> None:
    line = prose(1000)

    async def converses(peer: Peer, *, is_compressed: bool) -> None:
        for _ in range(2):
            await peer.send(compressed(line) if peer.agreed else text(line))
            assert await peer.hear() == (TEXT, line.encode(), is_compressed)
        server.publish("room", line)
        for each in (*peers, peer):
            assert (await each.hear())[1] == line.encode()

    def table(options: object) -> dict[str, object]:
        return {"open": lambda ws: ws.subscribe("room"), "message": echo, "per_message_deflate": options}

    peers: list[Peer] = []
    async with serving(table(False)) as server, contextlib.AsyncExitStack() as stack:
        for options in (False, SHARED, DEDICATED, {"compress": "3KB", "threshold": 5000}, False, True):
            server.reload(websocket=table(options))
            peer = await stack.enter_async_context(deflating(server))
            assert bool(peer.agreed) is bool(options)
            is_small = isinstance(options, dict) and options["threshold"] == 5000
            await converses(peer, is_compressed=bool(options) and not is_small)
            peers.append(peer)
        for peer, is_compressed in zip(peers, (False, True, True, False, False, True), strict=True):
            await peer.send(compressed(line) if peer.agreed else text(line))
            assert await peer.hear() == (TEXT, line.encode(), is_compressed)


async def test_reload_changes_the_limit_of_an_unfinished_compressed_message() -> None:
    data = deflated(bytes(LIMIT))
    table = {"message": echo, "per_message_deflate": True, "max_payload_length": LIMIT}
    async with serving(table) as server, deflating(server) as peer:
        await peer.send(binary(data[:20], fin=False, rsv=RSV1), ping())
        assert await peer.hear() == (PONG, b"", False)
        server.reload(websocket={**table, "max_payload_length": 10})
        await peer.send(cont(data[20:]))
        code, _ = await peer.hear_close()
        assert code == 1009


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (1, TypeError),
        ("shared", TypeError),
        ([], TypeError),
        ({"compress": "64kb"}, ValueError),
        ({"decompress": 15}, TypeError),
        ({"level": 9}, TypeError),
        ({"compress": True, "threshold": -1}, ValueError),
        ({"compress": True, "threshold": "1 KB"}, TypeError),
        ({"threshold": 100}, ValueError),
    ],
)
async def test_wrong_option_is_refused_by_its_name(value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^websocket\.per_message_deflate"):
        async with serving({"per_message_deflate": value}):
            pass
    async with serving({}) as server:
        with pytest.raises(error, match=r"^websocket\.per_message_deflate"):
            server.reload(websocket={"per_message_deflate": value})


# The limit holds for a frame as it is sent, too, before anything of it is inflated. So noise of nearly the limit, whose
# compressed form is some bytes longer, is too big for a sender that compresses it all the same; Bun does likewise.


async def test_frame_is_refused_from_its_header_where_it_is_longer_than_the_limit_as_it_is_sent() -> None:
    noise = random.Random(3).randbytes(LIMIT)
    assert len(deflated(noise)) > LIMIT
    table = {"message": echo, "max_payload_length": LIMIT, "per_message_deflate": True}
    async with serving(table) as server, deflating(server) as peer:
        await peer.send(binary(noise))
        assert await peer.hear_payload() == noise
        await peer.send(compressed(noise[:-100], BINARY))
        assert await peer.hear_payload() == noise[:-100]
        await peer.send(compressed(noise, BINARY))
        assert await peer.hear_close() == TOO_BIG
