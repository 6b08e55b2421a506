"""
The load: load.c, compiled on first need and driven over its marks.

Rule 1: this room knows load.c's words (options, OPEN, START, END, the last line) and nothing of servers.
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


__all__ = ["Load", "Tally", "running"]

SOURCE: Final = ROOT / "benchmarks" / "load.c"
BUILD: Final = ROOT / "benchmarks" / ".build"

# Seconds beyond what a run is asked for, in which it must open, warm up and finish its last round.
GRACE: Final = 30


@dataclass(frozen=True, slots=True)
class Tally:
    """What the load counted between START and END."""

    clients: int
    rounds: int
    sent: int  # messages
    received: int  # copies, over all clients
    compressed: int  # of those, the ones that came compressed
    bytes: int  # read from the sockets, frame headers included
    seconds: float
    cpu_seconds: float  # of the load itself


class Load:
    """A running load.c."""

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
        # load.c bounds itself in time (--timeout), so this returns: a line, or nothing when it has ended.
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextlib.contextmanager
def running(port: int, arguments: Sequence[str], *, core: int | None, seconds: float) -> Iterator[Load]:
    """
    Run load.c against `port` inside this block; `seconds` is what the whole run should take at most, without grace.

    Raises BenchmarkError when there is no compiler.
    """
    program = _compiled()
    command = [str(program), "--port", str(port), "--timeout", str(int(seconds) + GRACE), "--marks"]
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


def _compiled() -> Path:
    """The compiled load.c, newer than its source."""
    program = BUILD / "load"
    if program.exists() and program.stat().st_mtime > SOURCE.stat().st_mtime:
        return program
    compiler = shutil.which("cc")
    if compiler is None:
        raise BenchmarkError("the load generator is C and needs a compiler: there is no `cc` in PATH")
    BUILD.mkdir(exist_ok=True)
    fresh = BUILD / f"load.{os.getpid()}"  # renamed at the end, so two runs at once cannot meet half a file
    command = [compiler, "-O2", "-o", str(fresh), str(SOURCE)]
    # Where zlib's headers are missing, only --deflate is; the load says so itself.
    for more in (["-DDEFLATE", "-lz"], []):
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            break
    else:
        raise BenchmarkError(f"{compiler} cannot compile {SOURCE.name}:\n{done.stderr}")
    fresh.replace(program)
    return program
