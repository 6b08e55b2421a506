"""
Plot: memory and throughput over time, as an SVG.

Rule: matplotlib (the extra `bench`) is imported here only, and only where there is something to draw.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .run import WARM_UP, Sample


__all__ = ["plot"]


def plot(samples: list[Sample], path: Path) -> None:
    """Write the picture to `path`."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Text stays text, and the same samples are the same file.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "bunws", "font.size": 9})
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    above: Any
    below: Any
    above, below = figure.subplots(2, 1, sharex=True)
    waves = samples[1:]
    seconds = [sample.seconds for sample in waves]
    above.plot(seconds, [sample.facts.memory / 1e6 for sample in waves], linewidth=1, color="#0a7ea4")
    if len(waves) > WARM_UP:
        above.axvline(samples[WARM_UP].seconds, linestyle=":", color="#888888")
        above.annotate("warm", (samples[WARM_UP].seconds, 1), xycoords=("data", "axes fraction"), va="top")
    above.set_ylim(bottom=0)
    above.set_ylabel("resident memory, MB")
    above.set_title("Between the waves of clients, when the last has gone", fontsize=9)
    below.plot(seconds, [sample.messages / sample.elapsed for sample in waves], linewidth=1, color="#b3541e")
    below.set_ylim(bottom=0)
    below.set_ylabel("messages received\nby clients, 1/s")
    below.set_xlabel("seconds")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="svg", metadata={"Date": None})
