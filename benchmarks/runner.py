"""
The runner: every case with every peer, in turn, and a page of results.

Rule 1: peers take turns (A B C A B C, not A A B B C C), each time with a fresh server, so that a machine that grows
        warm or busy is no peer's luck.
Rule 2: a peer that fails a case is out of that case, with the reason on the page; the others go on.
Rule 3: the page is written after every case, so what was measured stays, whatever ends the run.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from benchmarks import install, machine, plots, results, servers
from benchmarks.machine import BenchmarkError, Cores
from benchmarks.results import Results, Table
from benchmarks.runs import Row
from benchmarks.workloads import WORKLOADS


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from typing import TextIO

    from benchmarks.servers import Peer
    from benchmarks.workloads import Case, Settings


__all__ = ["Progress", "Task", "find_peers", "run"]


@dataclass(frozen=True, slots=True)
class Task:
    """What a command asked for."""

    workloads: Sequence[str]
    peers: Sequence[str]
    python: str  # the interpreter of the servers written in Python
    settings: Settings
    repeat: int


def run(task: Task, page: Path) -> Results:
    """
    Measure, and write `page` and what belongs to it.

    Raises BenchmarkError when nothing could be measured.
    """
    machine.raise_file_limit()
    cores = Cores.pick()
    peers, missing = find_peers(task.peers, task.python)
    found = Results({**machine.facts(task.python), **_how(task, cores)}, missing=missing)
    cases = [(name, case) for name in task.workloads for case in WORKLOADS[name](task.settings)]
    progress = Progress(sum(_takers(case, peers) for _, case in cases) * task.repeat, sys.stderr)
    try:
        for workload, case in cases:
            if not _takers(case, peers):
                continue
            rows = _measure(case, peers, cores, task.repeat, progress)
            found.tables.append(Table(workload, case.title, case.columns, rows, case.note))
            results.write(page, found, ())
    finally:
        progress.close()
        if found.tables:
            folder = results.record_of(page).parent
            drawn = plots.plot(found, folder)
            results.write(page, found, [f"{folder.name}/{path.name}" for path in drawn])
    if not any(row.runs for table in found.tables for row in table.rows):
        raise BenchmarkError(
            "nothing could be measured"
            + "".join(f"; {row.peer}: {row.failure}" for table in found.tables for row in table.rows)
        )
    return found


def _how(task: Task, cores: Cores) -> dict[str, str]:
    pinning = "not pinned" if cores.server is None else f"server on core {cores.server}, load on core {cores.load}"
    quick = "; --quick: these numbers mean little" if task.settings.quick else ""
    return {
        "cores": pinning,
        "runs": f"{task.repeat}, {task.settings.warmup:g} s of warm-up, {task.settings.seconds:g} s counted{quick}",
    }


def find_peers(names: Iterable[str], python: str) -> tuple[list[Peer], dict[str, str]]:
    """The peers that can be had here; the others, with the reason. Raises BenchmarkError when none is left."""
    peers, missing = [], {}
    for name in names:
        try:
            peers.append(servers.find(name, python))
        except BenchmarkError as error:
            missing[name] = install.without_places(str(error))
            print(f"{name} is left out: {error}", file=sys.stderr, flush=True)
    if not peers:
        raise BenchmarkError("no peer is left to measure")
    return peers, missing


def _takers(case: Case, peers: Iterable[Peer]) -> int:
    return sum(_takes(peer, case) for peer in peers)


def _takes(peer: Peer, case: Case) -> bool:
    # The floor shakes hands and writes; how it holds connections and ends them is nobody's floor.
    understands = peer.name != "floor" or case.title.startswith(("chat", "fan-out", "echo"))
    return case.serve in servers.SERVES[peer.name] and understands


def _measure(case: Case, peers: Sequence[Peer], cores: Cores, repeat: int, progress: Progress) -> list[Row]:
    rows = {peer.name: Row(peer.name, peer.version) for peer in peers if _takes(peer, case)}
    for turn in range(repeat):
        for peer in peers:
            row = rows.get(peer.name)
            if row is None:
                continue
            if row.failure:
                progress.step()
                continue
            progress.show(f"{case.title} · {peer.name} · {turn + 1} of {repeat}")
            try:
                one = case.measure(peer, cores)
            except BenchmarkError as error:
                rows[peer.name] = replace(row, failure=install.without_places(str(error)))
                progress.say(f"{case.title}: {peer.name} failed: {error}")
            else:
                rows[peer.name] = replace(row, runs=[*row.runs, one])
            progress.step()
    for row in rows.values():
        value = row.median(case.columns[0].key)
        if value is not None:
            marked = "" if row.ranked else f"  (not ranked: {row.runs[-1].flaw})"
            progress.say(f"{case.title}: {row.peer} {case.columns[0].show(value)} {case.columns[0].heading}{marked}")
    return list(rows.values())


class Progress:
    """A bar on a terminal; elsewhere, what is said alone."""

    WIDTH: Final = 24

    def __init__(self, total: int, stream: TextIO) -> None:
        self._total = total
        self._stream = stream
        self._done = 0
        self._started = time.monotonic()
        self._bar = ""
        self._draws = stream.isatty()

    def show(self, words: str) -> None:
        """Say what is being done now."""
        filled = self.WIDTH * self._done // max(1, self._total)
        bar = f"[{'#' * filled}{'.' * (self.WIDTH - filled)}] {self._done}/{self._total} {self._left()}{words}"
        self._draw(bar[:118])

    def step(self) -> None:
        """One run is done."""
        self._done += 1

    def say(self, words: str) -> None:
        """A line that stays."""
        bar = self._bar
        self._draw("")
        print(words, file=self._stream, flush=True)
        self._draw(bar)

    def close(self) -> None:
        self._draw("")

    def _left(self) -> str:
        if not self._done:
            return ""
        seconds = (time.monotonic() - self._started) / self._done * (self._total - self._done)
        return f"{seconds / 60:.0f} min left · " if seconds >= 60 else f"{seconds:.0f} s left · "

    def _draw(self, bar: str) -> None:
        if self._draws:
            self._stream.write("\r" + bar.ljust(len(self._bar)) + ("\r" if not bar else ""))
            self._stream.flush()
        self._bar = bar
