"""The page of benchmarks: what was measured, nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import __main__ as runner
from benchmarks.harness import Benchmark, BenchmarkError, Row, Target, write
from benchmarks.report import figure, page, read_results

KNOWN = {
    "rank": Benchmark(
        "rank", "rank", list, {"rank": Target(2.0, of="ratio"), "rank_p99": Target(1.0)}, "Ranks.\n\nMore."
    ),
    "write": Benchmark("write", "write", list, {}, "Writes."),
}


def row(name: str, value: float = 3.0, **extra: object) -> Row:
    return Row(name, value, "ms", "echo", 2.0, 5, extra)


def test_the_page_shows_each_row_with_baseline_ratio_and_verdict(tmp_path: Path) -> None:
    write(
        {"rank": [row("rank", peak_mb=41.5, curve=[1, 2]), row("rank_p99")], "write": [row("write")]},
        tmp_path,
    )
    text = page(read_results(tmp_path), KNOWN)
    assert "| `rank` | 3 ms | echo | 2 ms | 1.5 | 5 | ≤ 2 × baseline ✓ |" in text
    assert "| `rank_p99` | 3 ms | echo | 2 ms | 1.5 | 5 | ≤ 1 ✗ missed |" in text
    assert "| `write` | 3 ms | echo | 2 ms | 1.5 | 5 |  |" in text
    assert "- `rank`: peak_mb 41.5" in text
    assert "curve" not in text
    assert "Ranks." in text
    assert "More." not in text
    assert text.count("Measured on: ") == 1


def test_there_is_no_ratio_to_nothing(tmp_path: Path) -> None:
    write({"write": [Row("write", 3.0, "ms", "nothing", 0.0, 5)]}, tmp_path)
    assert "| `write` | 3 ms | nothing | 0 ms | – | 5 |  |" in page(read_results(tmp_path), KNOWN)


def test_results_of_benchmarks_that_are_gone_are_left_out(tmp_path: Path) -> None:
    write({"gone": [row("gone")], "write": [row("write")]}, tmp_path)
    text = page(read_results(tmp_path), KNOWN)
    assert "gone" not in text
    assert "## write" in text


def test_without_results_there_is_no_page(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="nothing measured yet; run make bench first"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("value", "text"),
    [(41234.5, "41,234"), (1000, "1,000"), (0.01234, "0.0123"), (12.345, "12.3"), (-2000.0, "-2,000")],
)
def test_figures_are_short(value: float, text: str) -> None:
    assert figure(value) == text


def test_the_report_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "PAGE", tmp_path / "benchmarks.md")
    write({"rank": [row("rank")], "write": [row("write")]}, tmp_path / "bench")
    (tmp_path / "benchmarks.md").write_text("old")
    runner.write_page(read_results(tmp_path / "bench"), KNOWN)
    assert (tmp_path / "benchmarks.md").read_text() == page(read_results(tmp_path / "bench"), KNOWN)
