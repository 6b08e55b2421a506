"""
Plots: the first column of each table as bars, one SVG per workload.

Rule 1: what is not ranked is hatched, and the axis begins at zero.
Rule 2: the same results give the same bytes, so that a change of a plot is a change of a number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final


if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.results import Results, Table


__all__ = ["plot"]

OURS: Final = "#d9480f"
THEIRS: Final = "#adb5bd"
FLOOR: Final = "#dee2e6"  # no server, but a measure


def plot(results: Results, folder: Path) -> list[Path]:
    """
    Draw every workload into `folder`; returns the files, none where matplotlib is not installed.

    `pip install 'bunws[bench]'` installs it.
    """
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.hashsalt": "bunws", "font.size": 9, "svg.fonttype": "none"}
    by_workload: dict[str, list[Table]] = {}
    for table in results.tables:
        if any(row.median(table.columns[0].key) is not None for row in table.rows):
            by_workload.setdefault(table.workload, []).append(table)
    return [_draw(workload, tables, folder) for workload, tables in by_workload.items()]


def _draw(workload: str, tables: Sequence[Table], folder: Path) -> Path:
    import matplotlib.pyplot as plt

    bars = [sum(bool(row.runs) for row in table.rows) for table in tables]
    figure, axes = plt.subplots(
        len(tables),
        1,
        figsize=(7.5, sum(0.26 * count + 0.75 for count in bars)),
        height_ratios=[count + 1.5 for count in bars],
        squeeze=False,
        layout="constrained",
    )
    for table, axis in zip(tables, axes[:, 0], strict=True):
        _bars(table, axis)
    path = folder / f"{workload}.svg"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


def _bars(table: Table, axis: Axes) -> None:
    column = table.columns[0]
    rows = [row for row in table.rows if row.median(column.key) is not None]
    values = [row.median(column.key) or 0.0 for row in rows]
    colors = [{"bunws": OURS, "floor": FLOOR}.get(row.peer, THEIRS) for row in rows]
    drawn = axis.barh([row.peer for row in rows], values, color=colors, height=0.7)
    for bar, row in zip(drawn, rows, strict=True):
        if not row.ranked:
            bar.set_hatch("//")
            bar.set_edgecolor("white")
    axis.bar_label(drawn, [column.show(value) for value in values], padding=3)
    axis.invert_yaxis()
    axis.margins(x=0.18)
    axis.set_xlim(left=0)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.tick_params(bottom=False, labelbottom=False, left=False)
    merit = {"more": "more is better", "less": "less is better", "": ""}[column.better]
    axis.set_title(f"{table.title}: {column.heading} ({merit})", loc="left", fontsize=9)
