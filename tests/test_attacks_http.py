"""
Attacks over HTTP: endless heads, slow and silent clients, bombs, and more connections than there are descriptors.

Rule 1: whatever a client sends or leaves unsaid, what the server holds for it is bounded, and others are served.
Rule 2: every attack in `attacks.ATTACKS` has tests, and they exist.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import gzip
import resource
import socket
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from urllib.parse import urljoin

import pytest

import bunws
from tests.attacks import ATTACKS, BACKPRESSURE_LIMIT, LOOPS, MIB, Attack, Victim
from tests.clients import EACH_LOOP, connection, serving, until
from tests.support import RawClient, RawWebSocket


LOOP_FACTORIES = EACH_LOOP

HERE = Path(__file__).parent


@pytest.fixture(params=[*LOOPS])
def victim(request: pytest.FixtureRequest) -> Iterator[Victim]:
    with Victim(request.param) as victim:
        yield victim


def is_served(victim: Victim) -> None:
    """Somebody else comes, and is answered."""
    with RawClient(victim.port) as other:
        assert other.get().answer().body == b"hello"


def is_empty(victim: Victim) -> None:
    """Everybody has gone, and nothing is left of them."""
    victim.until(lambda facts: not any(facts[name] for name in ("connections", "refused", "engines", "tasks", "swept")))


# The table


@cache
def functions(path: Path) -> frozenset[str]:
    return frozenset(
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack_is_met_by_tests_that_exist(attack: Attack) -> None:
    assert attack.bound
    assert attack.tests
    for test in attack.tests:
        module, _, name = test.partition("::")
        assert f"test_{name}" in functions(HERE / f"test_{module}.py"), test


def test_each_attack_is_listed_once() -> None:
    names = [attack.name for attack in ATTACKS]
    assert len(names) == len(set(names)) >= 60


# What has no end

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

ENDLESS: dict[str, tuple[bytes, bytes, int]] = {
    "method": (b"", b"A" * 60_000, 501),
    "target": (b"GET /", b"a" * 60_000, 414),
    "name of a field": (GET, b"a" * 60_000, 431),
    "value of a field": (GET + b"a: ", b"a" * 60_000, 431),
    "white space": (GET + b"a: ", b" " * 60_000, 431),
    "fields": (GET, b"a: b\r\n" * 10_000, 431),
    "fields of another name each": (GET, b"".join(b"a%d: b\r\n" % n for n in range(5000)), 431),
    "Cookie": (GET + b"Cookie: ", b"a=b; " * 12_000, 431),
    "size of a chunk": (POST, b"0" * 60_000, 400),
    "chunk extension": (POST + b"1;a=", b"a" * 60_000, 400),
    "trailer": (POST + b"1\r\na\r\n0\r\na: ", b"a" * 60_000, 431),
    "trailers": (POST + b"1\r\na\r\n0\r\n", b"a: b\r\n" * 10_000, 431),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_has_no_end_is_refused_and_forgotten(victim: Victim, name: str) -> None:
    begin, piece, status = ENDLESS[name]
    with RawClient(victim.port) as client, victim.growing_at_most(3 * MIB):
        with contextlib.suppress(ConnectionError):
            client.send(begin)
            for _ in range(100):
                client.send(piece)
        assert client.answer().status == status
        is_served(victim)
    is_empty(victim)


def test_chunks_of_one_byte_cost_what_they_say(victim: Victim) -> None:
    count = 200_000
    with RawClient(victim.port) as client, victim.growing_at_most(8 * MIB):
        client.send(POST)
        for _ in range(20):
            client.send(b"1\r\na\r\n" * (count // 20))
        is_served(victim)
        assert client.send(b"0\r\n\r\n").answer().body == b"%d" % count


def test_pipelined_requests_whose_answers_are_not_read_are_not_answered_without_end(victim: Victim) -> None:
    request = b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n"
    with RawClient(victim.port, receive_buffer=10_000) as client, victim.growing_at_most(16 * MIB):
        client.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:  # until nothing more is read there
                client.socket.send(request * 1000)
        is_served(victim)
        assert victim.facts()["connections"] >= 1
    is_empty(victim)


def test_body_that_is_announced_is_not_allocated(victim: Victim) -> None:
    clients = 300
    with contextlib.ExitStack() as stack, victim.growing_at_most(clients * 16 * 1024 + 3 * MIB):
        for _ in range(clients):
            client = stack.enter_context(RawClient(victim.port))
            client.send(b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 134217728\r\n\r\n" + b"a" * 1000)
        victim.until(lambda facts: facts["pending_requests"] == clients)
        is_served(victim)
    is_empty(victim)
    assert victim.facts()["pending_requests"] == 0


# Bombs


def post(victim: Victim, path: str, body: bytes, *fields: str) -> tuple[int, bytes]:
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n" + "".join(f"{f}\r\n" for f in fields)
    with RawClient(victim.port) as client:
        with contextlib.suppress(ConnectionError):
            client.send(head.encode() + b"\r\n" + body)
        answer = client.answer()
    return answer.status, answer.body


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate", "gzip, gzip"])
def test_compressed_request_is_not_inflated(victim: Victim, coding: str) -> None:
    bomb = gzip.compress(bytes(32 * MIB))
    with victim.growing_at_most(2 * MIB):
        assert post(victim, "/length", bomb, f"Content-Encoding: {coding}") == (200, b"%d" % len(bomb))


MULTIPART = "Content-Type: multipart/form-data; boundary=x"
URLENCODED = "Content-Type: application/x-www-form-urlencoded"


def part(head: bytes, value: bytes = b"a") -> bytes:
    return b"--x\r\n" + head + b"\r\n\r\n" + value + b"\r\n"


FIELD = b'Content-Disposition: form-data; name="a"'
FILE = b'Content-Disposition: form-data; name="a"; filename="b"'

FORMS: dict[str, tuple[str, bytes]] = {
    "fields": (MULTIPART, part(FIELD) * 50_000 + b"--x--\r\n"),
    "files": (MULTIPART, part(FILE) * 50_000 + b"--x--\r\n"),
    "large fields": (MULTIPART, part(FIELD, bytes(512 * 1024)) * 10 + b"--x--\r\n"),
    "head of a part": (MULTIPART, part(FIELD + b"\r\nX: " + b"a" * MIB) + b"--x--\r\n"),
    "fields in the head of a part": (MULTIPART, part(FIELD + b"\r\nX: a" * 50_000) + b"--x--\r\n"),
    "parameters of a part": (MULTIPART, part(FIELD + b"; a=b" * 50_000) + b"--x--\r\n"),
    "no boundary": (MULTIPART, b"a" * 4 * MIB),
    "half boundaries": (MULTIPART, part(FIELD, b"\r\n--" * MIB) + b"--x--\r\n"),
    "values": (URLENCODED, b"a=b&" * MIB),
    "names of nothing": (URLENCODED, b"&" * 4 * MIB),
    "long value": (URLENCODED, b"a=" + b"%41" * MIB),
}


@pytest.mark.parametrize("name", FORMS)
def test_form_that_is_a_bomb_is_refused_within_its_limits(victim: Victim, name: str) -> None:
    kind, body = FORMS[name]
    before = victim.facts()["descriptors"]
    with victim.growing_at_most(12 * MIB):
        status, _ = post(victim, "/form", body, kind)
        assert status in (400, 413)
        is_served(victim)
    is_empty(victim)
    # One for the thread's pool of the loop may stay: no file of the form does.
    assert victim.facts()["descriptors"] <= before + 1


# Clients that are slow or say nothing


def test_thousands_of_connections_that_never_speak_are_cheap_and_sent_away(victim: Victim) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(2000, soft // 2)
    before = victim.facts()["descriptors"]
    with contextlib.ExitStack() as stack, victim.growing_at_most(count * 16 * 1024 + 4 * MIB):
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", victim.port))) for _ in range(count)]
        victim.until(lambda facts: facts["connections"] == count)
        is_served(victim)
        victim.ask("sweep", 10)  # ticks of 2.5 s: more than the idle timeout
        for sock in silent:
            assert sock.recv(1) == b""
    is_empty(victim)
    assert victim.facts()["descriptors"] <= before + 1


@pytest.mark.parametrize("sent", [b"", b"G", GET, GET + b"X-"], ids=["nothing", "a letter", "fields", "half a field"])
def test_many_slow_heads_are_ended_however_they_trickle(victim: Victim, sent: bytes) -> None:
    clients = 100
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(RawClient(victim.port)) for _ in range(clients)]
        for client in slow:
            client.send(sent)
        victim.until(lambda facts: facts["connections"] == clients)
        for _ in range(6):
            for client in slow:
                with contextlib.suppress(ConnectionError):
                    client.send(b"a" if sent else b"\r\n"[:0])
            is_served(victim)
            victim.ask("sweep", 1)
        for client in slow:
            line = client.file.readline()
            assert line == b"" or line.startswith(b"HTTP/1.1 408 ")
    is_empty(victim)


def test_slow_bodies_do_not_hold_their_handlers_for_ever(victim: Victim) -> None:
    clients = 100
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(RawClient(victim.port)) for _ in range(clients)]
        for client in slow:
            client.send(b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        victim.until(lambda facts: facts["pending_requests"] == clients)
        for _ in range(6):
            for client in slow:
                with contextlib.suppress(ConnectionError):
                    client.send(b"a")
            is_served(victim)
            victim.ask("sweep", 1)
        assert [client.answer().status for client in slow] == [408] * clients
        assert victim.facts()["pending_requests"] == 0
    is_empty(victim)


def test_readers_that_do_not_read_are_given_up(victim: Victim) -> None:
    clients = 20
    with contextlib.ExitStack() as stack, victim.growing_at_most(clients * 5 * MIB):
        slow = [stack.enter_context(RawClient(victim.port, receive_buffer=10_000)) for _ in range(clients)]
        for client in slow:
            client.get("/large")
        victim.until(lambda facts: facts["connections"] == clients)
        is_served(victim)
        victim.ask("sweep", 10)
        is_empty(victim)


def test_readers_of_events_that_do_not_read_cost_their_limit_and_are_given_up(victim: Victim) -> None:
    clients = 30
    with contextlib.ExitStack() as stack, victim.growing_at_most(2 * BACKPRESSURE_LIMIT + clients * 256 * 1024):
        readers = [stack.enter_context(RawClient(victim.port, receive_buffer=10_000)) for _ in range(clients)]
        for reader in readers:
            reader.get("/events")
            assert reader.file.readline() == b"HTTP/1.1 200 OK\r\n"
        victim.until(lambda facts: facts["feeds"] == clients)
        for _ in range(600):
            victim.ask("publish", "events", 10_000)
        is_served(victim)
        victim.ask("sweep", 12)
        victim.until(lambda facts: (facts["feeds"], facts["topics"]) == (0, 0))
        is_empty(victim)


# More connections than descriptors


def test_server_without_descriptors_serves_those_it_has_and_accepts_again(victim: Victim) -> None:
    with contextlib.ExitStack() as stack:
        ws = stack.enter_context(RawWebSocket(victim.port))
        client = stack.enter_context(RawClient(victim.port))
        client.get().answer()
        begun = victim.ask("begin")
        victim.ask("exhaust", 5)
        for _ in range(40):
            stack.enter_context(socket.create_connection(("127.0.0.1", victim.port)))
        # uvloop closes what it cannot take; asyncio leaves it in the queue, and says so. Either way the others go on.
        for _ in range(20):
            assert ws.say("echo still there?").hear_text() == "still there?"
            assert client.get().answer().body == b"hello"
        facts = victim.ask("counts")
        assert facts["connections"] == 6, "it has taken as many as it could"
        assert len(facts["complaints"]) <= 1 + (facts["time"] - begun["time"]), "at most one line a second"
        assert facts["timers"] <= 10, "and each try is one timer"
        victim.ask("relieve")
        is_served(victim)
    is_empty(victim)


def test_connections_over_the_limit_are_told_so_and_cost_nothing() -> None:
    for loop in LOOPS:
        with Victim(loop, max_connections=10) as victim, contextlib.ExitStack() as stack:
            before = victim.facts()["descriptors"]
            with victim.growing_at_most(6 * MIB):
                for _ in range(10):
                    stack.enter_context(RawClient(victim.port)).get().answer()
                for _ in range(500):
                    stack.enter_context(socket.create_connection(("127.0.0.1", victim.port)))
                facts = victim.until(lambda facts: facts["refused"] == 100)
                assert facts["connections"] == 10
                assert facts["descriptors"] <= before + 10 + 102
                assert len(facts["complaints"]) <= 2 + facts["time"]
            stack.close()
            is_empty(victim)
            is_served(victim)


# Work that grows faster than what asks for it


def busy(call: Callable[[], object]) -> float:
    """Seconds of the processor, the least of some tries."""

    def once() -> float:
        begin = time.process_time()
        call()
        return time.process_time() - begin

    return min(once() for _ in range(5))


def request_with(*fields: tuple[str, str], target: str = "/") -> bunws.Request:
    return bunws.Request(f"http://localhost{target}", headers=list(fields))


def colliding(count: int) -> list[str]:
    """Names that fall on one place in a hash table of so many, as far as it can be had."""
    names: list[str] = []
    number = 0
    while len(names) < count:
        number += 1
        if hash(name := f"n{number}") & 1023 == 0:
            names.append(name)
    return names


def test_names_that_collide_cost_no_more_than_others() -> None:
    bad, good = colliding(500), [f"n{number}" for number in range(500)]

    def read(names: list[str]) -> Callable[[], object]:
        target = "/?" + "&".join(f"{name}=1" for name in names)
        fields = [(name, "1") for name in names]

        def work() -> None:
            for _ in range(20):
                request = request_with(*fields, target=target)
                assert len(request.url.query) == len(names)
                assert [request.headers[name] for name in names] == ["1"] * len(names)

        return work

    # Each step of a search that always fails would make it hundreds of times as much.
    assert busy(read(bad)) < 20 * busy(read(good))


GROWING: dict[str, Callable[[int], Callable[[], object]]] = {
    "Cookie": lambda n: lambda: request_with(("Cookie", 'a="; ' * n)).cookies.get("a"),
    "Cookie of quotes": lambda n: lambda: request_with(("Cookie", 'a="' + '\\"' * n)).cookies.get("a"),
    "query": lambda n: lambda: len(request_with(target="/?" + "a&" * n).url.query),
    "path of dots": lambda n: lambda: request_with(target="/" + "../" * n).url.path,
}


@pytest.mark.parametrize("name", GROWING)
def test_work_grows_with_the_size_and_not_with_its_square(name: str) -> None:
    small, large = 1000, 32_000
    make = GROWING[name]
    # The square would be 1024 times as much.
    assert busy(make(large)) < 6 * (large // small) * busy(make(small)) + 0.001


FIELDS_OF_A_HEAD: dict[str, tuple[str, str, str]] = {
    "Range": ("Range", "bytes=", "0-0,"),
    "Range of blanks": ("Range", "bytes=", " "),
    "Accept-Encoding": ("Accept-Encoding", "", "gzip;q=0.5,"),
    "If-None-Match": ("If-None-Match", "", '"a",'),
    "If-None-Match of one quote": ("If-None-Match", '"', "W/"),
    "Connection": ("Connection", "", "a,"),
    "Sec-WebSocket-Extensions": ("Sec-WebSocket-Extensions", "permessage-deflate", ";a=b"),
    "Sec-WebSocket-Protocol": ("Sec-WebSocket-Protocol", "a", ",a"),
    "Content-Type": ("Content-Type", "multipart/form-data", ";a=b"),
    "Content-Type of backslashes": ("Content-Type", 'multipart/form-data; a="', "\\"),
    "Forwarded": ("Forwarded", "", "for=a;"),
    "Authorization": ("Authorization", "Basic ", "="),
}


@pytest.mark.parametrize("name", FIELDS_OF_A_HEAD)
async def test_field_that_fills_its_head_costs_what_its_size_says(name: str, tmp_path: Path) -> None:
    field, begin, piece = FIELDS_OF_A_HEAD[name]
    (tmp_path / "file").write_bytes(b"a" * 1000)
    folder = bunws.static(tmp_path)

    async def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response | None:
        if server.upgrade(request):
            return None
        if request.method == "POST":
            return bunws.Response(str(len(await request.form())))
        return folder(request, server)

    async with serving({"per_message_deflate": True}, fetch=fetch, compression=True) as server:

        async def ask(size: int) -> float:
            value = begin + piece * ((size - len(begin)) // len(piece))
            head = f"{field}: {value}\r\nHost: a\r\n".encode()
            if field.startswith("Sec-"):
                head += b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                head += b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            method = b"POST" if field == "Content-Type" else b"GET"
            body = b"Content-Length: 1\r\n\r\na" if method == b"POST" else b"\r\n"
            least = 1e9
            for _ in range(5):
                async with connection(server) as client:
                    spent = time.process_time()
                    await client.send(method + b" /file HTTP/1.1\r\n" + head + body)
                    answer = await client.receive_answer()
                    least = min(least, time.process_time() - spent)
                    assert answer.status < 500
            return least

        # The square would be 225 times as much, on top of what any request costs.
        assert await ask(15_000) < 60 * await ask(1000)


# What is asked of files


def serve_folder(tmp_path: Path) -> Callable[..., object]:
    inside = tmp_path / "public"
    inside.mkdir()
    (inside / "index.html").write_text("index")
    (inside / "file.txt").write_bytes(bytes(range(256)) * 40)
    (inside / "sub").mkdir()
    (inside / "sub" / "index.html").write_text("sub")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "public-too").mkdir()
    (tmp_path / "public-too" / "secret.txt").write_text("secret")
    return bunws.static(inside)


ODD_TARGETS = (
    "/../secret.txt",
    "/%2e%2e/secret.txt",
    "/%2e%2e%2fsecret.txt",
    "/..%2fsecret.txt",
    "/..%5csecret.txt",
    "/..\\secret.txt",
    "/sub/../../secret.txt",
    "/sub/%2e%2e/%2e%2e/secret.txt",
    "/../public-too/secret.txt",
    "//secret.txt",
    "///../secret.txt",
    "/./.././secret.txt",
    "/file.txt/../../secret.txt",
    "/%252e%252e/secret.txt",
    "/..%c0%afsecret.txt",
    "/%c0%ae%c0%ae/secret.txt",
    "/..;/secret.txt",
    "/file.txt%00.html",
    "http://a/../secret.txt",
    "http://a/%2e%2e/secret.txt",
    "http://../secret.txt",
    "http://a/..//../secret.txt",
    "http://a%2f..%2fsecret.txt/",
)


@pytest.mark.parametrize("host", ["a", "localhost", "..", "public-too", "127.0.0.1"])
async def test_no_target_and_no_host_leads_out_of_a_folder(host: str, tmp_path: Path) -> None:
    async with serving(fetch=serve_folder(tmp_path)) as server:
        for target in ODD_TARGETS:
            async with connection(server) as client:
                await client.send(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                answer = await client.receive_answer()
                assert answer.status in (400, 404), target
                assert b"secret" not in answer.body


@pytest.mark.parametrize(
    "host",
    ["evil.example/..", "a b", "user@evil.example", "a,b", "", "[::1", "a:99999", "a\tb", "evil.example#", "a?b"],
)
async def test_host_that_is_none_is_refused_before_a_folder_is_asked(host: str, tmp_path: Path) -> None:
    async with serving(fetch=serve_folder(tmp_path)) as server, connection(server) as client:
        await client.send(f"GET /sub HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert (await client.receive_answer()).status == 400


@pytest.mark.parametrize("target", ["/sub", "//evil.example/../sub", "http://evil.example/sub", "/.//sub", "/sub?//a"])
async def test_redirect_to_a_folder_never_names_another_host(target: str, tmp_path: Path) -> None:
    async with serving(fetch=serve_folder(tmp_path)) as server, connection(server) as client:
        await client.send(f"GET {target} HTTP/1.1\r\nHost: evil.example\r\n\r\n".encode())
        answer = await client.receive_answer()
        for location in answer.all("Location"):
            assert urljoin("http://good.example/", location).startswith("http://good.example/")
            assert "evil" not in location


RANGES = (
    "bytes=" + ",".join(["0-"] * 1300),
    "bytes=" + ",".join(f"{n}-{n}" for n in range(1300)),
    "bytes=" + ",".join(["0-10239"] * 16),
    "bytes=" + ",".join(f"{n}-" for n in range(16)),
    "bytes=-99999999999999999999",
    "bytes=99999999999999999999-",
    "bytes=0-99999999999999999999",
    "bytes=" + "9" * 15_000 + "-",
    "bytes=" + "," * 2000,
)


@pytest.mark.parametrize("value", RANGES, ids=lambda value: value[:30])
async def test_range_that_is_a_bomb_gets_no_more_than_the_file(value: str, tmp_path: Path) -> None:
    async with serving(fetch=serve_folder(tmp_path)) as server:
        for _ in range(3):
            async with connection(server) as client:
                await client.send(f"GET /file.txt HTTP/1.1\r\nHost: a\r\nRange: {value}\r\n\r\n".encode())
                answer = await client.receive_answer()
                assert answer.status in (200, 206, 416)
                assert len(answer.body) <= 10_240 + 16 * 200
        await until(lambda: not server._guests)


# Pipelines and their share of the loop


async def test_pipeline_leaves_the_others_their_turns() -> None:
    order: list[str] = []

    def fetch(request: bunws.Request) -> bunws.Response:
        if request.url.path == "/other":
            order.append("other")
        else:
            if not order:
                other.socket.sendall(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n")
            order.append("flood")
        return bunws.Response()

    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    async with serving(fetch=fetch) as server, connection(server) as peer, connection(server) as other:
        reading = asyncio.create_task(peer.receive_until_dropped())
        sending = asyncio.create_task(peer.send(request * 40_000))
        await until(lambda: "other" in order)
        # One read of asyncio or uvloop is 256 KiB, and the other may come behind the next.
        assert order.index("other") * len(request) <= 3 * 256 * 1024
        for task in (reading, sending):
            task.cancel()
        await asyncio.gather(reading, sending, return_exceptions=True)


async def test_pipeline_of_a_client_that_has_gone_is_not_answered() -> None:
    asked = 0

    def fetch(request: bunws.Request) -> bunws.Response:
        nonlocal asked
        asked += 1
        if asked == 1:
            client.reset()
        return bunws.Response(bytes(1000))

    # On asyncio each write behind the first few would be a warning, and a warning fails the test.
    async with serving(fetch=fetch) as server, connection(server) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)
        await until(lambda: asked and not server._guests)
    assert asked <= 2
