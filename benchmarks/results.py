"""
Results: what was measured, kept as JSON with every run, and shown as Markdown.

Rule 1: the JSON is the record; the page, the plots and the README's table are made from it.
Rule 2: who was not measured, or not ranked, is named with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.runs import Column, Row, Run, ratio


__all__ = ["Results", "Table", "free_path", "markdown", "read", "record_of", "write"]

COMPARED_WITH: Final = ("bun", "ws", "node")

LEGEND: Final = """\
All figures are medians of the ranked runs. "x bun" says how many times *better* the row is than that peer,
for speed and for time alike. *busy*: share of the core that belongs to the server, and to the load; *others*: what
neither took of either core, the worse of the two; *spread*: highest less lowest, of the median. A run in which the
server's core was not busy, the load's was, or others took their share, is *not ranked*: it measured something else. A
row without a ranked run stands in italics and takes part in no ratio.

Where bunws is behind, with the profiles that show why: [benchmarks](../README.md#where-bunws-is-behind)."""


@dataclass(frozen=True, slots=True)
class Table:
    """One case of one workload, measured with everybody."""

    workload: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    note: str = ""

    def row(self, peer: str) -> Row | None:
        return next((row for row in self.rows if row.peer == peer), None)


@dataclass(slots=True)
class Results:
    """All that one command measured."""

    facts: Mapping[str, str]  # machine.facts, and what the command line said
    tables: list[Table] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)  # peers that could not be had, and why


# JSON


def free_path(folder: Path, name: str) -> Path:
    """`folder`/`name`.md, with a number behind the name where an earlier run of the day has that."""
    path = folder / f"{name}.md"
    number = 1
    while path.exists():
        number += 1
        path = folder / f"{name}-{number}.md"
    return path


def record_of(page: Path) -> Path:
    """Where the runs of a results page are."""
    return page.with_suffix("") / "runs.json"


def write(page: Path, results: Results, plots: Sequence[str]) -> None:
    """The record, and the page that shows it with `plots` (paths relative to it)."""
    record = record_of(page)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(asdict(results), indent=1) + "\n")
    page.write_text(markdown(results, plots))


def read(page: Path) -> Results:
    """What `write` wrote. Raises OSError, or ValueError for what is no record."""
    facts: dict[str, Any] = json.loads(record_of(page).read_text())
    try:
        tables = [_table(one) for one in facts["tables"]]
        return Results(facts["facts"], tables, facts["missing"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{record_of(page)} is no record of a benchmark: {error!r}") from None


def _table(facts: dict[str, Any]) -> Table:
    columns = [Column(**column) for column in facts["columns"]]
    rows = [Row(**{**row, "runs": [Run(**run) for run in row["runs"]]}) for row in facts["rows"]]
    return Table(facts["workload"], facts["title"], columns, rows, facts["note"])


# Markdown


def markdown(results: Results, plots: Sequence[str] = ()) -> str:
    """The page."""
    facts = "\n".join(f"| {name} | {_cell(value)} |" for name, value in results.facts.items())
    parts = [f"# Results of {results.facts.get('date', 'a run')}", f"| | |\n|---|---|\n{facts}", LEGEND]
    if results.missing:
        parts.append("\n".join(["Not here:", "", *(f"* **{name}**: {why}" for name, why in results.missing.items())]))
    workload = ""
    for table in results.tables:
        if table.workload != workload:
            workload = table.workload
            parts.append(f"## {workload}")
            parts += [f"![{workload}]({plot})" for plot in plots if Path(plot).stem == workload]
        parts.append(f"### {table.title}")
        if table.note:
            parts.append(table.note)
        parts.append(_rows(table))
        parts += _flaws(table)
    return "\n\n".join(parts) + "\n"


def _rows(table: Table) -> str:
    head = table.columns[0]
    references = [row for name in COMPARED_WITH if (row := table.row(name)) is not None and row.runs]
    heading = ["peer", "version"]
    for column in table.columns:
        heading.append(column.heading)
        heading += [f"x {other.peer}" for other in _compared(column, references)]
    heading += ["spread", "ranked"]
    lines = ["| " + " | ".join(heading) + " |", "|---|---|" + "---:|" * (len(heading) - 2)]
    for row in table.rows:
        if not row.runs:
            continue
        cells = [f"**{row.peer}**" if row.ranked else f"*{row.peer}*", row.version]
        for column in table.columns:
            value = column.show(row.median(column.key))
            cells.append(value if row.ranked or not value else f"*{value}*")
            for other in _compared(column, references):
                times = ratio(row, other, column)
                cells.append("" if times is None else f"{times:.2f}")
        spread = row.spread(head.key)
        cells += ["" if spread is None else f"{spread:.0%}", f"{len(row.ranked)} of {len(row.runs)}"]
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines)


def _compared(column: Column, references: Sequence[Row]) -> Sequence[Row]:
    return references if column.better else ()


def _flaws(table: Table) -> list[str]:
    """What went wrong, as a list; [] when nothing did."""
    lines = [f"* {row.peer}: not measured: {row.failure}" for row in table.rows if row.failure]
    for row in table.rows:
        reasons = [run.flaw for run in row.runs if run.flaw]
        if reasons:
            lines.append(f"* {row.peer}: not ranked: {'; '.join(reasons)}")
    return ["\n".join(lines)] if lines else []


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
