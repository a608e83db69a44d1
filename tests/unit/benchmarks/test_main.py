"""Running benchmarks apart: one that fails or hangs costs only its own figures."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import __main__ as runner
from benchmarks.harness import Benchmark, Row, write
from benchmarks.report import read_rows


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_success_failure_and_a_hang_are_distinguished() -> None:
    assert runner.run_apart(python("pass"), 60) == ""
    assert runner.run_apart(python("raise SystemExit(3)"), 60) == "code 3"
    start = time.monotonic()
    assert runner.run_apart(python("import time; time.sleep(600)"), 0.5) == "ended after 0.5 s"
    assert time.monotonic() - start < 300


def test_what_a_benchmark_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    left = tmp_path / "pid"
    code = (
        "import pathlib, subprocess, sys;"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        f"pathlib.Path({str(left)!r}).write_text(str(p.pid))"
    )
    assert runner.run_apart(python(code), 60) == ""
    stat = Path(f"/proc/{left.read_text()}/stat")
    deadline = time.monotonic() + 30
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_those_that_share_a_function_run_together() -> None:
    def shared() -> list[Row]:
        return []

    def alone() -> list[Row]:
        return []

    chosen = [
        Benchmark("a", "m", shared, {}),
        Benchmark("b", "n", alone, {}),
        Benchmark("c", "m", shared, {}),
    ]
    assert [[b.name for b in group] for group in runner.groups(chosen)] == [["a", "c"], ["b"]]


def test_a_failing_one_does_not_stop_the_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    found = {n: Benchmark(n, n, (lambda n=n: [Row(n, 1.0, "s", "x", 2.0, 1)]), {}) for n in ("bad", "good")}  # type: ignore[misc]
    monkeypatch.setattr(runner, "discover", lambda: found)

    def apart(command: list[str], limit_s: float) -> str:
        name = command[-1]
        if name == "bad":
            return "code 1"
        write({name: found[name].run()}, tmp_path / "bench")
        return ""

    monkeypatch.setattr(runner, "run_apart", apart)
    with pytest.raises(runner.typer.Exit):
        runner.main(None)
    said = capsys.readouterr().out
    assert "failed: bad (code 1)" in said
    assert read_rows(tmp_path / "bench" / "good.json") == [Row("good", 1.0, "s", "x", 2.0, 1)]


def test_a_benchmark_may_ask_for_more_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    found = {n: Benchmark(n, n, (lambda n=n: [Row(n, 1.0, "s", "x", 2.0, 1)]), {}) for n in ("long", "short")}  # type: ignore[misc]
    found["long"] = replace(found["long"], limit_s=900.0)
    monkeypatch.setattr(runner, "discover", lambda: found)
    limits = {}

    def apart(command: list[str], limit_s: float) -> str:
        limits[command[-1]] = limit_s
        return "code 1"

    monkeypatch.setattr(runner, "run_apart", apart)
    with pytest.raises(runner.typer.Exit):
        runner.main(None, limit_s=60.0)
    assert limits == {"long": 900.0, "short": 60.0}


def test_here_runs_and_writes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    rows = [Row("one", 1.0, "s", "x", 2.0, 1), Row("one_p99", 3.0, "s", "x", 2.0, 1)]
    monkeypatch.setattr(runner, "discover", lambda: {"one": Benchmark("one", "one", lambda: rows, {})})
    runner.main(["one"], here=True)
    assert "one.json" in capsys.readouterr().out.replace("\n", "")  # a long folder is wrapped
    assert read_rows(tmp_path / "bench" / "one.json") == rows
