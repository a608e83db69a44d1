"""Decision records have a status and a line in the index, and every reference names one that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "docs" / "adr"
RECORDS = sorted(FOLDER.glob("[0-9]*.md"))
ROW = re.compile(r"^\| \[(\d{4})\]\(([^)]+)\) (.+?) \| (.+) \|$", re.MULTILINE)
REFERENCE = re.compile(r"(?:\bADRs? |docs/adr/)(\d+)")
CODE = ("feature_repo", "quality", "streaming", "serving", "orchestration", "benchmarks", "tests", "deploy")


def test_the_index_lists_every_record_once_under_its_title() -> None:
    listed = sorted((name, f"# {number} {title}") for number, name, title, _ in ROW.findall(index()))
    assert listed == [(path.name, path.read_text().splitlines()[0]) for path in RECORDS]


def test_the_index_says_one_sentence_of_each() -> None:
    odd = [says for *_, says in ROW.findall(index()) if not re.fullmatch(r"[^.]*(?:\.\d[^.]*)*\.", says)]
    assert odd == []


@pytest.mark.parametrize("path", RECORDS, ids=[path.name[:4] for path in RECORDS])
def test_a_record_has_its_number_a_status_and_the_usual_sections(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith(f"# {path.name[:4]} ")
    assert re.match(r"Status: (?:accepted|superseded by)\b", lines[2]), lines[2]
    sections = [line[3:] for line in lines if line.startswith("## ")]
    usual = ["Context", "Decision", "What was measured", "Consequences"]
    assert sections == [name for name in usual if name in sections]
    assert sections[:2] == usual[:2]


def test_numbers_are_unique_and_references_name_a_record() -> None:
    numbers = [path.name[:4] for path in RECORDS]
    assert len(numbers) == len(set(numbers))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    sources = [path for folder in CODE for path in (ROOT / folder).rglob("*.py")]
    unknown = [
        f"{path.relative_to(ROOT)}: {number}"
        for path in (*pages, *sources)
        for number in REFERENCE.findall(path.read_text())
        if number not in numbers
    ]
    assert unknown == []


def index() -> str:
    return (FOLDER / "README.md").read_text()
