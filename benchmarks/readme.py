"""
Readme: the table between two comments of a README, made from a results page.

Rule: a number in the README is one of the record's. Nobody types one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks import results
from benchmarks.machine import BenchmarkError
from benchmarks.runs import Row, ratio


if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.results import Results, Table


__all__ = ["BEGIN", "END", "replace_between", "table", "update"]

BEGIN: Final = "<!-- benchmarks: made by `python -m benchmarks readme RESULTS.md` -->"
END: Final = "<!-- /benchmarks -->"

# "every Python peer": the best of these stands for all.
PYTHON_PEERS: Final = ("socketify", "picows", "websockets", "aiohttp", "uvicorn")


def update(readme: Path, page: Path) -> None:
    """
    Put the table of the results page `page` into `readme`.

    Raises BenchmarkError where the markers are missing, or the page's record is.
    """
    try:
        found = results.read(page)
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{page.name} has no record beside it: {error}") from None
    text = readme.read_text(encoding="utf-8")
    link = page.resolve().relative_to(readme.resolve().parent)
    readme.write_text(replace_between(text, f"{table(found)}\n\n{_source(found, str(link))}"), encoding="utf-8")


def replace_between(text: str, content: str) -> str:
    """`text` with `content` between its markers. Raises BenchmarkError unless there is one of each, in order."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise BenchmarkError(f"it needs one line {BEGIN!r} and one {END!r} below it")
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def table(found: Results) -> str:
    """One line per case: the first column of bunws, Bun, Node and the best Python peer, and how bunws compares."""
    lines = [
        "| | bunws | Bun | Node | best of Python | x Bun | x Node | x Python |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for one in found.tables:
        ours = one.row("bunws")
        if ours is None or not ours.runs:
            continue
        others = [one.row("bun"), _node(one), _best_of_python(one)]
        cells = [
            f"{one.title}, {one.columns[0].heading}",
            f"**{_value(one, ours)}**" if ours.ranked else _value(one, ours),
        ]
        cells += [_value(one, other) for other in others]
        cells += [_times(one, ours, other) for other in others]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _node(one: Table) -> Row | None:
    ws = one.row("ws")
    return ws if ws is not None and ws.runs else one.row("node")


def _best_of_python(one: Table) -> Row | None:
    column = one.columns[0]
    rows = [row for name in PYTHON_PEERS if (row := one.row(name)) is not None and row.ranked]
    by_merit = sorted(rows, key=lambda row: row.median(column.key) or 0, reverse=column.better == "more")
    return by_merit[0] if by_merit else None


def _value(one: Table, row: Row | None) -> str:
    if row is None or not row.runs:
        return ""
    shown = one.columns[0].show(row.median(one.columns[0].key))
    name = f" ({row.peer})" if row.peer in PYTHON_PEERS else ""
    return f"{shown}{name}" if row.ranked else f"*{shown}*{name}"


def _times(one: Table, ours: Row, other: Row | None) -> str:
    times = ratio(ours, other, one.columns[0]) if other is not None else None
    return "" if times is None else f"{times:.2f}"


def _source(found: Results, link: str) -> str:
    facts = found.facts
    return (
        f"{facts['machine']}, {facts['kernel']}, {facts['python']}, commit {facts['commit']}, {facts['date']}: "
        f"[all tables and plots]({link}). Medians; *in italics*: not ranked. x: how many times better."
    )
