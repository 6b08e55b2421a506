"""
Runs: one measurement, whether it may be ranked, and what many of them amount to.

Rule 1: this room is pure: numbers in, numbers out.
Rule 2: a run that measured the load, or the neighbours, is not ranked. It is shown, marked, and takes part in no ratio.
Rule 3: a ratio says how many times better the one is than the other, whether more or less is better.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal


__all__ = ["DISTURBED", "LOAD_BUSY", "SERVER_BUSY", "Column", "Row", "Run", "flaw", "lag_flaw", "percentile", "ratio"]

# Shares of a core: below this one the server was not the bottleneck; above that one the load may have been.
SERVER_BUSY: Final = 0.8
LOAD_BUSY: Final = 0.9

# Of the server's core: from here on it never waited for the load, however busy that was.
SATURATED: Final = 0.95

# Share of either core from which on work of others disturbs a run.
DISTURBED: Final = 0.1

# How late the load of an open loop may be, beside the latency that it measures.
LAG_SHARE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of a workload, and how a table shows it."""

    key: str  # in Run.figures
    heading: str
    better: Literal["more", "less", ""] = ""  # "": it is no merit
    digits: int = 0  # behind the point

    def show(self, value: float | None) -> str:
        return "" if value is None else f"{value:,.{self.digits}f}"


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement of one server."""

    figures: Mapping[str, float]
    flaw: str = ""  # why it is not ranked; "": it is


@dataclass(frozen=True, slots=True)
class Row:
    """One peer's runs of one case; none, and why, where it failed or cannot."""

    peer: str
    version: str
    runs: Sequence[Run] = ()
    failure: str = ""

    @property
    def ranked(self) -> list[Run]:
        return [run for run in self.runs if not run.flaw]

    def median(self, key: str) -> float | None:
        """The median over the ranked runs; over all of them where none is ranked; None without any."""
        values = [run.figures[key] for run in self.ranked or self.runs if key in run.figures]
        return statistics.median(values) if values else None

    def spread(self, key: str) -> float | None:
        """Highest less lowest, as a share of the median."""
        values = [run.figures[key] for run in self.ranked or self.runs if key in run.figures]
        middle = self.median(key)
        return (max(values) - min(values)) / middle if middle else None


def ratio(row: Row, other: Row, column: Column) -> float | None:
    """How many times better `row` is than `other`; None where either has no ranked run, or nothing is better."""
    one, two = row.median(column.key), other.median(column.key)
    if not (row.ranked and other.ranked and one and two and column.better):
        return None
    return one / two if column.better == "more" else two / one


def flaw(*, server_busy: float, load_busy: float, others: float | None) -> str:
    """
    Why a run of a closed loop may not be ranked; "" when it may.

    All are shares of a core: of the server's, of the load's, and what neither took of either (None: unknown).
    """
    if others is not None and others > DISTURBED:
        return f"others took {others:.0%} of a core"
    if load_busy > LOAD_BUSY and not (server_busy >= SATURATED and server_busy > load_busy):
        return f"the load's core was {load_busy:.0%} busy"
    if server_busy < SERVER_BUSY:
        return f"the server's core was only {server_busy:.0%} busy"
    return ""


def lag_flaw(*, lag: float, latency: float, others: float | None) -> str:
    """The same for an open loop, whose load is busy by design: how late it was itself, in the unit of `latency`."""
    if others is not None and others > DISTURBED:
        return f"others took {others:.0%} of a core"
    if lag > LAG_SHARE * latency:
        return f"the load itself was late by {lag / latency:.0%} of the latency"
    return ""


def percentile(buckets: Sequence[tuple[float, int]], share: float) -> float:
    """
    The value that `share` (0 to 1) of all are not above. `buckets`: (value, how many), by ascending value.

    Raises ValueError for no values.
    """
    total = sum(count for _, count in buckets)
    if not total:
        raise ValueError("no values, so no percentile")
    rank = max(1, -int(-total * share // 1))  # rounded up
    for value, count in buckets:
        rank -= count
        if rank <= 0:
            return value
    return buckets[-1][0]
