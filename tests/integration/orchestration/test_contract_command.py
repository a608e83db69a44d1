"""`headrace contract`: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from feature_repo.contract.validation import json_schema
from feature_repo.errors import SourceError
from orchestration.cli import app

PUBLISHED = Path(__file__).resolve().parents[3] / "docs" / "event.schema.json"


def headrace(*args: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args])


def test_schema_prints_what_is_published() -> None:
    result = headrace("contract", "schema")
    assert result.exit_code == 0
    assert result.output == PUBLISHED.read_text()


def test_the_published_schema_may_be_followed_by_this_version() -> None:
    result = headrace("contract", "check", PUBLISHED)
    assert (result.exit_code, result.output) == (0, "Compatible: no change.\n")


def test_check_says_which_change_breaks_and_why(tmp_path: Path) -> None:
    old, new = json_schema(), json_schema()
    new["$defs"]["Event"]["properties"]["channel"] = {"type": "string", "default": ""}
    (tmp_path / "old.json").write_text(json.dumps(old))
    (tmp_path / "new.json").write_text(json.dumps(new))
    forward = headrace("contract", "check", tmp_path / "old.json", tmp_path / "new.json")
    assert forward.exit_code == 0
    assert "ok        Event.channel: added as optional\nCompatible: 1 changes." in forward.output
    back = headrace("contract", "check", tmp_path / "new.json", tmp_path / "old.json")
    assert back.exit_code == 1
    assert "BREAKING  Event.channel: removed: old records carry it" in back.output
    assert "Not compatible: 1 of 1 changes break old records." in back.output


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, r"s\.json: no such file; `headrace contract schema > s\.json` writes"),
        ("{", r"s\.json: not a JSON Schema"),
        ("{}", r"s\.json: not a schema of this contract; `headrace contract schema` prints"),
    ],
)
def test_a_file_that_is_not_a_schema_is_named(tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / "s.json").write_text(content)
    result = headrace("contract", "check", tmp_path / "s.json")
    assert isinstance(result.exception, SourceError)
    with pytest.raises(SourceError, match=words):
        raise result.exception
