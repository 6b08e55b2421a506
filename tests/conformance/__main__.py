"""
Conformance: Autobahn|Testsuite against a bunws echo server, in parts, with one table at the end::

    python -m tests.conformance                      # all 517 cases
    python -m tests.conformance --fast               # about a hundred
    python -m tests.conformance --cases 6.4.*,12.*.1
    python -m tests.conformance --tls                # the fast slice over wss

The report goes to stdout, in Markdown, and progress to stderr. Exit codes: 0 the server conforms, 1 it does not, 2 bad
arguments, 3 there is no Python 2.7, 4 the suite could not be installed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import importlib.metadata
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trustme

from tests.conformance import results, suite
from tests.conformance.results import Result


__all__ = ["main"]

# Where the details go if nothing else is said; each run replaces those of the one before.
REPORTS: Final = suite.HERE / ".reports"

# Cases in one run of the suite, which keeps all that it hears until it ends. It is two sections of 12 or 13, so that a
# part takes a few minutes at most.
PART: Final = 36

# Without a terminal a line of progress is written for each so many cases.
PROGRESS_STEP: Final = 20


class Options(argparse.Namespace):
    """The command line."""

    cases: str | None
    fast: bool
    tls: bool
    reports: Path | None


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance",
        description="Autobahn|Testsuite against a bunws echo server. Without options: all cases.",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--cases", metavar="PATTERN,…", help="only these, such as 6.4.*,12.*.1")
    what.add_argument("--fast", action="store_true", help="about a hundred cases that end within half a minute")
    parser.add_argument("--tls", action="store_true", help="over wss; without --cases it means --fast too")
    parser.add_argument("--reports", metavar="FOLDER", type=Path, help="a new folder for all that the suite tells")
    options = parser.parse_args(namespace=Options())
    try:
        return asyncio.run(_run(options))
    except suite.PythonMissing as error:
        print(error, file=sys.stderr)
        return 3
    except suite.EnvironmentFailed as error:
        print(f"the suite could not be installed: {error}", file=sys.stderr)
        return 4
    except (ValueError, FileExistsError) as error:
        parser.error(str(error))
    except suite.ServerFailed as error:
        print(error, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("\ninterrupted", file=sys.stderr)
        return 130


async def _run(options: Options) -> int:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # as Ctrl-C does

    python = await suite.prepare(suite.find_python27(os.environ))
    every = await suite.list_cases(python)
    if options.cases is not None:
        cases = results.select(every, options.cases.split(","))
    else:
        cases = results.select(every, results.FAST if options.fast or options.tls else ["*"])

    if options.reports is None and REPORTS.exists():
        shutil.rmtree(REPORTS)
    reports = (options.reports or REPORTS).resolve()
    reports.mkdir(parents=True)
    log = reports / "server.log"
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        pem = _certificate(Path(folder)) if options.tls else None
        async with suite.serving(pem, log) as url:
            found = await _run_parts(python, url, cases, reports)
    seconds = round(time.monotonic() - started)
    failures = results.failures(cases, found)
    if complaints := log.read_text(errors="replace").strip():
        failures.append(f"the server complained, at last: {complaints.splitlines()[-1]}")
    _report(f"{len(cases)} cases over {'wss' if options.tls else 'ws'}", seconds, found, failures)
    if failures:
        print(f"not conformant, {len(failures)} times; details are in {reports}", file=sys.stderr)
    return 1 if failures else 0


def _certificate(folder: Path) -> Path:
    pem = folder / "server.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    return pem


async def _run_parts(python: str, url: str, cases: Sequence[str], reports: Path) -> dict[str, Result]:
    """One server hears all of it; the suite is started anew for each part."""
    progress = _Progress(len(cases))
    found: dict[str, Result] = {}
    for start in range(0, len(cases), PART):
        part = cases[start : start + PART]
        folder = reports / f"part-{start // PART + 1:02}"
        found |= await suite.run_cases(python, url, part, folder, progress.begins)
    progress.end()
    return found


class _Progress:
    """Case n of N, on stderr: one line that changes, or on what is no terminal a line now and then."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._begun = 0
        self._is_terminal = sys.stderr.isatty()

    def begins(self, case: str) -> None:
        self._begun += 1
        line = f"case {self._begun} of {self._total}: {case}"
        if self._is_terminal:
            print(f"\r{line:<40}", end="", file=sys.stderr, flush=True)
        elif self._begun % PROGRESS_STEP == 0 or self._begun == self._total:
            print(line, file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._is_terminal:
            print(file=sys.stderr)


def _report(what: str, seconds: int, found: dict[str, Result], failures: Sequence[str]) -> None:
    """Print all that is to be told, as results.md has it."""
    print("# Results\n")
    print(
        f"{what}, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {seconds // 60} min {seconds % 60} s. {_versions()}\n"
    )
    print(results.table(found))
    for title, lines in (("Explained in README.md", results.notes(found)), ("What must not be", failures)):
        if lines:
            print(f"\n## {title}\n")
            print("\n".join(f"* {line}" for line in lines))


def _versions() -> str:
    # A checkout need not be installed.
    ours = tomllib.loads((suite.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    others = [f"{name} {importlib.metadata.version(name)}" for name in ("picows", "zlib-ng", "httptools", "uvloop")]
    python = f"{platform.python_implementation()} {platform.python_version()}"
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return f"{suite.SUITE.replace('==', ' ')}, bunws {ours}, {', '.join(others)}, {python}, {machine}."


if __name__ == "__main__":
    sys.exit(main())
