"""
Results: what the suite said of each case, as a table and as a verdict.

Rule 1: a case that is not plain OK either fails the run, or has its paragraph in README.md.
Rule 2: a case without a result has failed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple


__all__ = ["EXPLAINED", "FAST", "Result", "failures", "natural_order", "notes", "read", "select", "table"]

#: Cases that may be something else than OK, and what. README.md has a paragraph for each.
EXPLAINED: Final[Mapping[str, str]] = {
    "6.4.3": "NON-STRICT",
    "6.4.4": "NON-STRICT",
    "7.1.6": "INFORMATIONAL",
    "7.13.1": "INFORMATIONAL",
    "7.13.2": "INFORMATIONAL",
}

#: About a hundred cases that end within half a minute: every rule of RFC 6455 and every kind of offer of RFC 7692, but
#: none of the large messages (9), of UTF-8 (6) and of close codes (7.7, 7.9) only samples, and of compression (12, 13)
#: only the smallest messages.
FAST: Final = (
    *("1.*", "2.*", "3.*", "4.*", "5.*"),
    *("6.2.*", "6.3.*", "6.4.*", "6.12.1", "6.21.1"),
    *("7.1.*", "7.3.*", "7.5.*", "7.7.1", "7.9.1", "7.9.4", "7.13.*"),
    "10.*",
    *("12.*.1", "13.*.1"),
)

# The suite's own words for its chapters, shortened.
CHAPTERS: Final[Mapping[str, str]] = {
    "1": "framing",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "opcodes",
    "5": "fragmentation",
    "6": "UTF-8",
    "7": "closing",
    "9": "limits, performance",
    "10": "auto-fragmentation",
    "12": "compression, payloads",
    "13": "compression, parameters",
}


class Result(NamedTuple):
    """What the suite said of one case; the words are its own."""

    behavior: str  # OK, NON-STRICT, INFORMATIONAL, UNIMPLEMENTED or FAILED
    close: str  # OK, INFORMATIONAL, or else: FAILED, WRONG CODE, UNCLEAN, FAILED BY CLIENT
    close_code: int | None  # the one that the server sent


# How many of the cases: the columns of the table.
COLUMNS: Final[Mapping[str, Callable[[Result], bool]]] = {
    "OK": lambda result: result.behavior == "OK",
    "non-strict": lambda result: result.behavior == "NON-STRICT",
    "informational": lambda result: result.behavior == "INFORMATIONAL",
    "unimplemented": lambda result: result.behavior == "UNIMPLEMENTED",
    "failed": lambda result: result.behavior == "FAILED",
    "closed well": lambda result: result.close == "OK",
    "close informational": lambda result: result.close == "INFORMATIONAL",
    "unclean or wrong": lambda result: not _is_close_fine(result),
}


def natural_order(case: str) -> tuple[int, ...]:
    """A key for sorting: 2.10 comes after 2.9."""
    return tuple(map(int, case.split(".")))


def select(cases: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """
    The cases that match any of the patterns, such as "6.4.1", "12.*" or "12.*.1", in order.

    Raises ValueError for a pattern that none matches.
    """
    chosen: set[str] = set()
    known = list(cases)
    for pattern in patterns:
        matching = [case for case in known if _matches(case.split("."), pattern.split("."))]
        if not matching:
            raise ValueError(f"the suite has no case {pattern}")
        chosen.update(matching)
    return sorted(chosen, key=natural_order)


def _matches(numbers: Sequence[str], pattern: Sequence[str]) -> bool:
    """A star stands for one number; at the end, for all that follow."""
    if pattern[-1] == "*":
        pattern = pattern[:-1]
        numbers = numbers[: len(pattern)]
    return len(numbers) == len(pattern) and all(
        want in ("*", number) for number, want in zip(numbers, pattern, strict=True)
    )


def read(report: Path, agent: str) -> dict[str, Result]:
    """The results in an index.json of the suite; none if it was never written."""
    if not report.is_file():
        return {}
    said = json.loads(report.read_text(encoding="utf-8")).get(agent, {})
    return {
        case: Result(facts["behavior"], facts["behaviorClose"], facts["remoteCloseCode"])
        for case, facts in said.items()
    }


# The table


def table(results: Mapping[str, Result]) -> str:
    """One line per chapter and one for all, in Markdown."""
    lines = [["", "cases", *COLUMNS]]
    for chapter, title in CHAPTERS.items():
        if counts := _counts(result for case, result in results.items() if case.split(".")[0] == chapter):
            lines.append([f"{chapter} {title}", *counts])
    lines.append(["**all**", *(_counts(results.values()) or ["0"] * (1 + len(COLUMNS)))])
    return _markdown(lines)


def _counts(results: Iterable[Result]) -> list[str]:
    """The numbers of one line; none where there is no case."""
    counted = Counter(column for result in results for column in ("cases", *_columns_of(result)))
    return [str(counted[column]) for column in ("cases", *COLUMNS)] if counted else []


def _columns_of(result: Result) -> list[str]:
    return [column for column, belongs in COLUMNS.items() if belongs(result)]


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = [
        "| " + " | ".join((line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:]))) + " |" for line in lines
    ]
    rule = "|" + "|".join(("-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:]))) + "|"
    return "\n".join((rows[0], rule, *rows[1:]))


# The verdict


def failures(asked: Iterable[str], results: Mapping[str, Result]) -> list[str]:
    """What must not be, a line for each case; empty if the server conforms."""
    found = []
    for case in asked:
        result = results.get(case)
        if result is None:
            found.append(f"{case}: no result")
        elif result.behavior not in ("OK", EXPLAINED.get(case)):
            found.append(f"{case}: {result.behavior}")
        elif not _is_close_fine(result):
            found.append(f"{case}: {result.behavior}, but the closing was {result.close} ({result.close_code})")
    return found


def notes(results: Mapping[str, Result]) -> list[str]:
    """What is not plain OK but explained, and what no longer needs its explanation."""
    found = []
    for case in sorted(EXPLAINED.keys() & results.keys(), key=natural_order):
        result = results[case]
        if result.behavior == EXPLAINED[case]:
            found.append(f"{case}: {result.behavior}, closed with {result.close_code}")
        elif result.behavior == "OK":
            found.append(f"{case}: OK by now; take it from EXPLAINED and from README.md")
    return found


def _is_close_fine(result: Result) -> bool:
    # The suite judges the closing of an informational case no more than the case.
    return result.close == "OK" or result.close == result.behavior == "INFORMATIONAL"
