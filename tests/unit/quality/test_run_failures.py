"""Failed runs are counted once each, kept in bounds, and shown as metrics."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from feature_repo.errors import LakeError
from quality.run_failures import KEPT, Failures, RunFailure, RunFailuresCollector, add_failure, read_failures

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)


def failure(run: str, job: str = "feature_chain", **more: object) -> RunFailure:
    facts = {"partition": "2024-06-01", "step": "features__clicks", "error": "no space", "time": NOW, **more}
    return RunFailure(run=run, job=job, **facts)  # type: ignore[arg-type]


def test_there_are_none_at_first(tmp_path: Path) -> None:
    assert read_failures(tmp_path) == Failures()


def test_each_run_counts_once_and_the_newest_are_kept(tmp_path: Path) -> None:
    assert [add_failure(tmp_path, failure("a")) for _ in range(2)] == [True, False]
    for number in range(KEPT):
        add_failure(tmp_path, failure(f"r{number}", job="retention"))
    found = read_failures(tmp_path)
    assert found.totals == {"feature_chain": 1, "retention": KEPT}
    assert [f.run for f in found.recent] == [f"r{n}" for n in range(KEPT)]


def test_the_line_names_run_day_step_and_error() -> None:
    assert failure("0123456789").line == (
        "run 01234567: feature_chain of 2024-06-01 failed at features__clicks: no space"
    )
    assert failure("01234567", partition="", step="").line == "run 01234567: feature_chain failed: no space"


def test_a_damaged_file_is_named_and_set_aside_by_the_next_failure(tmp_path: Path) -> None:
    (tmp_path / "failures.json").write_bytes(b"\xff{")
    with pytest.raises(LakeError, match=r"failures\.json: not a list of failed runs .*; remove it"):
        read_failures(tmp_path)
    assert add_failure(tmp_path, failure("a"))
    assert read_failures(tmp_path).totals == {"feature_chain": 1}
    assert len(list(tmp_path.glob("*.damaged"))) == 1


def test_metrics_count_by_job_and_survive_a_damaged_file(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    registry.register(RunFailuresCollector(tmp_path))
    add_failure(tmp_path, failure("a"))
    add_failure(tmp_path, failure("b", time=NOW + timedelta(hours=1)))
    text = generate_latest(registry).decode()
    assert 'headrace_run_failures_total{job="feature_chain"} 2.0' in text
    last = (NOW + timedelta(hours=1)).timestamp()
    assert registry.get_sample_value("headrace_run_last_failure_seconds", {"job": "feature_chain"}) == last
    (tmp_path / "failures.json").write_bytes(b"[]")
    assert 'job="feature_chain"' not in generate_latest(registry).decode()
