"""The documents name only what exists: files, commands, make targets and settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from feature_repo.settings import Settings
from orchestration.cli import app

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
NAMES = [str(p.relative_to(ROOT)) for p in PAGES]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
COMMAND = re.compile(r"(?:^|[`$ /])headrace ([a-z][a-z-]+)", re.MULTILINE)
TARGET = re.compile(r"(?:^\s+|`)make ([a-z]+)\b", re.MULTILINE)
SETTING = re.compile(r"HEADRACE_[A-Z][A-Z_]*[A-Z](?![A-Z_*])")
PLACE = re.compile(
    r"`((?:feature_repo|quality|streaming|serving|orchestration|benchmarks|tests|deploy)/[\w./*-]+)`"
)
OF_BENCHMARKS = {n for path in (ROOT / "benchmarks").glob("*.py") for n in SETTING.findall(path.read_text())}


def commands() -> set[str]:
    named = {c.name or getattr(c.callback, "__name__", "").replace("_", "-") for c in app.registered_commands}
    return named | {g.name or g.typer_instance.info.name for g in app.registered_groups}  # type: ignore[union-attr]


def code_of(text: str) -> str:
    """What a reader would type: indented lines, fences and `spans`."""
    spans = re.findall(r"`[^`\n]+`", text)
    lines = re.findall(r"^ {4}.+$", text, re.MULTILINE)
    fences = re.findall(r"```.*?```", text, re.DOTALL)
    return "\n".join([*spans, *lines, *fences])


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if not link.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_files_of_the_project_exist(page: Path) -> None:
    named = set(PLACE.findall(page.read_text()))
    assert [place for place in sorted(named) if not any(ROOT.glob(place.rstrip("/")))] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_exist(page: Path) -> None:
    named = set(COMMAND.findall(code_of(page.read_text())))
    assert named <= commands(), f"{page.name}: {named - commands()}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(TARGET.findall(code_of(page.read_text())))
    assert named <= targets, f"{page.name}: {named - targets}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_settings_exist(page: Path) -> None:
    known = {f"HEADRACE_{name}".upper() for name in Settings.model_fields} | OF_BENCHMARKS
    named = set(SETTING.findall(page.read_text()))
    assert named <= known, f"{page.name}: {named - known}"


def test_the_readme_begins_with_what_it_is_and_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.index("make demo") < text.index("make test") < text.index("/v1/rank")
