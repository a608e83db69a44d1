"""`headrace ingest --map`, `--suggest` and `--sql` as a person types them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from feature_repo.errors import SettingsError, SourceError
from feature_repo.home import Home
from orchestration.cli import app
from streaming.mapping.reading import parse_mapping
from streaming.mapping.saved import presets
from streaming.sources.formats import format_names

ROWS = "ts,customer,sku,action\n" + "".join(
    f"{1714557600 + n},c{n % 3},a{n},{('viewed', 'bought')[n % 2]}\n" for n in range(20)
)


@pytest.fixture
def run(home: Home, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("HEADRACE_HOME", str(home.root))
    monkeypatch.setenv("COLUMNS", "80")
    return lambda *words: CliRunner().invoke(app, ["ingest", *words])


@pytest.fixture
def export(tmp_path: Path) -> Path:
    path = tmp_path / "export.csv"
    path.write_text(ROWS)
    return path


def test_suggest_then_ingest(export: Path, tmp_path: Path, home: Home, run: Callable[..., Result]) -> None:
    proposal = run(str(export), "--suggest")
    assert proposal.exit_code == 0
    parse_mapping(proposal.stdout, "standard output is the mapping and nothing else")
    assert "10 of 20 events" in proposal.stderr
    assert "of the first 20 records 20 fit, 0 do not" in proposal.stderr
    tables = [line for line in proposal.stderr.splitlines() if line.startswith(("┃", "│"))]
    assert all(len(line) <= 80 for line in tables)
    assert not list(home.lake.glob("**/*.parquet"))
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(proposal.stdout)
    done = run(str(export), "--map", str(mapping), "--strict")
    assert done.exit_code == 0
    assert "20" in done.stdout


def test_problems_are_shown_with_rows(export: Path, run: Callable[..., Result]) -> None:
    export.write_text(ROWS.replace(",a3,", ",,").replace(",a5,", ",,"))
    shown = run(str(export), "--suggest").stderr
    assert "missing_field: item_id" in shown
    assert "5, 7" in shown
    assert "18 fit, 2 do not" in shown


def test_a_query_in_suggest_and_ingest(export: Path, run: Callable[..., Result]) -> None:
    query = f"SELECT * FROM '{export}'"
    assert '[event]\nevent_type = "action"' in run("--sql", query, "--suggest").stdout
    fields = "sku AS event_id, 'view' AS event_type, ts * 1000 AS event_time, customer AS session_id"
    with_names = f"SELECT {fields}, sku AS item_id FROM '{export}'"
    assert run("--sql", with_names, "--strict").exit_code == 0


def test_formats_by_the_name_of_a_preset(tmp_path: Path, run: Callable[..., Result]) -> None:
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n1,Heat (1995),Crime\n")
    assert run(str(tmp_path / "movies.csv"), "--map", "movielens", "--strict").exit_code == 0


def test_invalid_options_are_explained(export: Path, run: Callable[..., Result]) -> None:
    for words, error, message in (
        ([], SettingsError, "nothing to ingest; give files, URLs or --sql"),
        ([str(export), "--map", "ga5"], SourceError, "neither a file nor a preset"),
        ([str(export), "--map", "ga4", "-f", "metarank"], SettingsError, "give only one of the two"),
    ):
        result = run(*words)
        assert isinstance(result.exception, error)
        assert message in str(result.exception)


def test_help_names_every_preset(run: Callable[..., Result]) -> None:
    text = run("--help").stdout
    for name in presets():
        assert name in text


def test_formats_are_listed_without_a_file(run: Callable[..., Result]) -> None:
    listed = run("--format", "list")
    assert listed.exit_code == 0
    assert [line.partition(":")[0] for line in listed.stdout.splitlines()] == list(format_names())
