"""
Workloads: what is measured, and how.

Rule 1: a workload is a list of cases, and a case is one table: what the servers serve, how one run of one peer is
        measured, and what its columns are. The first column is the one that a plot shows and the README quotes.
Rule 2: every run has a fresh server. Its clocks are read by us, from the kernel, while both sides rest.
Rule 3: nobody is treated differently: the same options of the load for all, the same cores.
"""

from __future__ import annotations

import json
import random
import re
import resource
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Final

from benchmarks import load, machine, servers
from benchmarks.install import SCRIPTS
from benchmarks.load import BUILD, Tally
from benchmarks.machine import BenchmarkError, Clocks, Cores, Usage, pinned
from benchmarks.runs import Column, Run, flaw, lag_flaw, percentile


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.servers import Peer, Server


__all__ = ["WORKLOADS", "Case", "Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says about all workloads."""

    seconds: float = 2.0  # counted
    warmup: float = 1.0  # before them: JIT compilers need it
    quick: bool = False  # to see that it runs; its numbers mean little

    def at_most(self, count: int, quick: int) -> int:
        """`count`, or `quick` where that is asked for."""
        return min(count, quick) if self.quick else count


@dataclass(frozen=True, slots=True)
class Case:
    """One table."""

    title: str
    serve: str  # the argument of the server scripts
    measure: Callable[[Peer, Cores], Run]
    columns: tuple[Column, ...]
    note: str = field(default="")


# Closed loops: how many copies, at what CPU time?

COPIES: Final = (
    Column("copies_per_second", "copies/s", "more"),
    Column("cpu_ns_per_copy", "CPU ns/copy", "less"),
)
BUSY: Final = (
    Column("server_busy", "server busy %"),
    Column("load_busy", "load busy %"),
    Column("others", "others %"),
)


def _count(
    server: Server, options: Sequence[str], settings: Settings, cores: Cores, program: str = "load"
) -> tuple[Tally, Usage]:
    """Warm up and count, with both sides at rest where the clocks are read."""
    options = [*options, "--warmup", str(settings.warmup), "--seconds", str(settings.seconds)]
    limit = settings.warmup + settings.seconds
    with load.running(server.port, options, core=cores.load, seconds=limit, program=program) as clients:
        clients.wait_for("OPEN")
        clients.wait_for("START")
        clocks = Clocks(server.pid, cores)
        clients.go_on()
        clients.wait_for("END")
        usage = clocks.usage()
        clients.go_on()
        return clients.finish(), usage


def _shares(usage: Usage, load_cpu: float, spun: float = 0) -> tuple[float, float, float | None]:
    """
    Busy shares: of the server's core, of the load's, and the worse of what others took of each.

    `spun`: seconds of `load_cpu` in which it had nothing to do. Where there is no pinning, the shares are those of the
    processes, and None.
    """
    server, clients, idle = usage.cpu_seconds / usage.seconds, load_cpu / usage.seconds, spun / usage.seconds
    if usage.server_core is None or usage.load_core is None:
        return server, max(0.0, clients - idle), None
    others = max(0.0, usage.server_core - server, usage.load_core - clients)
    return usage.server_core, max(0.0, usage.load_core - idle), others


def _busy_figures(server: float, clients: float, others: float | None) -> dict[str, float]:
    figures = {"server_busy": 100 * server, "load_busy": 100 * clients}
    return figures if others is None else {**figures, "others": 100 * others}


def _closed(serve: str, options: Sequence[str], settings: Settings, peer: Peer, cores: Cores) -> Run:
    trust = ["--unchecked"] if peer.name == "floor" else []
    with servers.running(peer, serve, core=cores.server) as server:
        tally, usage = _count(server, [*options, *trust], settings, cores)
    server_busy, load_busy, others = _shares(usage, tally.cpu_seconds, tally.spun_seconds)
    return Run(
        {
            "copies_per_second": tally.received / tally.seconds,
            "cpu_ns_per_copy": usage.cpu_seconds / tally.received * 1e9,
            "cpu_us_per_message": usage.cpu_seconds / tally.sent * 1e6,
            "bytes_per_copy": tally.bytes / tally.received,
            "compressed": 100 * tally.compressed / tally.received,
            "megabytes_per_second": tally.bytes / tally.seconds / 1e6,
            **_busy_figures(server_busy, load_busy, others),
        },
        flaw(server_busy=server_busy, load_busy=load_busy, others=others),
    )


def _closed_case(
    title: str,
    serve: str,
    settings: Settings,
    *,
    columns: tuple[Column, ...] = COPIES,
    note: str = "",
    **options: object,
) -> Case:
    """Options of load.c by name; True is a flag."""
    words = []
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    return Case(title, serve, partial(_closed, serve, words, settings), (*columns, *BUSY), note)


def bun_chat(settings: Settings) -> list[Case]:
    """Bun's own benchmark: its 50 texts 32 times, "name: text" to everybody, oneself included, in a closed loop."""
    return [
        _closed_case(
            f"bun-chat, {clients} clients", "bun-chat", settings, mode="bun-chat", clients=clients, messages=32 * 50
        )
        for clients in (32, 16)
    ]


def chat(settings: Settings) -> list[Case]:
    """One room, every message of 32 bytes to everybody but its sender; 100 in flight from each client, or one."""
    return [
        _closed_case(f"chat, 16 x {messages}", "chat", settings, mode="chat", clients=16, messages=messages)
        for messages in (100, 1)
    ]


def fan_out(settings: Settings) -> list[Case]:
    """
    1 or 10 of the subscribers publish messages of 32 bytes, and all others hear them.

    Each has 10 in flight, and a single one with 100 subscribers 100: so the end of a round, where all wait for the last
    copy, is a small part of it.
    """
    return [
        _closed_case(
            f"fan-out, {senders} to {subscribers:,}",
            "chat",
            settings,
            mode="chat",
            clients=subscribers + 1,  # whoever sends hears all but its own, so each message has so many listeners
            senders=senders,
            messages=max(10, 10_000 // (subscribers * senders)),
        )
        for senders in (1, 10)
        for subscribers in (100, 1_000, 5_000)
        if subscribers <= settings.at_most(subscribers, 1_000)
    ]


def rooms(settings: Settings) -> list[Case]:
    """1,000 sockets in 100 rooms, everybody talks in its first room; 10 messages in flight from each."""
    return [
        _closed_case(
            f"rooms, each in {each}",
            "rooms",
            settings,
            mode="rooms",
            clients=settings.at_most(1_000, 200),
            rooms=settings.at_most(100, 20),
            rooms_each=each,
            messages=10,
        )
        for each in (1, 5)
    ]


def echo(settings: Settings) -> list[Case]:
    """16 clients, each hears its own messages; so many in flight from each."""
    megabytes = Column("megabytes_per_second", "MB/s out", "more")
    return [
        _closed_case(
            f"echo, {name}, {flight} in flight",
            "echo",
            settings,
            columns=(*COPIES, megabytes),
            mode="echo",
            clients=16,
            messages=flight,
            size=size,
        )
        for name, size, flights in (
            ("32 B", 32, (100, 1)),
            ("1 KiB", 1024, (100, 1)),
            ("64 KiB", 64 * 1024, (8, 1)),
            ("1 MiB", 1024 * 1024, (4, 1)),
        )
        for flight in flights
    ]


def connect(settings: Settings) -> list[Case]:
    """64 at a time connect, shake hands, say goodbye, are told goodbye, and do it again."""
    columns = (
        Column("copies_per_second", "connections/s", "more"),
        Column("cpu_us_per_message", "CPU us/connection", "less", 1),
    )
    return [_closed_case("connect, 64 at a time", "echo", settings, columns=columns, mode="connect", clients=64)]


# Deflate

WORDS: Final = (
    *("the", "a", "room", "hello", "what", "where", "is", "bun", "python", "meaning", "of", "life", "fast", "server"),
    *("socket", "message", "to", "for", "and", "you", "me", "it", "that", "was", "on", "are", "as", "with", "his"),
    *("they", "at", "be", "this", "from", "have", "or", "by", "one", "had", "not", "but", "all", "were", "when"),
)


def _line(chance: random.Random) -> str:
    return json.dumps({"user": chance.choice(["ann", "bob", "cyd"]), "text": " ".join(chance.choices(WORDS, k=6))})


def _records(size: int, chance: random.Random) -> str:
    records = [
        {
            "id": chance.randrange(1_000_000),
            "user": chance.choice(["ann", "bob", "cyd", "dan"]),
            "at": 1_700_000_000 + chance.randrange(1_000_000),
            "text": " ".join(chance.choices(WORDS, k=8)),
        }
        for _ in range(size // 90)
    ]
    return json.dumps(records)[:size]


TEXTS: Final[Mapping[str, Callable[[random.Random], str]]] = {
    "line": _line,
    "1KB": partial(_records, 1024),
    "200KB": partial(_records, 200 * 1024),
}


def deflate(settings: Settings) -> list[Case]:
    """
    One publisher; all subscribers have agreed on compression, and each message stands for itself.

    No thresholds: every server compresses every message. 32 are in flight (4 of the largest text), so that it is
    compression that is seen, and not the wake-up and the system call for each copy.
    """
    columns = (
        *COPIES,
        Column("cpu_us_per_message", "CPU us/publish", "less", 1),
        Column("bytes_per_copy", "B/copy", "", 0),
        Column("compressed", "compressed %"),
    )
    BUILD.mkdir(exist_ok=True)
    cases = []
    for name, make in TEXTS.items():
        path = BUILD / f"text-{name}"
        path.write_text(make(random.Random(7692)))
        messages = 4 if name == "200KB" else 32
        cases += [
            _closed_case(
                f"deflate, {name}, {messages} in flight to {subscribers:,}",
                "deflate",
                settings,
                columns=columns,
                mode="chat",
                clients=subscribers + 1,
                senders=1,
                messages=messages,
                text=path,
                deflate=True,
            )
            for subscribers in (1, 10, 100, 1_000)
            if subscribers <= settings.at_most(subscribers, 100)
        ]
    return cases


# Latency: an open loop

LATENCY: Final = (
    Column("p99", "p99 us", "less", 1),
    Column("p50", "p50 us", "less", 1),
    Column("p999", "p99.9 us", "less", 1),
    Column("offered", "messages/s offered"),
    Column("capacity", "capacity"),
    Column("cpu_ns_per_copy", "CPU ns/copy", "less"),
    Column("lag", "load's lag p99 us", "", 1),
    Column("server_busy", "server busy %"),
    Column("others", "others %"),
)


def _open(mode: str, rate: float | None, settings: Settings, peer: Peer, cores: Cores) -> Run:
    """At `rate` messages a second; None: at half of what this server just showed that it can do."""
    options = ["--mode", mode, "--clients", "16", "--messages", "1"]
    figures: dict[str, float] = {}
    with servers.running(peer, mode, core=cores.server) as server:
        if rate is None:
            tally, _ = _count(server, options, settings, cores)
            figures["capacity"] = tally.sent / tally.seconds
            rate = figures["capacity"] / 2
        tally, usage = _count(server, [*options, "--rate", f"{rate:.3f}"], settings, cores)
    server_busy, load_busy, others = _shares(usage, tally.cpu_seconds, tally.spun_seconds)
    figures |= {name: percentile(tally.latency, share) / 1e3 for name, share in PERCENTILES.items()}
    figures |= {"offered": rate, "lag": percentile(tally.lag, 0.99) / 1e3}
    figures["cpu_ns_per_copy"] = usage.cpu_seconds / tally.received * 1e9
    return Run(
        figures | _busy_figures(server_busy, load_busy, others),
        lag_flaw(lag=figures["lag"], latency=figures["p99"], others=others),
    )


PERCENTILES: Final = {"p50": 0.5, "p99": 0.99, "p999": 0.999}


def latency(settings: Settings) -> list[Case]:
    """
    16 clients send 32 bytes when it is time to, whatever the server does; a copy's age counts from when it was due.

    "half of its own": half the rate at which this server just answered a closed loop with one message in flight from
    each client. The other rate is the same for all.
    """
    return [
        Case(f"latency, {mode}, {words}", mode, partial(_open, mode, rate, settings), LATENCY)
        for mode, common in (("chat", 1_000), ("echo", 4_000))
        for words, rate in (("half of its own", None), (f"{common:,}/s", float(common)))
    ]


# Memory

# Connections opened and closed before the first reading, so that code and buffers that a server loads for its first
# connection are not counted as the price of one.
FIRST_CONNECTIONS: Final = 100

# Seconds that the open connections rest, whose CPU time is told and after which memory is read: garbage collectors and
# allocators get their chance.
IDLE_SECONDS: Final = 3.0

# Seconds in which that many connections must have been opened and the server must have closed the first ones.
OPEN_SECONDS: Final = 60

# Files that a process holds besides its connections.
OTHER_FILES: Final = 64


def _hold(serve: str, connections: int, rest: float, peer: Peer, cores: Cores) -> Run:
    def holding(count: int) -> list[str]:
        return ["--mode", "idle", "--clients", str(count)]

    limit = OPEN_SECONDS + rest
    with servers.running(peer, serve, core=cores.server) as server:
        with load.running(server.port, holding(FIRST_CONNECTIONS), core=cores.load, seconds=limit) as clients:
            clients.wait_for("OPEN")
            clients.finish()
        time.sleep(min(rest, 1))  # no mark tells when a server has put its closed connections away
        before = machine.resident_bytes(server.pid)
        with load.running(server.port, holding(connections), core=cores.load, seconds=limit) as clients:
            clients.wait_for("OPEN")
            clocks = Clocks(server.pid, cores)
            time.sleep(rest)
            usage = clocks.usage()
            after = machine.resident_bytes(server.pid)
            clients.finish()
    return Run(
        {
            "kib": (after - before) / connections / 1024,
            "before": before / 2**20,
            "after": after / 2**20,
            "idle_cpu": 100 * usage.cpu_seconds / usage.seconds,
        }
    )


def memory(settings: Settings) -> list[Case]:
    """Resident memory of the server process (not what the kernel holds for its sockets) per connection that idles."""
    wanted = settings.at_most(10_000, 500)
    connections = min(wanted, machine.raise_file_limit() - OTHER_FILES)
    note = "" if connections == wanted else "as many as the hard limit on open files allows"
    columns = (
        Column("kib", "KiB/connection", "less", 2),
        Column("before", "before MiB", "", 1),
        Column("after", "after MiB", "", 1),
        Column("idle_cpu", "idle CPU %", "", 1),
    )
    rest = min(IDLE_SECONDS, settings.seconds)
    return [
        Case(f"memory, {connections:,} {state}", serve, partial(_hold, serve, connections, rest), columns, note)
        for state, serve in (("idle", "echo"), ("idle in one topic", "chat"))
    ]


# HTTP

WRK_MISSING: Final = "the load of this workload is wrk, and it is not in PATH (Debian: apt-get install wrk)"


def _wrk(path: str, settings: Settings, peer: Peer, cores: Cores) -> Run:
    wrk = shutil.which("wrk")
    if wrk is None:
        raise BenchmarkError(WRK_MISSING)
    seconds = max(1, round(settings.seconds))  # wrk knows whole ones only
    with servers.running(peer, "http", core=cores.server) as server:
        url = f"http://127.0.0.1:{server.port}{path}"
        _check_answer(server.port, path)
        _run_wrk(wrk, url, max(1, round(settings.warmup)), cores)
        clocks, load_started = Clocks(server.pid, cores), _children_cpu()
        requests, took = _run_wrk(wrk, url, seconds, cores)
        usage, load_cpu = clocks.usage(), _children_cpu() - load_started
    server_busy, load_busy, others = _shares(usage, load_cpu)
    return Run(
        {
            "requests_per_cpu_second": requests / usage.cpu_seconds,
            "requests_per_second": requests / took,
            **_busy_figures(server_busy, load_busy, others),
        },
        flaw(server_busy=server_busy, load_busy=load_busy, others=others),
    )


def _run_wrk(wrk: str, url: str, seconds: int, cores: Cores) -> tuple[int, float]:
    """Requests that were answered, and the seconds that took. Raises BenchmarkError when one was not answered well."""
    command = [wrk, "--threads", "1", "--connections", "64", "--duration", f"{seconds}s", url]
    with pinned(cores.load):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + load.GRACE)
    found = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)", done.stdout)
    if done.returncode != 0 or found is None:
        raise BenchmarkError(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
    wrong = re.search(r"(Non-2xx or 3xx responses|Socket errors).*", done.stdout)
    if wrong:
        raise BenchmarkError(f"wrk saw {wrong[0]}")
    return int(found[1]), float(found[2]) * {"ms": 0.001, "s": 1, "m": 60}[found[3]]


def _children_cpu() -> float:
    """Of those that have ended: between two calls, wrk alone."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _check_answer(port: int, path: str) -> None:
    """wrk counts answers and does not look at them, so one is looked at here."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    body = connection.getresponse().read()
    connection.close()
    if path == "/json":
        right = json.loads(body) == json.loads((SCRIPTS / "answer.json").read_text())
    else:
        right = body == b"Hello, World!"
    if not right:
        raise BenchmarkError(f"a wrong answer: {body[:50]!r}")


def http(settings: Settings) -> list[Case]:
    """wrk with 64 connections that are kept alive; a text, and 1 KB of JSON that is made anew for each answer."""
    columns = (
        Column("requests_per_cpu_second", "requests/CPU s", "more"),
        Column("requests_per_second", "requests/s", "more"),
        *BUSY,
    )
    return [
        Case(f"http, {name}", "http", partial(_wrk, path, settings), columns)
        for name, path in (("Hello, World!", "/"), ("1 KB of JSON", "/json"))
    ]


# Large bodies

PATTERN: Final = bytes(i % 251 for i in range(65536))  # as transfer.c has it


def _file(size: int) -> Path:
    """The file that /file is, made once."""
    path = BUILD / "file"
    if not path.exists() or path.stat().st_size != size:
        BUILD.mkdir(exist_ok=True)
        with path.open("wb") as file:
            for _ in range(size // len(PATTERN)):
                file.write(PATTERN)
    return path


def _transfer(mode: str, size: int, settings: Settings, peer: Peer, cores: Cores) -> Run:
    _file(size)
    with servers.running(peer, "file", core=cores.server) as server:
        before = machine.resident_bytes(server.pid)
        tally, usage = _count(server, ["--mode", mode, "--size", str(size)], settings, cores, "transfer")
        grown = machine.peak_bytes(server.pid) - before
    server_busy, load_busy, others = _shares(usage, tally.cpu_seconds, tally.spun_seconds)
    megabytes = (tally.sent + tally.received) / 1e6
    return Run(
        {
            "mb_per_cpu_second": megabytes / usage.cpu_seconds if usage.cpu_seconds else 0,
            "mb_per_second": megabytes / tally.seconds,
            "grown": grown / 2**20,
            **_busy_figures(server_busy, load_busy, others),
        },
        # One connection: while one side writes the other may rest, so neither need be busy.
        "" if others is None or others <= 0.1 else flaw(server_busy=1, load_busy=0, others=others),
    )


def file(settings: Settings) -> list[Case]:
    """One client moves a large body again and again; memory must stay flat."""
    size = 2**24 if settings.quick else 2**30
    columns = (
        Column("mb_per_cpu_second", "MB/CPU s", "more"),
        Column("mb_per_second", "MB/s", "more"),
        Column("grown", "memory grown, MiB", "less", 1),
        *BUSY,
    )
    return [
        Case(f"{mode}, {size // 2**20:,} MiB", "file", partial(_transfer, mode, size, settings), columns)
        for mode in ("download", "upload")
    ]


# All, in the order of the results page.
WORKLOADS: Final[Mapping[str, Callable[[Settings], list[Case]]]] = {
    "bun-chat": bun_chat,
    "chat": chat,
    "fan-out": fan_out,
    "rooms": rooms,
    "echo": echo,
    "latency": latency,
    "connect": connect,
    "memory": memory,
    "deflate": deflate,
    "http": http,
    "file": file,
}
