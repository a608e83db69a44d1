"""The built pages: links that resolve, order, history, names from data that are no markup."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pytest

from quality.checks.report import check
from quality.checks.suites import Rule, Suite
from quality.pages.check_runs import KEEP_RUNS, CheckRun, newest_runs, save_run
from quality.pages.docs_index import renew, write_history, write_index
from quality.pages.drift_index import DriftSummary, FeatureSummary, largest, renew_drift, save_summary
from quality.pages.sparkline import Spark, svg

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
HOSTILE = "<script>alert('1')</script>\"&"
SCHEMA = pa.schema([("x", pa.float64())])
SUITE = Suite(
    "numbers",
    SCHEMA,
    (Rule("columns"), Rule("between", ("x",), minimum=0)),
    title="Build of numbers",
    asset="features/numbers",
    drift="numbers",
)
GOOD, BAD = pa.table({"x": [1.0, 2.0]}), pa.table({"x": [-1.0, 2.0]})


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.found += [value for name, value in attrs if name in {"href", "src"} and value]


def links_of(page: Path) -> list[str]:
    parser = _Links()
    parser.feed(page.read_text())
    return parser.found


def unresolved(docs: Path) -> list[str]:
    """Links of our pages that lead to no file; those to Dagster are led on by the server."""
    found = []
    for page in docs.rglob("*.html"):
        for link in links_of(page):
            if link.startswith("#"):
                continue
            target = (page.parent / unquote(link)).resolve()
            if not target.is_file() and (docs.resolve() / "asset") not in target.parents:
                found.append(f"{page.relative_to(docs)}: {link}")
    return found


def run_of(
    title: str, *, blocking: tuple[str, ...] = (), advice: tuple[str, ...] = (), hours: int = 0
) -> CheckRun:
    return CheckRun(title, f"features/{title}", "", NOW - timedelta(hours=hours), 1234, 9, blocking, advice)


def put(docs: Path, stem: str, run: CheckRun) -> None:
    save_run(docs, stem, run, "page")
    (docs / f"{stem}.html").write_text("page")


def test_a_check_is_listed_with_status_time_rows_and_what_failed(tmp_path: Path) -> None:
    check(SUITE, BAD, tmp_path, clock=lambda: NOW)
    index = (tmp_path / "index.html").read_text()
    for text in (
        "✗ blocks",
        "Build of numbers",
        "2024-06-01 12:00:00",
        "1 of 2",
        "outside",
        "asset in Dagster",
    ):
        assert text in index
    assert "asset/features/numbers" in links_of(tmp_path / "index.html")
    page = (tmp_path / "numbers.html").read_text()
    assert "<title>Build of numbers</title>" in page
    assert "1 of 2 expectations failed" in page


def test_every_run_is_kept_with_its_page(tmp_path: Path) -> None:
    check(SUITE, BAD, tmp_path, clock=lambda: NOW - timedelta(hours=1))
    check(SUITE, GOOD, tmp_path, clock=lambda: NOW)
    assert [run.status for run in newest_runs(tmp_path, "numbers")] == ["passed", "blocks"]
    history = (tmp_path / "runs" / "numbers" / "index.html").read_text()
    assert history.index("✓ passed") < history.index("✗ blocks")
    old = (tmp_path / "runs" / "numbers" / "20240601T110000000000Z.html").read_text()
    assert "1 of 2 expectations failed" in old
    assert "0 of 2 expectations failed" in (tmp_path / "numbers.html").read_text()
    assert "✓ passed" in (tmp_path / "index.html").read_text()
    assert "✗ blocks" not in (tmp_path / "index.html").read_text()


def test_the_history_is_bounded(tmp_path: Path) -> None:
    for minute in range(KEEP_RUNS + 3):
        save_run(tmp_path, "a", replace(run_of("a"), time=NOW + timedelta(minutes=minute)), "page")
    runs = newest_runs(tmp_path, "a")
    assert len(runs) == KEEP_RUNS
    assert runs[-1].time == NOW + timedelta(minutes=3)
    assert len(list((tmp_path / "runs" / "a").iterdir())) == 2 * KEEP_RUNS


def test_failing_come_first_then_the_newest(tmp_path: Path) -> None:
    put(tmp_path, "fine", run_of("fine"))
    put(tmp_path, "older", run_of("older", hours=2))
    put(tmp_path, "warned", run_of("warned", advice=("a",), hours=5))
    put(tmp_path, "blocked", run_of("blocked", blocking=("b",), hours=9))
    (tmp_path / "unrecorded.html").write_text("of an earlier version")
    write_index(tmp_path)
    index = (tmp_path / "index.html").read_text()
    places = [
        index.index(f'href="{stem}.html"') for stem in ("blocked", "warned", "fine", "older", "unrecorded")
    ]
    assert places == sorted(places)
    assert "1 block, 1 warn" in index


def test_what_comes_from_data_is_escaped(tmp_path: Path) -> None:
    put(tmp_path, "odd", replace(run_of(HOSTILE, blocking=(HOSTILE,)), drift="odd"))
    feature = FeatureSummary(HOSTILE, HOSTILE, 2.0, (HOSTILE,), Spark("shares", (0.5, 0.5), (1.0, 0.0)))
    folder = tmp_path / "drift" / "odd" / "20240601T000000Z"
    save_summary(folder, DriftSummary(HOSTILE, HOSTILE, HOSTILE, 5, (feature,)))
    (folder / "index.html").write_text("plots")
    write_history(tmp_path, "odd")
    write_index(tmp_path)
    pages = [page for page in tmp_path.rglob("index.html") if page.parent != folder]
    assert len(pages) == 4
    for page in pages:
        text, parser = page.read_text(), _Links()
        parser.feed(text)
        assert "script" not in parser.tags, page
        assert html.escape(HOSTILE) in text, page


def test_every_link_resolves_also_after_pages_went(tmp_path: Path) -> None:
    check(SUITE, BAD, tmp_path, clock=lambda: NOW - timedelta(hours=1))
    check(SUITE, GOOD, tmp_path, clock=lambda: NOW)
    for stamp in ("20240530T000000Z", "20240531T000000Z"):
        folder = tmp_path / "drift" / "numbers" / stamp
        save_summary(folder, summary_of("numbers", 0.1))
        (folder / "index.html").write_text("plots")
    renew(tmp_path)
    assert "drift/numbers/index.html" in links_of(tmp_path / "index.html")
    assert unresolved(tmp_path) == []
    # Retention removes runs, pages and plots by age.
    (tmp_path / "runs" / "numbers" / "20240601T110000000000Z.html").unlink()
    for path in (tmp_path / "drift" / "numbers").glob("*/*"):
        path.unlink()
    renew_drift(tmp_path)
    renew(tmp_path)
    assert unresolved(tmp_path) == []
    for path in (tmp_path / "runs" / "numbers").glob("*Z.*"):
        path.unlink()
    renew(tmp_path)
    assert unresolved(tmp_path) == []
    (tmp_path / "numbers.html").unlink()
    renew(tmp_path)
    assert not (tmp_path / "runs" / "numbers").exists()
    assert unresolved(tmp_path) == []


def test_a_damaged_record_is_not_a_run(tmp_path: Path) -> None:
    put(tmp_path, "a", run_of("a", hours=1))
    newest = run_of("a")
    save_run(tmp_path, "a", newest, "page")
    (tmp_path / "runs" / "a" / f"{newest.stamp}.json").write_text("{cut")
    assert [run.time for run in newest_runs(tmp_path, "a")] == [NOW - timedelta(hours=1)]


def summary_of(group: str, score: float, *, failed: bool = False, name: str = "f") -> DriftSummary:
    said = ("population stability index 0.5; wanted at most 0.2",) if failed else ()
    feature = FeatureSummary(name, "Meaning.", score, said, Spark("shares", (0.5, 0.5), (0.2, 0.8)))
    return DriftSummary(group, f"features/{group}", "the 7 days before", 10, (feature,))


def test_drift_is_listed_worst_first_of_the_newest_run_of_each_group(tmp_path: Path) -> None:
    drift = tmp_path / "drift"
    save_summary(drift / "a" / "20240531T000000Z", summary_of("a", 9.0, failed=True, name="gone"))
    save_summary(drift / "a" / "20240601T000000Z", summary_of("a", 0.2, name="calm"))
    save_summary(drift / "b" / "20240601T000000Z", summary_of("b", 3.0, failed=True, name="out"))
    save_summary(drift / "c" / "20240601T000000Z", summary_of("c", 4.0, name="large"))
    save_summary(drift / "d" / "20240601T000000Z", summary_of("d", 0.0, name="unknown"))
    index = (drift / "index.html").read_text()
    names = re.findall(r"<h2><a [^>]*>([\w.]+)</a>", index)
    assert names == ["b.out", "c.large", "a.calm", "d.unknown"]
    assert index.count("<svg") == 4
    assert "1 of 4 features drifted" in index
    of_group = (drift / "a" / "index.html").read_text()
    assert of_group.index("20240601T000000Z") < of_group.index("20240531T000000Z")
    assert "gone" in of_group


def test_the_score_is_the_largest_change_that_is_a_number() -> None:
    assert largest([float("nan"), 0.5, -2.0, float("inf")]) == 2.0
    assert largest([]) == 0.0


@pytest.mark.parametrize("kind", ["shares", "days"])
def test_a_sparkline_stays_inside_its_frame(kind: str) -> None:
    drawn = svg(Spark(kind, (0.1, 0.9, 0.0), (0.4, 5.0)), "a")  # type: ignore[arg-type]
    numbers = [float(n) for pair in re.findall(r'points="([^"]+)"', drawn) for n in re.split("[ ,]", pair)]
    assert numbers
    assert all(0 <= n <= 160 for n in numbers[::2])
    assert all(0 <= n <= 44 for n in numbers[1::2])
    assert "no values" in svg(Spark(kind, (), ()), "a")  # type: ignore[arg-type]
    assert "no values" in svg(Spark(kind, (0.0,), (float("nan"),)), "a")  # type: ignore[arg-type]
