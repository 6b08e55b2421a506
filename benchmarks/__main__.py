"""
The command line.

    python -m benchmarks [NAME...] [--peers bun,ws,...] [--quick] [--repeat N] [--seconds S] ...
    python -m benchmarks readme benchmarks/results/PAGE.md
    python -m benchmarks micro [--save | --compare]
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from pathlib import Path
from typing import NoReturn

from benchmarks import machine, micro, readme, results, runner
from benchmarks.load import BUILD
from benchmarks.machine import ROOT, BenchmarkError
from benchmarks.servers import PEERS
from benchmarks.workloads import WORKLOADS, Settings


__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Do what the arguments say; returns the exit code."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command == "readme":
        return _readme(rest)
    if command == "micro":
        return micro.main(rest)
    return _run(arguments)


def _run(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    settings = Settings(seconds=2.0, warmup=1.0)
    if options.quick:
        settings = Settings(seconds=0.2, warmup=0.1, quick=True)
    if options.seconds is not None:
        settings = Settings(options.seconds, min(settings.warmup, options.seconds), options.quick)
    task = runner.Task(
        workloads=options.workloads or list(WORKLOADS),
        peers=options.peers,
        python=options.python,
        settings=settings,
        repeat=options.repeat or (1 if options.quick else 3),
    )
    folder: Path = options.output or (BUILD / "results" if options.quick else ROOT / "benchmarks" / "results")
    folder.mkdir(parents=True, exist_ok=True)
    page = results.free_path(folder, f"{machine.facts(task.python)['date']}-{machine.slug()}")
    try:
        runner.run(task, page)
    finally:
        if page.exists():
            print(page)
    return 0


def _readme(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks readme", description=readme.update.__doc__)
    parser.add_argument("page", type=Path, help="a results page, such as benchmarks/results/….md")
    parser.add_argument("--into", type=Path, default=ROOT / "README.md", help="the file with the markers")
    options = parser.parse_args(arguments)
    readme.update(options.into, options.page)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="workloads:\n" + "\n".join(f"  {name:9} {_first_line(make)}" for name, make in WORKLOADS.items()),
    )
    parser.add_argument("workloads", nargs="*", type=_workload, metavar="NAME", help="a workload; default all")
    parser.add_argument("--peers", type=_names, default=",".join(PEERS), help=f"of {', '.join(PEERS)}, by commas")
    parser.add_argument("--quick", action="store_true", help="0.2 s, smaller, once: to see that it runs")
    parser.add_argument("--repeat", type=_positive, help="runs of each, of which the median counts (3)")
    parser.add_argument("--seconds", type=_seconds, help="counted seconds of a run (2)")
    parser.add_argument("--python", type=_program, default=sys.executable, help="the interpreter of the Python servers")
    parser.add_argument("--output", type=Path, help="the folder for the page (benchmarks/results)")
    return parser


def _first_line(make: object) -> str:
    return (make.__doc__ or "").strip().splitlines()[0]


def _workload(text: str) -> str:
    if text not in WORKLOADS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(WORKLOADS)}")
    return text


def _names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(PEERS)}")
    return names


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError("must be more than 0, and at most 3600")
    return value


def _program(text: str) -> str:
    found = shutil.which(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"there is no program {text!r}")
    return found


def _exit(signal_number: int, _frame: object) -> NoReturn:
    sys.exit(128 + signal_number)


if __name__ == "__main__":
    # Whatever ends it, an error, Ctrl-C or SIGTERM, passes through the blocks that stop the servers.
    signal.signal(signal.SIGTERM, _exit)
    try:
        sys.exit(main(sys.argv[1:]))
    except BenchmarkError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
