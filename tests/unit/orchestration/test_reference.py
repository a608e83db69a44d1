from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from feature_repo.group import NON_NEGATIVE, USER, DType, Feature, FeatureGroup
from feature_repo.groups import all_groups
from feature_repo.settings import Settings
from orchestration.cli import app
from orchestration.reference_docs import group_page, pages, settings_page, write_pages

REFERENCE = Path(__file__).resolve().parents[3] / "docs" / "reference"


@pytest.mark.parametrize("name", sorted(pages()))
def test_the_published_page_is_current(name: str) -> None:
    assert (REFERENCE / name).read_text("utf-8") == pages()[name], "run `headrace docs`"


def test_no_page_is_left_of_a_group_that_is_gone() -> None:
    assert {p.name for p in REFERENCE.glob("*.md") if p.read_text().startswith("<!-- Written by")} == set(
        pages()
    )


def test_every_setting_is_listed_once_with_its_meaning() -> None:
    lines = [line for line in settings_page().splitlines() if line.startswith("| `HEADRACE_")]
    assert [line.split("`")[1] for line in lines] == [f"HEADRACE_{n.upper()}" for n in Settings.model_fields]
    assert not [line for line in lines if line.endswith("|  |")]


def test_every_feature_is_on_its_groups_page() -> None:
    for group in all_groups().values():
        page = group_page(group)
        assert [n for n in group.feature_names if f"| `{n}` |" not in page] == []


def test_a_page_says_unit_meaning_and_checks() -> None:
    group = FeatureGroup(
        name="taste",
        entity=USER,
        meaning="What is liked.",
        features=(Feature("spend", DType.FLOAT64, "Money | spent.", "EUR", (NON_NEGATIVE,)),),
        freshness=timedelta(hours=26),
        ttl=timedelta(seconds=90),
        version=2,
    )
    page = group_page(group)
    assert (
        "| `spend` | float64 | EUR | Money \\| spent. | a value in at least one row (warning); "
        "finite numbers; values ≥ 0 |"
    ) in page
    assert "| counts as stale after | 26 h |" in page
    assert "| a row counts as absent after | 90 s |" in page
    assert "| Feast view | `taste_v2` |" in page
    assert "- `user_id`: each value once" in page


def test_writing_touches_only_what_changed_and_removes_pages_of_gone_groups(tmp_path: Path) -> None:
    assert {p.name for p in write_pages(tmp_path)} == set(pages())
    assert write_pages(tmp_path) == []
    (tmp_path / "settings.md").write_text("old")
    (tmp_path / "gone.md").write_text((tmp_path / "README.md").read_text())
    (tmp_path / "own.md").write_text("# Written by hand")
    assert [p.name for p in write_pages(tmp_path)] == ["gone.md", "settings.md"]
    assert (tmp_path / "own.md").exists()


def test_the_command_writes_and_checks(tmp_path: Path) -> None:
    runner = CliRunner()
    old = runner.invoke(app, ["docs", "--check", "--out", str(tmp_path)])
    assert old.exit_code == 1
    assert "run `headrace docs`" in old.output
    assert runner.invoke(app, ["docs", "--out", str(tmp_path)]).exit_code == 0
    assert runner.invoke(app, ["docs", "--check", "--out", str(tmp_path)]).exit_code == 0
