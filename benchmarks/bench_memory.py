"""
Memory: what does an open connection cost the server that does nothing?

Resident memory before and after N connections, and the CPU time of a few idle seconds::

    python -m benchmarks.bench_memory [--connections 10000] [--peers bunws,bun,ws] [--repeat 1]
                                      [--subscribed] [--python PATH]
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks import harness, load, machine, report, servers
from benchmarks.machine import BenchmarkError, Clocks, Cores


if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from benchmarks.load import Load
    from benchmarks.servers import Peer


__all__ = ["main"]

# Connections opened and closed before the first reading, so that code and buffers that a server loads for its first
# connection are not counted as the price of one.
FIRST_CONNECTIONS: Final = 100

# Seconds that the open connections rest, whose CPU time is told and after which memory is read: garbage collectors and
# allocators get their chance.
IDLE_SECONDS: Final = 3

# Seconds in which that many connections must have been opened and the server must have closed the first ones.
OPEN_SECONDS: Final = 60

# Files that a process holds besides its connections.
OTHER_FILES: Final = 64


@dataclass(frozen=True, slots=True)
class Footprint:
    """One server before and after its idle connections."""

    before: int  # bytes
    after: int  # bytes
    connections: int
    idle_cpu: float  # share of a core

    @property
    def per_connection(self) -> float:
        """Bytes."""
        return (self.after - self.before) / self.connections


def main() -> None:
    parser = harness.argument_parser("Memory of an idle connection.", repeat=1)
    parser.add_argument("--connections", type=harness.positive, default=10_000, help="held open")
    parser.add_argument("--subscribed", action="store_true", help="each connection is in one topic")
    options = parser.parse_args()

    connections = _allowed(options.connections)
    peers = harness.find_peers(options.peers, options.python)
    serve = "chat" if options.subscribed else "echo"
    cores = Cores.pick()
    footprints: dict[str, list[Footprint]] = {peer.name: [] for peer in peers}
    failures = []
    for turn in range(options.repeat):
        for peer in peers:
            try:
                footprint = _measure(peer, serve, connections, cores)
            except BenchmarkError as error:
                failures.append(peer.name)
                harness.progress(f"{peer.name}: {error}")
                continue
            footprints[peer.name].append(footprint)
            harness.progress(
                f"turn {turn + 1} of {options.repeat}, {peer.name}: "
                f"{footprint.per_connection / 1024:.1f} KiB a connection"
            )

    heading = ["peer", "version", "before MiB", "after MiB", "KiB/connection", "idle CPU"]
    rows = [_row(peer, footprints[peer.name]) for peer in peers if footprints[peer.name]]
    print(machine.description(options.python))
    state = "idle, in one topic" if options.subscribed else "idle"
    print(f"\nmemory: {connections:,} connections, {state}, median of {options.repeat}")
    print(report.table(heading, rows))
    print(
        "MiB, KiB: resident memory of the server process (not what the kernel holds for its sockets) · "
        f"idle CPU: share of a core over {IDLE_SECONDS} s"
    )
    if failures:
        raise BenchmarkError("not measured: " + ", ".join(failures))


def _allowed(connections: int) -> int:
    """As many connections as the limit on open files lets both sides have; says so when these are fewer."""
    limit = machine.raise_file_limit()
    allowed = limit - OTHER_FILES
    if connections <= allowed:
        return connections
    harness.progress(f"only {allowed:,} of {connections:,} connections: the hard limit on open files is {limit:,}")
    return allowed


def _measure(peer: Peer, serve: str, connections: int, cores: Cores) -> Footprint:
    with servers.running(peer, serve, core=cores.server) as server:
        with _holding(server.port, FIRST_CONNECTIONS, cores) as clients:
            clients.wait_for("OPEN")
            clients.finish()
        time.sleep(1)  # no mark tells when a server has put its closed connections away
        before = machine.resident_bytes(server.pid)
        with _holding(server.port, connections, cores) as clients:
            clients.wait_for("OPEN")
            clocks = Clocks(server.pid, cores)
            time.sleep(IDLE_SECONDS)
            usage = clocks.usage()
            after = machine.resident_bytes(server.pid)
            clients.finish()
    return Footprint(before, after, connections, usage.cpu_seconds / usage.seconds)


def _holding(port: int, connections: int, cores: Cores) -> AbstractContextManager[Load]:
    options = ["--mode", "idle", "--clients", str(connections)]
    return load.running(port, options, core=cores.load, seconds=OPEN_SECONDS + IDLE_SECONDS)


def _row(peer: Peer, footprints: list[Footprint]) -> list[str]:
    return [
        peer.name,
        peer.version,
        f"{statistics.median(one.before for one in footprints) / 2**20:.1f}",
        f"{statistics.median(one.after for one in footprints) / 2**20:.1f}",
        f"{statistics.median(one.per_connection for one in footprints) / 1024:.2f}",
        f"{statistics.median(one.idle_cpu for one in footprints):.1%}",
    ]


if __name__ == "__main__":
    harness.run_benchmark(main)
