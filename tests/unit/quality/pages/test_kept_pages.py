"""A page is left as it is only while it says the truth: same rules, all held, not old."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from quality.checks.report import check
from quality.checks.suites import Rule, Suite
from quality.pages.kept_pages import kept_page, page_path

SCHEMA = pa.schema([("x", pa.float64())])
SUITE = Suite("numbers", SCHEMA, (Rule("columns"), Rule("between", ("x",), minimum=0)))
GOOD, BAD = pa.table({"x": [1.0, 2.0]}), pa.table({"x": [-1.0, 2.0]})
HOUR = timedelta(hours=1)


def written(docs: Path) -> int:
    return page_path(docs, SUITE.name).stat().st_mtime_ns


def test_a_page_of_a_pass_is_kept_and_the_report_is_the_same(tmp_path: Path) -> None:
    first = check(SUITE, GOOD, tmp_path, keep_page=HOUR)
    before = written(tmp_path)
    assert check(SUITE, GOOD, tmp_path, keep_page=HOUR) == first
    assert written(tmp_path) == before


def test_whoever_does_not_allow_it_gets_a_new_page(tmp_path: Path) -> None:
    check(SUITE, GOOD, tmp_path)
    before = written(tmp_path)
    check(SUITE, GOOD, tmp_path)
    assert written(tmp_path) > before


@pytest.mark.parametrize("why", ["old", "other rules", "failed now", "failed then"])
def test_a_page_that_no_longer_holds_is_written_again(tmp_path: Path, why: str) -> None:
    check(SUITE, BAD if why == "failed then" else GOOD, tmp_path)
    path = page_path(tmp_path, SUITE.name)
    os.utime(path, (path.stat().st_mtime - 7200 * (why == "old"),) * 2)
    before = written(tmp_path)
    suite = (
        Suite("numbers", SCHEMA, (*SUITE.rules, Rule("not_null", ("x",)))) if why == "other rules" else SUITE
    )
    report = check(suite, BAD if why == "failed now" else GOOD, tmp_path, keep_page=HOUR)
    assert written(tmp_path) > before
    assert report.passed == (why != "failed now")


def test_an_unwritten_page_is_not_kept(tmp_path: Path) -> None:
    assert kept_page(tmp_path, SUITE, HOUR) is None


def test_a_kept_page_saves_the_import_of_great_expectations(tmp_path: Path) -> None:
    check(SUITE, GOOD, tmp_path)
    code = (
        "import sys, pathlib, datetime, pyarrow as pa; from quality.checks.report import check; "
        "from quality.checks.suites import Rule, Suite; "
        "suite = Suite('numbers', pa.schema([('x', pa.float64())]), "
        "(Rule('columns'), Rule('between', ('x',), minimum=0))); "
        "report = check(suite, pa.table({'x': [3.0]}), pathlib.Path(sys.argv[1]), "
        "keep_page=datetime.timedelta(hours=1)); "
        "print(report.passed, 'great_expectations' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True", "False"]
