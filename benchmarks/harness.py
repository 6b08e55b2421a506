"""
The harness: one measurement, repeats of it, and the command line that all benchmarks share.

Rule 1: a new benchmark is a list of `Workload`s and a table. Nothing here knows what chat or echo is.
Rule 2: peers take turns (A B C A B C, not A A B B C C), each time with a fresh server, so that a machine that grows
        warm or busy is no peer's luck. A row is the median of its runs.
Rule 3: a run in which the load was the bottleneck is not ranked: it measured the load. Nor is one in which others took
        their share of a core: it measured them.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import statistics
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

from benchmarks import load, servers
from benchmarks.machine import BenchmarkError, Clocks, Cores, Usage


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from benchmarks.load import Tally
    from benchmarks.servers import Peer


__all__ = [
    "Row",
    "Run",
    "Workload",
    "argument_parser",
    "compare",
    "find_peers",
    "measure",
    "progress",
    "run_benchmark",
]

# Share of a core from which on it counts as the bottleneck.
BUSY: Final = 0.9

# Share of either core from which on work of others disturbs a run.
DISTURBED: Final = 0.1


@dataclass(frozen=True, slots=True)
class Workload:
    """What the load does and what the server is asked to do with it."""

    title: str  # the heading of its table
    serve: str  # the argument of the server scripts
    load: tuple[str, ...]  # options of load.c
    seconds: float  # counted
    warmup: float = 1.0  # seconds before the counted ones: JIT compilers need them


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement of one server."""

    tally: Tally
    usage: Usage

    @property
    def copies_per_second(self) -> float:
        return self.tally.received / self.tally.seconds

    @property
    def cpu_ns_per_copy(self) -> float:
        """Server CPU time, user and system, per delivered copy, in nanoseconds."""
        return self.usage.cpu_seconds / self.tally.received * 1e9

    @property
    def cpu_us_per_message(self) -> float:
        """Server CPU time per message that was sent to it, whatever it became, in microseconds."""
        return self.usage.cpu_seconds / self.tally.sent * 1e6

    @property
    def bytes_per_copy(self) -> float:
        """Bytes on the wire, frame headers included."""
        return self.tally.bytes / self.tally.received

    @property
    def compressed_share(self) -> float:
        """Of the copies, those that came compressed: 0 to 1."""
        return self.tally.compressed / self.tally.received

    @property
    def load_cpu_ns_per_copy(self) -> float:
        return self.tally.cpu_seconds / self.tally.received * 1e9

    @property
    def server_busy(self) -> float:
        """The busy share of the server's core; where it has no core of its own, of the server."""
        core = self.usage.server_core
        return self.usage.cpu_seconds / self.usage.seconds if core is None else core

    @property
    def load_busy(self) -> float:
        core = self.usage.load_core
        return self.tally.cpu_seconds / self.tally.seconds if core is None else core

    @property
    def others(self) -> float | None:
        """The share of a core, the worse of the two, that neither server nor load took; None: they are not pinned."""
        if self.usage.server_core is None or self.usage.load_core is None:
            return None
        return max(
            0.0,
            self.usage.server_core - self.usage.cpu_seconds / self.usage.seconds,
            self.usage.load_core - self.tally.cpu_seconds / self.tally.seconds,
        )

    @property
    def is_ranked(self) -> bool:
        is_load_bound = self.server_busy < BUSY and self.load_busy > BUSY
        is_disturbed = self.others is not None and self.others > DISTURBED
        return not is_load_bound and not is_disturbed


@dataclass(frozen=True, slots=True)
class Row:
    """A peer's runs of one workload."""

    peer: Peer
    runs: list[Run]

    @property
    def ranked(self) -> list[Run]:
        return [run for run in self.runs if run.is_ranked]

    def median(self, value: Callable[[Run], float]) -> float:
        """The median over the ranked runs; over all of them where none is ranked."""
        return statistics.median(value(run) for run in self.ranked or self.runs)


# Measuring


def measure(peer: Peer, workload: Workload, cores: Cores) -> Run:
    """
    Start a server and the load, warm up, and count.

    The server's clocks are read while both sides rest: before the first counted round and after the last copy.
    """
    options = [*workload.load, "--warmup", str(workload.warmup), "--seconds", str(workload.seconds)]
    limit = workload.warmup + workload.seconds
    with (
        servers.running(peer, workload.serve, core=cores.server) as server,
        load.running(server.port, options, core=cores.load, seconds=limit) as clients,
    ):
        clients.wait_for("OPEN")
        clients.wait_for("START")
        clocks = Clocks(server.pid, cores)
        clients.go_on()
        clients.wait_for("END")
        usage = clocks.usage()
        clients.go_on()
        return Run(clients.finish(), usage)


def compare(
    peers: Sequence[Peer], workloads: Sequence[Workload], *, repeat: int
) -> Iterator[tuple[Workload, list[Row]]]:
    """
    Every workload with every peer, `repeat` times, the peers taking turns; each workload as soon as it is done.

    A peer that fails a workload has no row in it; BenchmarkError says so when all workloads are done.
    """
    cores = Cores.pick()
    if cores.server is None:
        progress("server and load are not pinned: this system does not pin, or there is one core")
    failures = []
    for workload in workloads:
        rows = {peer.name: Row(peer, []) for peer in peers}
        for turn in range(repeat):
            for peer in [row.peer for row in rows.values()]:
                try:
                    run = measure(peer, workload, cores)
                except BenchmarkError as error:
                    failures.append(f"{peer.name} in {workload.title}")
                    progress(f"{failures[-1]}: {error}")
                    del rows[peer.name]
                    continue
                rows[peer.name].runs.append(run)
                progress(
                    f"{workload.title}, turn {turn + 1} of {repeat}, {peer.name}: "
                    f"{run.copies_per_second:,.0f} copies/s, {run.cpu_ns_per_copy:,.0f} ns"
                )
        if rows:
            yield workload, list(rows.values())
    if failures:
        raise BenchmarkError("not measured: " + ", ".join(failures))


def progress(words: str) -> None:
    """Tell the person who waits; the tables alone go to stdout."""
    print(words, file=sys.stderr, flush=True)


# The command line


def argument_parser(description: str, *, repeat: int) -> argparse.ArgumentParser:
    """A parser with what every benchmark asks: --peers, --repeat, --python."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--peers", type=_peer_names, default=",".join(servers.PEERS), help="who runs, by commas")
    parser.add_argument("--repeat", type=positive, default=repeat, help="runs of each; the table has the medians")
    parser.add_argument(
        "--python", type=_program, default=sys.executable, help="the interpreter of the servers written in Python"
    )
    return parser


def positive(text: str) -> int:
    """An argparse type: a whole number from 1 up."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _peer_names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in servers.PEERS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(servers.PEERS)}")
    return names


def _program(text: str) -> str:
    found = shutil.which(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"there is no program {text!r}")
    return found


def find_peers(names: Iterable[str], python: str) -> list[Peer]:
    """The peers that can be had here. Names the others on stderr. Raises BenchmarkError when none is left."""
    peers = []
    for name in names:
        try:
            peers.append(servers.find(name, python))
        except BenchmarkError as error:
            progress(f"{name} is left out: {error}")
    if not peers:
        raise BenchmarkError("no peer is left to measure")
    return peers


def run_benchmark(main: Callable[[], None]) -> NoReturn:
    """
    Run a benchmark's `main` as a program.

    Whatever ends it, an error, Ctrl-C or SIGTERM, passes through the blocks that stop the servers.
    """
    signal.signal(signal.SIGTERM, _exit)
    try:
        main()
    except BenchmarkError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _exit(signal_number: int, _frame: object) -> NoReturn:
    sys.exit(128 + signal_number)
