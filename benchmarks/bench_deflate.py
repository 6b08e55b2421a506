"""
Deflate: one publisher, and subscribers that have all agreed on compression. What does a publish cost for all of them?

Chat lines of some 60 bytes, 1 KB and 200 KB of JSON, each to 1, 10, 100 and 1,000 subscribers::

    python -m benchmarks.bench_deflate [--peers bunws,bun,ws] [--seconds 2] [--repeat 3] [--texts line,1KB,200KB]
                                       [--subscribers 1,10,100,1000] [--messages 1] [--python PATH]

With one message in flight (`--messages 1`) a copy costs a wake-up and a system call, for every server the same, and
that is most of what is seen; with 32, what remains is the compression.

Every server compresses every message (no thresholds), and each message stands for itself (no context takeover).
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks import harness, machine, report
from benchmarks.harness import Workload


__all__ = ["main"]

WORDS: Final = (
    *("the", "a", "room", "hello", "what", "where", "is", "bun", "python", "meaning", "of", "life", "fast", "server"),
    *("socket", "message", "to", "for", "and", "you", "me", "it", "that", "was", "on", "are", "as", "with", "his"),
    *("they", "at", "be", "this", "from", "have", "or", "by", "one", "had", "not", "but", "all", "were", "when"),
)


def _line(chance: random.Random) -> str:
    return json.dumps({"user": chance.choice(["ann", "bob", "cyd"]), "text": " ".join(chance.choices(WORDS, k=6))})


def _records(size: int) -> Callable[[random.Random], str]:
    def make(chance: random.Random) -> str:
        records = [
            {
                "id": chance.randrange(1_000_000),
                "user": chance.choice(["ann", "bob", "cyd", "dan"]),
                "at": 1_700_000_000 + chance.randrange(1_000_000),
                "text": " ".join(chance.choices(WORDS, k=8)),
            }
            for _ in range(size // 90)
        ]
        return json.dumps(records)[:size]

    return make


TEXTS: Final[dict[str, Callable[[random.Random], str]]] = {
    "line": _line,
    "1KB": _records(1024),
    "200KB": _records(200 * 1024),
}

COLUMNS: Final[report.Columns] = {
    "CPU us/publish": lambda row: f"{row.median(lambda run: run.cpu_us_per_message):,.1f}",
    "B/copy": lambda row: f"{row.median(lambda run: run.bytes_per_copy):,.0f}",
    "compressed": lambda row: f"{row.median(lambda run: run.compressed_share):.0%}",
}


def main() -> None:
    parser = harness.argument_parser("Compressed publish: CPU per publish and per copy, copies a second.", repeat=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="counted seconds of a run")
    parser.add_argument("--texts", type=_texts, default=",".join(TEXTS), help=f"of {', '.join(TEXTS)}, by commas")
    parser.add_argument("--subscribers", type=_counts, default="1,10,100,1000", help="by commas")
    parser.add_argument("--messages", type=harness.positive, default=1, help="that are in flight at once")
    options = parser.parse_args()

    peers = harness.find_peers(options.peers, options.python)
    machine.raise_file_limit()
    print(machine.description(options.python))
    with tempfile.TemporaryDirectory() as directory:
        workloads = [
            _publish(Path(directory), name, subscribers, options.messages, options.seconds)
            for name in options.texts
            for subscribers in options.subscribers
        ]
        for workload, rows in harness.compare(peers, workloads, repeat=options.repeat):
            print(f"\n{workload.title}\n{report.rates(rows, COLUMNS)}", flush=True)


def _publish(directory: Path, name: str, subscribers: int, messages: int, seconds: float) -> Workload:
    text = TEXTS[name](random.Random(7692))
    path = directory / name
    path.write_text(text)
    return Workload(
        title=f"publish, compressed: {messages} x {len(text):,} B ({name}) to {subscribers:,}",
        serve="deflate",
        load=(
            *("--mode", "chat"),
            *("--clients", str(subscribers + 1)),  # the publisher hears nothing
            *("--senders", "1"),
            *("--messages", str(messages)),
            *("--text", str(path)),
            "--deflate",
        ),
        seconds=seconds,
    )


def _texts(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in TEXTS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(TEXTS)}")
    return names


def _counts(text: str) -> list[int]:
    return [harness.positive(count) for count in text.split(",")]


if __name__ == "__main__":
    harness.run_benchmark(main)
