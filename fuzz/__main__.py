"""
Run the targets for a bounded time: `python -m fuzz [--seconds N] [--keep FOLDER] [NAME...]`.

Rule: it says how many inputs were executed, and ends with 1 if one of them was a find; that input stays in a file.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from .targets import TARGETS, Target


__all__ = ["main"]

# Seconds that a target may take longer than it was told: to start, to run the corpus, and for one last input.
_GRACE: Final = 60

# Bytes of an input. What is longer finds nothing that a shorter one does not, since all limits are set low.
_MAX_LENGTH: Final = 4096


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Fuzz what reads the bytes of peers.")
    parser.add_argument("--seconds", type=int, default=60, help="how long for each target (60)")
    parser.add_argument(
        "--keep", type=Path, help="where the inputs that reached something new are kept; default nowhere"
    )
    parser.add_argument("--finds", type=Path, default=Path("fuzz/finds"), help="where a find is written (fuzz/finds)")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which; default all of {', '.join(TARGETS)}")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in TARGETS]
    if unknown:
        parser.error(f"there is no target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: pip install atheris (there are wheels for CPython 3.11 to 3.13 on Linux)")
        return 2
    total = finds = 0
    for name in arguments.names or TARGETS:
        with tempfile.TemporaryDirectory(prefix="bunws-fuzz-") as scratch:
            kept = arguments.keep / name if arguments.keep else Path(scratch) / "kept"
            kept.mkdir(parents=True, exist_ok=True)
            executed, log = _run(TARGETS[name], arguments.seconds, kept, arguments.finds, Path(scratch))
        total += executed
        finds += bool(log)
        print(f"{name:14} {executed:10,} executions  {'FOUND SOMETHING' if log else 'nothing found'}", flush=True)
        if log:
            print(log)
    print(f"{'all':14} {total:10,} executions  {finds} finds")
    return 1 if finds else 0


def _run(target: Target, seconds: int, kept: Path, finds: Path, scratch: Path) -> tuple[int, str]:
    """How many inputs were executed, and the end of the log if one of them was a find."""
    finds.mkdir(parents=True, exist_ok=True)
    words = scratch / "words"
    words.write_text("".join(f'"{"".join(f"{chr(92)}x{octet:02x}" for octet in word)}"\n' for word in target.words))
    command = [
        *(sys.executable, "-m", "fuzz.harness", target.name),
        *(f"-max_total_time={seconds}", f"-max_len={_MAX_LENGTH}", "-timeout=20", "-rss_limit_mb=1024"),
        *("-print_final_stats=1", f"-dict={words}", f"-artifact_prefix={finds / target.name}-"),
        *(str(kept), str(target.corpus)),
    ]
    try:
        process = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds + _GRACE, check=False
        )
        code, output = process.returncode, process.stdout.decode("utf-8", "replace")
    except subprocess.TimeoutExpired as late:
        code, output = -1, (late.stdout or b"").decode("utf-8", "replace") + "\nit did not end in time"
    executed = re.search(r"stat::number_of_executed_units: (\d+)", output)
    return int(executed[1]) if executed else 0, "\n".join(output.splitlines()[-60:]) if code else ""


if __name__ == "__main__":
    sys.exit(main())
