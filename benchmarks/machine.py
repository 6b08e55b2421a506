"""
The machine: its cores, clocks, memory and limits, and who it is.

Rule 1: what differs between Linux and macOS differs here and nowhere else.
Rule 2: a number about another process is read from the kernel, never asked of that process.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import re
import resource
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = [
    "ROOT",
    "BenchmarkError",
    "Clocks",
    "Cores",
    "Usage",
    "facts",
    "peak_bytes",
    "pinned",
    "raise_file_limit",
    "resident_bytes",
    "slug",
]

ROOT: Final = Path(__file__).resolve().parent.parent
IS_LINUX: Final = sys.platform == "linux"

# Kernel clock ticks a second: the unit of /proc/<pid>/stat and /proc/stat. 100 on every Linux in use, so 10 ms.
TICKS: Final = os.sysconf("SC_CLK_TCK")


class BenchmarkError(Exception):
    """A run that gives no number; its text says why, for a person at a terminal."""


# Cores


@dataclass(frozen=True, slots=True)
class Cores:
    """The core of the server and the core of the load; None: the kernel decides."""

    server: int | None
    load: int | None

    @classmethod
    def pick(cls) -> Cores:
        """The first of our cores for the load, the last for the server; none where there is no pinning or one core."""
        if sys.platform != "linux":
            return cls(None, None)
        available = sorted(os.sched_getaffinity(0))
        if len(available) < 2:
            return cls(None, None)
        return cls(server=available[-1], load=available[0])


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """
    Start processes on one core: what is started inside this block stays there, with all its threads.

    We pin ourselves and let the child inherit it, so no thread of the child is older than its pinning.
    """
    if sys.platform != "linux" or core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# Clocks


@dataclass(frozen=True, slots=True)
class Usage:
    """What passed between two readings of `Clocks`."""

    seconds: float  # on the wall
    cpu_seconds: float  # of the server process, user and system, all threads
    server_core: float | None  # busy share of the server's core, 0 to 1, by whomever; None: not pinned
    load_core: float | None


class Clocks:
    """The clocks of one server process and of the two cores, read twice."""

    def __init__(self, pid: int, cores: Cores) -> None:
        self._pid = pid
        self._cores = cores
        self._started = self._read()

    def usage(self) -> Usage:
        """What passed since the clocks were made."""
        now, then = self._read(), self._started
        seconds = now.seconds - then.seconds
        return Usage(
            seconds=seconds,
            cpu_seconds=now.cpu - then.cpu,
            server_core=_share(now.server_core, then.server_core, seconds),
            load_core=_share(now.load_core, then.load_core, seconds),
        )

    def _read(self) -> _Reading:
        return _Reading(
            seconds=time.monotonic(),
            cpu=_cpu_seconds(self._pid),
            server_core=_core_busy_seconds(self._cores.server),
            load_core=_core_busy_seconds(self._cores.load),
        )


@dataclass(frozen=True, slots=True)
class _Reading:
    seconds: float
    cpu: float
    server_core: float | None
    load_core: float | None


def _share(now: float | None, then: float | None, seconds: float) -> float | None:
    if now is None or then is None:
        return None
    return min(1.0, (now - then) / seconds)


def _cpu_seconds(pid: int) -> float:
    """User and system time of the process over all its threads, dead ones too. 10 ms steps."""
    if not IS_LINUX:
        return _seconds_of_ps(_ps(pid, "time"))
    # proc_pid_stat(5): field 2 is a name in parentheses that may hold blanks; 14 and 15 are utime and stime.
    fields = _proc(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _core_busy_seconds(core: int | None) -> float | None:
    """Seconds that this core has worked since the machine started, whoever made it work."""
    if core is None:
        return None
    line = re.search(rf"^cpu{core} (.+)$", Path("/proc/stat").read_text(), re.MULTILINE)
    if line is None:
        return None
    # proc_stat(5): user nice system idle iowait irq softirq steal; the last is work of another virtual machine.
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line[1].split()[:8])
    return (user + nice + system + irq + softirq + steal) / TICKS


def _proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        raise BenchmarkError("the server has ended") from None


def _ps(pid: int, field: str) -> str:
    done = subprocess.run(["ps", "-o", f"{field}=", "-p", str(pid)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchmarkError("the server has ended")
    return done.stdout.strip()


def _seconds_of_ps(text: str) -> float:
    """ps(1) on macOS and the BSDs: [[days-]hours:]minutes:seconds.hundredths."""
    days, _, clock = text.rpartition("-")
    seconds = 0.0
    for part in clock.split(":"):
        seconds = seconds * 60 + float(part)
    return int(days or 0) * 86_400 + seconds


# Memory and limits


def resident_bytes(pid: int) -> int:
    """Resident memory of the process: VmRSS, as proc_pid_status(5) has it, or ps(1)'s `rss`."""
    return _status_bytes(pid, "VmRSS")


def peak_bytes(pid: int) -> int:
    """The most that the process ever had: VmHWM. Where there is none (not Linux), what it has now."""
    return _status_bytes(pid, "VmHWM")


def _status_bytes(pid: int, field: str) -> int:
    if not IS_LINUX:
        return int(_ps(pid, "rss")) * 1024
    line = re.search(rf"^{field}:\s+(\d+) kB$", _proc(pid, "status"), re.MULTILINE)
    if line is None:
        raise BenchmarkError("the server has ended")  # but was not waited for: it is there, and has no memory
    return int(line[1]) * 1024


def raise_file_limit() -> int:
    """
    Raise our own soft limit on open files to the hard one; every process we start inherits it.

    Returns the limit that now holds.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS reports an infinite hard limit and refuses more than this.
    ceiling = hard if hard != resource.RLIM_INFINITY else 1_048_576 if IS_LINUX else 10_240
    if soft < ceiling:
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))
    return max(soft, ceiling)


# Who it is


def facts(python: str) -> dict[str, str]:
    """
    What a number needs beside it to mean anything: machine, kernel, Python, commit, command, date.

    `python` is the interpreter of the servers written in Python.
    """
    return {
        "machine": f"{_cpu_model()}, {os.cpu_count()} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": _python_version(python),
        "commit": _commit(),
        "command": shlex.join(["python", "-m", "benchmarks", *_without_paths(sys.argv[1:])]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def slug() -> str:
    """The machine as a part of a file's name; says nothing of who owns it."""
    words = re.sub(r"\((R|TM|C)\)|\b(CPU|Processor)\b|@.*", " ", _cpu_model(), flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]+", "-", f"{words} {os.cpu_count()} cores".lower()).strip("-")


def _without_paths(arguments: list[str]) -> list[str]:
    return [argument.rpartition("/")[2] or argument for argument in arguments]


def _cpu_model() -> str:
    if not IS_LINUX:
        done = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False)
        return done.stdout.strip() or platform.machine()
    line = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return line[1] if line else platform.machine()


def _python_version(python: str) -> str:
    question = "import platform as p; print(p.python_implementation(), p.python_version())"
    done = subprocess.run([python, "-c", question], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _commit() -> str:
    head = _git("rev-parse", "--short", "HEAD")
    if head is None:
        return "none"
    return f"{head}, with changes" if _git("status", "--porcelain") else head


def _git(*arguments: str) -> str | None:
    """What git prints, or None: not a repository, no commit yet, or no git."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
