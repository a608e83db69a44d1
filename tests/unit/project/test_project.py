"""What the project promises of its own files: the lock, the hooks, the licence, the two commands."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def lock() -> str:
    return (ROOT / "requirements.lock").read_text()


def test_the_lock_names_no_index_and_no_address(lock: str) -> None:
    assert "://" not in lock
    named = [line for line in lock.splitlines() if line.startswith("-") or " @ " in line]
    assert named == []


def test_the_lock_pins_every_package_with_hashes(lock: str) -> None:
    entries = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"^ *#.*\n", "", lock, flags=re.MULTILINE))
    assert len(entries) > 100
    for entry in entries:
        assert PINNED.match(entry), entry[:80]
        assert "--hash=sha256:" in entry, entry[:80]


def test_the_lock_holds_every_direct_dependency_within_its_range(project: dict[str, Any], lock: str) -> None:
    pinned: dict[str, list[str]] = {}
    for name, version in PINNED.findall(lock):
        pinned.setdefault(canonicalize_name(name), []).append(version)
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    for requirement in map(Requirement, wanted):
        found = pinned.get(canonicalize_name(requirement.name), [])
        assert found, requirement.name
        assert all(version in requirement.specifier for version in found), requirement


def test_the_required_parts_are_direct_dependencies(project: dict[str, Any]) -> None:
    direct = {r.name: r for r in map(Requirement, project["project"]["dependencies"])}
    assert direct.keys() >= {
        *("dagster", "dagster-webserver", "feast", "duckdb", "pyarrow", "ibis-framework", "bytewax", "redis"),
        *("great-expectations", "fastapi", "uvicorn", "pydantic-settings", "prometheus-client"),
    }
    assert direct["feast"].extras == {"duckdb", "redis"}
    assert all(r.specifier for r in direct.values())
    assert project["project"]["requires-python"] == ">=3.11,<3.13"
    assert project["project"]["scripts"] == {"headrace": "orchestration.cli:main"}


def test_the_hooks_check_what_lint_checks() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    of_hooks = {" ".join(h["entry"].removeprefix(".venv/bin/").split()[:2]).split(" --")[0] for h in hooks}
    recipe = (ROOT / "Makefile").read_text().split("\nlint:")[1].split("\n\n")[0]
    of_lint = {
        re.sub(r" (--check|\.|tests).*", "", line.removeprefix("\t@$(BIN)/"))
        for line in recipe.splitlines()
        if line.startswith("\t")
    }
    assert of_hooks == of_lint == {"ruff check", "ruff format", "mypy", "lint-imports", "python -m"}


def test_ci_runs_the_command_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    assert script[-1] == "make test"
    assert "    make test" in (ROOT / "README.md").read_text()


def test_the_licence_is_apache(project: dict[str, Any]) -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert project["project"]["license"] == "Apache-2.0"


def test_the_changelog_has_the_part_for_what_is_not_released() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()


def test_no_folder_holds_more_modules_than_a_reader_can_oversee() -> None:
    """A folder that is full asks for a room of its own (docs/explanation/architecture.md)."""
    packages = ("feature_repo", "quality", "streaming", "serving", "orchestration")
    folders = {path.parent for package in packages for path in (ROOT / package).rglob("*.py")}
    counts = {folder: len(list(folder.glob("*.py"))) for folder in folders}
    assert {str(folder.relative_to(ROOT)): n for folder, n in counts.items() if n > 21} == {}
