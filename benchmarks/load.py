"""
The load: the programs of native/, compiled on first need, and driven over their marks.

Rule 1: this room knows the words of load.c (options, OPEN, START, END, the last line) and nothing of servers.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.machine import ROOT, BenchmarkError, pinned


if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


__all__ = ["Load", "Tally", "compiled", "running"]

SOURCES: Final = ROOT / "benchmarks" / "native"
BUILD: Final = ROOT / "benchmarks" / ".build"

# Seconds beyond what a run is asked for, in which it must open, warm up and finish its last round.
GRACE: Final = 60


@dataclass(frozen=True, slots=True)
class Tally:
    """What the load counted between START and END."""

    clients: int
    rounds: int
    sent: int  # messages; connections; of an upload, bytes
    received: int  # copies, over all clients; connections; of a download, bytes
    compressed: int  # of those, the ones that came compressed
    bytes: int  # read from the sockets, frame headers included
    seconds: float
    cpu_seconds: float  # of the load itself
    spun_seconds: float = 0  # of those, the ones in which it looked for copies and there were none
    latency: Sequence[tuple[float, int]] = ()  # (nanoseconds, copies), since a message was due; open loops only
    lag: Sequence[tuple[float, int]] = ()  # (nanoseconds, messages): how late the load sent them


class Load:
    """A running load."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def wait_for(self, word: str) -> None:
        """Wait for a line that begins with `word`. Raises BenchmarkError when the load says anything else."""
        line = self._line()
        if not line.startswith(word):
            raise BenchmarkError(_complaint(line))

    def go_on(self) -> None:
        """Let the load go on from the mark where it waits. Raises BenchmarkError when it has ended there."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise BenchmarkError(_complaint(self._line())) from None

    def finish(self) -> Tally:
        """Wait for the last line. Raises BenchmarkError when anything was lost, doubled, reordered or corrupt."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        line = self._line()
        facts = json.loads(line) if line.startswith("{") else {"errors": 1}
        if facts.pop("errors"):
            raise BenchmarkError(_complaint(line))
        self._process.wait()
        return Tally(**facts)

    def _line(self) -> str:
        # The load bounds itself in time (--timeout), so this returns: a line, or nothing when it has ended.
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextlib.contextmanager
def running(
    port: int, arguments: Sequence[str], *, core: int | None, seconds: float, program: str = "load"
) -> Iterator[Load]:
    """
    Run a program of native/ against `port` inside this block; `seconds` is what the whole should take, without grace.

    Raises BenchmarkError when there is no compiler.
    """
    command = [str(compiled(program)), "--port", str(port), "--timeout", str(int(seconds) + GRACE), "--marks"]
    with pinned(core):
        process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it says the same on stdout
            text=True,
            start_new_session=True,  # Ctrl-C is for us; we end it below, by its pid
        )
    try:
        yield Load(process)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _complaint(line: str) -> str:
    if not line.startswith("{"):
        return f"the load ended early: {line or 'it said nothing'}"
    return f"the load found an error: {json.loads(line).get('error', line)}"


def compiled(name: str) -> Path:
    """The program of native/`name`.c, newer than all sources. Raises BenchmarkError when it cannot be compiled."""
    program = BUILD / name
    newest = max(source.stat().st_mtime for source in SOURCES.iterdir())
    if program.exists() and program.stat().st_mtime > newest:
        return program
    compiler = shutil.which("cc")
    if compiler is None:
        raise BenchmarkError("it is written in C and needs a compiler: there is no `cc` in PATH")
    BUILD.mkdir(exist_ok=True)
    fresh = BUILD / f"{name}.{os.getpid()}"  # renamed at the end, so two runs at once cannot meet half a file
    command = [compiler, "-O3", "-D_GNU_SOURCE", "-o", str(fresh), str(SOURCES / f"{name}.c")]
    # Where zlib's headers are missing, only --deflate is; the load says so itself.
    for more in (["-DDEFLATE", "-lz"], []):
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            break
    else:
        raise BenchmarkError(f"{name}.c does not compile:\n{done.stderr}")
    fresh.replace(program)
    return program
