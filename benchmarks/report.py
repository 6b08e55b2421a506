"""
The tables: plain text, aligned, the same columns for every workload that counts copies.

Rule 1: a ratio says how many times better the peer is than the one it is compared with, for speed and for CPU alike.
Rule 2: a number that is not ranked takes part in no ratio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.harness import Row, Run

    # What one more column shows of a peer's runs.
    Columns: TypeAlias = Mapping[str, Callable[[Row], str]]


__all__ = ["rates", "table"]

COMPARED_WITH: Final = ("bun", "ws")

RATES_LEGEND: Final = """\
copies/s: messages received by clients · CPU: server time, user and system, per copy · speed, CPU "/ bun": how many
times better than Bun · spread: highest less lowest CPU figure, of the median · others: largest share of a core that was
neither the server's nor the load's · ranked: runs that neither the load nor others held back"""


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; the first two (peer, version) to the left, numbers to the right."""
    lines = [heading, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def rates(rows: Sequence[Row], more: Columns | None = None) -> str:
    """Copies a second and CPU per copy of every peer, with ratios, how busy both sides were, and a legend."""
    more = more or {}
    heading = ["peer", "version", "copies/s", "CPU ns", *more]
    heading += [f"{what} / {peer}" for what in ("speed", "CPU") for peer in COMPARED_WITH]
    heading += ["spread", "server busy", "others", "load busy", "load ns", "ranked"]
    by_name = {row.peer.name: row for row in rows}
    return f"{table(heading, [_rates_of(row, by_name, more) for row in rows])}\n{RATES_LEGEND}"


def _rates_of(row: Row, by_name: dict[str, Row], more: Columns) -> list[str]:
    cpu = [run.cpu_ns_per_copy for run in row.ranked or row.runs]
    others = [run.others for run in row.runs if run.others is not None]
    return [
        row.peer.name,
        row.peer.version,
        f"{row.median(_speed):,.0f}",
        f"{row.median(_cpu):,.0f}",
        *(show(row) for show in more.values()),
        *(_ratio(row, by_name.get(name), is_speed=True) for name in COMPARED_WITH),
        *(_ratio(row, by_name.get(name), is_speed=False) for name in COMPARED_WITH),
        f"{(max(cpu) - min(cpu)) / row.median(_cpu):.0%}",
        f"{row.median(_server_busy):.0%}",
        f"{max(others):.0%}" if others else "",
        f"{row.median(_load_busy):.0%}",
        f"{row.median(_load_cpu):,.0f}",
        f"{len(row.ranked)} of {len(row.runs)}",
    ]


def _ratio(row: Row, other: Row | None, *, is_speed: bool) -> str:
    if other is None or not row.ranked or not other.ranked:
        return ""
    if is_speed:
        return f"{row.median(_speed) / other.median(_speed):.2f}"
    return f"{other.median(_cpu) / row.median(_cpu):.2f}"


def _speed(run: Run) -> float:
    return run.copies_per_second


def _cpu(run: Run) -> float:
    return run.cpu_ns_per_copy


def _load_cpu(run: Run) -> float:
    return run.load_cpu_ns_per_copy


def _server_busy(run: Run) -> float:
    return run.server_busy


def _load_busy(run: Run) -> float:
    return run.load_busy
