"""
The soak: `python -m tests.soak --minutes N [--svg FILE]`.

Rule: it ends with 1 if something is not as it was.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from .plot import plot
from .run import MEMORY_BOUND, WARM_UP, Sample, soak, verdict


__all__ = ["main"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Everything at once, for a while.")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (1)")
    parser.add_argument("--clients", type=int, default=40, help="of one wave (40)")
    parser.add_argument("--rest", type=float, default=0.0, help="seconds between two waves, to spare the machine (0)")
    parser.add_argument("--seed", type=int, default=0, help="what the clients do is drawn from it (0)")
    parser.add_argument("--svg", type=Path, help="where to draw memory and throughput over time; needs matplotlib")
    arguments = parser.parse_args()
    ends = time.monotonic() + arguments.minutes * 60
    told = 0.0

    def tell(sample: Sample) -> None:
        nonlocal told
        if sample.seconds - told >= 10:
            told = sample.seconds
            print(_line(sample), flush=True)

    samples = soak(
        lambda waves: time.monotonic() < ends or waves <= WARM_UP,
        clients=arguments.clients,
        rest=arguments.rest,
        seed=arguments.seed,
        tell=tell,
    )
    if arguments.svg is not None:
        plot(samples, arguments.svg)
    complaints = verdict(samples)
    _summarize(samples, arguments.clients)
    for complaint in complaints:
        print(complaint)
    return 1 if complaints else 0


def _line(sample: Sample) -> str:
    facts = sample.facts
    held = " ".join(f"{name} {value}" for name, value in facts.held.items())
    rate = sample.messages / sample.elapsed
    return f"{sample.seconds:6.0f} s  {facts.memory / 1e6:6.1f} MB  {held}  {rate:,.0f} messages/s"


def _summarize(samples: list[Sample], clients: int) -> None:
    warm, last = samples[min(WARM_UP, len(samples) - 1)].facts, samples[-1].facts
    print(
        f"{len(samples) - 1} waves of {clients} clients, {sum(sample.messages for sample in samples):,} messages, "
        f"{sum(sample.answers for sample in samples):,} answers in {samples[-1].seconds:.0f} s"
    )
    for name, before in samples[0].facts.held.items():
        print(f"{name:12} {before} before, {last.held[name]} after")
    print(
        f"memory       {samples[0].facts.memory / 1e6:.1f} MB before, {warm.memory / 1e6:.1f} warm, "
        f"{last.memory / 1e6:.1f} after (bound: {MEMORY_BOUND / 1e6:.1f} above warm)"
    )


if __name__ == "__main__":
    sys.exit(main())
