"""Autobahn|Testsuite, the fast slice of it, and how the conformance run comes to its verdict."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance import results, suite
from tests.conformance.results import EXPLAINED, FAST, Result
from tests.support import ROOT


FINE = Result("OK", "OK", 1000)

# Seconds: half a minute for the slice, the rest for a machine that is busy and has to install the suite first.
SLICE_TIMEOUT = 400


# The slice


@pytest.mark.timeout(SLICE_TIMEOUT + 20)
def test_the_fast_slice_of_autobahn_finds_nothing(tmp_path: Path) -> None:
    """Needs a Python 2.7, which no package manager offers; so without one it is skipped even in CI."""
    command = [sys.executable, "-m", "tests.conformance", "--fast", "--reports", str(tmp_path / "reports")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SLICE_TIMEOUT)
    if run.returncode == 3 or (run.returncode == 4 and os.environ.get("BUNWS_REQUIRE_PEERS") != "1"):
        pytest.skip(run.stderr.strip())
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"


# Which Python


def fake_python(folder: Path, script: str) -> Path:
    folder.mkdir(parents=True)
    python = folder / "python2.7"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return python


def test_a_shim_whose_version_is_not_chosen_is_passed_over_for_the_version_itself(tmp_path: Path) -> None:
    fake_python(tmp_path / "shims", "echo 'pyenv: python2.7: command not found' >&2; exit 127")
    python = fake_python(tmp_path / "versions" / "2.7.18" / "bin", 'echo "$0"')
    assert suite.find_python27({"PATH": str(tmp_path / "shims"), "PYENV_ROOT": str(tmp_path)}) == str(python)


def test_pyenv_is_looked_for_in_the_home_if_nothing_else_is_said(tmp_path: Path) -> None:
    python = fake_python(tmp_path / ".pyenv" / "versions" / "2.7.18" / "bin", 'echo "$0"')
    assert suite.find_python27({"HOME": str(tmp_path)}) == str(python)


def test_a_python_on_the_path_comes_first(tmp_path: Path) -> None:
    python = fake_python(tmp_path / "bin", 'echo "$0"')
    fake_python(tmp_path / "versions" / "2.7.18" / "bin", 'echo "$0"')
    assert suite.find_python27({"PATH": str(tmp_path / "bin"), "PYENV_ROOT": str(tmp_path)}) == str(python)


def test_without_a_python_27_the_error_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(suite.PythonMissing, match=r"no working python2\.7"):
        suite.find_python27({"PATH": str(tmp_path), "PYENV_ROOT": str(tmp_path)})


# Which cases


CASES = ["1.1.1", "1.2.8", "2.9", "2.10", "9.1.1", "10.1.1", "12.1.1", "12.1.11", "12.2.1"]


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        ("*", CASES),
        ("1.*", ["1.1.1", "1.2.8"]),
        ("2.*", ["2.9", "2.10"]),
        ("2.9", ["2.9"]),
        ("12.1.*", ["12.1.1", "12.1.11"]),
        ("12.*.1", ["12.1.1", "12.2.1"]),
    ],
)
def test_a_star_stands_for_one_number_and_at_the_end_for_all_that_follow(pattern: str, chosen: list[str]) -> None:
    assert results.select(reversed(CASES), [pattern]) == chosen


def test_a_case_that_two_patterns_match_is_run_once() -> None:
    assert results.select(CASES, ["12.1.1", "12.*.1"]) == ["12.1.1", "12.2.1"]


@pytest.mark.parametrize("pattern", ["8.*", "1", "1.1.1.1", ""])
def test_a_pattern_without_a_case_is_a_mistake(pattern: str) -> None:
    with pytest.raises(ValueError, match="the suite has no case"):
        results.select(CASES, [pattern])


def test_the_fast_slice_has_no_large_messages_and_of_compression_only_the_smallest() -> None:
    assert not [pattern for pattern in FAST if pattern.split(".")[0] in ("*", "9")]
    assert [pattern for pattern in FAST if pattern.split(".")[0] in ("12", "13")] == ["12.*.1", "13.*.1"]


# What is a failure


@pytest.mark.parametrize("behavior", ["FAILED", "UNIMPLEMENTED", "NON-STRICT", "INFORMATIONAL"])
def test_a_case_that_is_not_ok_and_not_explained_is_a_failure(behavior: str) -> None:
    assert results.failures(["1.1.1"], {"1.1.1": FINE._replace(behavior=behavior)}) == [f"1.1.1: {behavior}"]


@pytest.mark.parametrize("close", ["FAILED", "WRONG CODE", "UNCLEAN", "FAILED BY CLIENT", "INFORMATIONAL"])
def test_a_case_that_closes_badly_is_a_failure(close: str) -> None:
    result = Result("OK", close, 1002)
    assert results.failures(["1.1.1"], {"1.1.1": result}) == [f"1.1.1: OK, but the closing was {close} (1002)"]


def test_a_case_without_a_result_is_a_failure() -> None:
    assert results.failures(["1.1.1", "1.1.2"], {"1.1.1": FINE}) == ["1.1.2: no result"]


def test_an_explained_case_is_a_failure_if_it_is_worse_than_explained() -> None:
    assert results.failures(["6.4.3"], {"6.4.3": Result("FAILED", "OK", 1007)}) == ["6.4.3: FAILED"]


def test_explained_cases_are_noted_and_no_failures() -> None:
    found = {"6.4.3": Result("NON-STRICT", "OK", 1007), "7.13.1": Result("INFORMATIONAL", "INFORMATIONAL", 1002)}
    assert results.failures(found, found) == []
    assert results.notes(found) == ["6.4.3: NON-STRICT, closed with 1007", "7.13.1: INFORMATIONAL, closed with 1002"]


def test_an_explanation_that_is_no_longer_needed_is_noted() -> None:
    assert results.notes({"6.4.3": FINE}) == ["6.4.3: OK by now; take it from EXPLAINED and from README.md"]


@pytest.mark.parametrize("case", EXPLAINED)
def test_an_explained_case_has_its_paragraph(case: str) -> None:
    readme = (suite.HERE / "README.md").read_text(encoding="utf-8")
    explanations = readme.partition("## The cases that are not plain OK")[2].partition("\n## ")[0]
    assert f"**{case}" in explanations or f", {case}" in explanations


def test_the_readme_tells_the_results_that_were_kept() -> None:
    def numbers(file: str, title: str) -> list[str]:
        lines = (suite.HERE / file).read_text(encoding="utf-8").splitlines()
        (row,) = (line for line in lines if line.startswith(f"| **{title}** "))
        return [cell.strip(" *") for cell in row.split("|")[2:]]

    cases, *kept = numbers("results.md", "all")[:6]
    assert cases == "517"
    assert numbers("README.md", "bunws")[:5] == kept


# The report of the suite, and our table


def test_a_report_is_read_as_the_suite_writes_it(tmp_path: Path) -> None:
    facts = {"behavior": "OK", "behaviorClose": "UNCLEAN", "duration": 2, "remoteCloseCode": None, "reportfile": "x"}
    (tmp_path / "index.json").write_text(json.dumps({"bunws": {"1.1.1": facts}}))
    assert results.read(tmp_path / "index.json", "bunws") == {"1.1.1": Result("OK", "UNCLEAN", None)}


def test_a_report_that_was_never_written_holds_no_results(tmp_path: Path) -> None:
    assert results.read(tmp_path / "index.json", "bunws") == {}


def test_the_table_counts_by_chapter_and_in_all() -> None:
    found = {
        "1.1.1": FINE,
        "1.1.2": Result("FAILED", "WRONG CODE", 1006),
        "10.1.1": FINE,
        "12.1.1": Result("UNIMPLEMENTED", "OK", 1000),
    }
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in results.table(found).splitlines()]
    heading, _, *rest = rows
    assert [dict(zip(heading, row, strict=True)) for row in rest] == [
        counted("1 framing", cases=2, ok=1, failed=1, well=1, bad=1),
        counted("10 auto-fragmentation", cases=1, ok=1, well=1),
        counted("12 compression, payloads", cases=1, unimplemented=1, well=1),
        counted("**all**", cases=4, ok=2, unimplemented=1, failed=1, well=3, bad=1),
    ]


def counted(
    title: str, cases: int, ok: int = 0, unimplemented: int = 0, failed: int = 0, well: int = 0, bad: int = 0
) -> dict[str, str]:
    """One line of the table."""
    return {
        "": title,
        "cases": str(cases),
        "OK": str(ok),
        "non-strict": "0",
        "informational": "0",
        "unimplemented": str(unimplemented),
        "failed": str(failed),
        "closed well": str(well),
        "close informational": "0",
        "unclean or wrong": str(bad),
    }
