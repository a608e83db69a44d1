"""The console script: it answers at once and never shows a stack trace for an error of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from feature_repo.errors import SourceError
from orchestration import cli

HEAVY = (
    "dagster",
    "feast",
    "great_expectations",
    "duckdb",
    "bytewax",
    "pandas",
    "pyarrow",
    "ibis",
    "scipy",
    "fastapi",
)


def test_help_imports_nothing_heavy() -> None:
    # This keeps `headrace --help` under half a second; a timing here would only measure the machine.
    code = f"import sys, orchestration.cli; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == []


def test_help_names_every_command_with_a_line_of_help() -> None:
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    headrace = Path(sys.executable).with_name("headrace")
    done = subprocess.run(
        [headrace, "--help"], capture_output=True, text=True, env=environment, timeout=60, check=True
    )
    for command in typer.main.get_group(cli.app).commands.values():
        if command.name and not command.hidden:
            assert command.name in done.stdout
            assert command.help or command.get_short_help_str(), command.name


def test_an_error_of_ours_is_one_line_and_exit_code_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        msg = "events.jsonl: no such file; give the path of a JSONL, CSV or Parquet file"
        raise SourceError(msg)

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert (
        err.strip() == "headrace: events.jsonl: no such file; give the path of a JSONL, CSV or Parquet file"
    )
    assert "Traceback" not in err
