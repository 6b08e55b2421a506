"""
Micro: the hot rooms alone, and a baseline to compare them with.

Rule 1: the benchmarks are pytest-benchmark's, in test_micro_rooms.py; this room runs them, keeps their medians in
        baseline.json, and compares.
Rule 2: machines differ, so every time is divided by that of a fixed piece of plain Python, the `yardstick`, which is
        measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import ROOT, BenchmarkError


__all__ = ["YARDSTICK", "compare", "main"]

BASELINE: Final = ROOT / "benchmarks" / "baseline.json"
ROOMS: Final = ROOT / "benchmarks" / "test_micro_rooms.py"

YARDSTICK: Final = "test_yardstick"

# How many times slower than the baseline, measured in yardsticks, is too slow. Runs of one commit differ by some 20 %.
TOO_SLOW: Final = 1.5


def main(arguments: list[str]) -> int:
    """
    Run, and save or compare where that is asked for; returns the exit code: 1 when a room became too slow.

    Raises BenchmarkError when they do not run, or there is no baseline.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks micro", description=__doc__)
    parser.add_argument("--save", action="store_true", help=f"make this the baseline ({BASELINE.name})")
    parser.add_argument("--compare", action="store_true", help=f"fail where one is {TOO_SLOW} times slower than that")
    options = parser.parse_args(arguments)
    medians = _run()
    if options.save:
        BASELINE.write_text(json.dumps(medians, indent=1, sort_keys=True) + "\n")
        print(f"{len(medians)} medians are the baseline now")
    if not options.compare:
        return 0
    if not BASELINE.exists():
        raise BenchmarkError("there is no baseline: save one first (--save)")
    lines, slow = compare(json.loads(BASELINE.read_text()), medians)
    print("\n".join(lines))
    if slow:
        print(f"{TOO_SLOW} times slower than the baseline, or worse: {', '.join(slow)}")
    return 1 if slow else 0


def compare(before: Mapping[str, float], now: Mapping[str, float]) -> tuple[list[str], list[str]]:
    """
    A table of both (microseconds), and the names of those that became too slow.

    The last column is `now` over `before`, each in yardsticks of its own run. What is on one side only is named.
    """
    lines = [f"{'':48} {'baseline':>12} {'now':>12} {'now/baseline':>13}"]
    slow = []
    for name in sorted(before.keys() | now.keys()):
        one, two = before.get(name), now.get(name)
        if one is None or two is None:
            lines.append(f"{name:48} {'new' if one is None else 'gone':>12}")
            continue
        change = (two / now[YARDSTICK]) / (one / before[YARDSTICK])
        if change > TOO_SLOW:
            slow.append(name)
        lines.append(f"{name:48} {one * 1e6:12,.2f} {two * 1e6:12,.2f} {change:13.2f}")
    return lines, slow


def _run() -> dict[str, float]:
    """The median seconds of each."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "micro.json"
        command = [sys.executable, "-m", "pytest", str(ROOMS), "-p", "no:randomly", "-q", f"--benchmark-json={record}"]
        command += ["--benchmark-enable", "--benchmark-only", "--benchmark-disable-gc", "--benchmark-warmup=on"]
        command += ["--benchmark-columns=median,iqr,rounds", "--benchmark-sort=name"]
        done = subprocess.run(command, cwd=ROOT, check=False)
        if done.returncode != 0:
            raise BenchmarkError("the micro-benchmarks do not run")
        facts: dict[str, Any] = json.loads(record.read_text())
    return {one["name"]: one["stats"]["median"] for one in facts["benchmarks"]}
