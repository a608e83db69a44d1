"""Feast's own command line in a fresh clone: from the root and from the folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from feature_repo.groups import all_groups

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "feature_repo", tmp_path / "clone" / "feature_repo", ignore=ignored)
    return tmp_path / "clone"


def feast(folder: Path, *words: str, path: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "feast.cli.cli", *words],
        cwd=folder,
        env={**environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_apply_and_list_from_the_root_and_from_the_folder(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner  # noqa: PLC0415
    from feast.cli.cli import cli  # noqa: PLC0415

    applied = feast(clone, "-c", "feature_repo", "apply", path=".")
    for group in all_groups().values():
        assert group.view_name in applied
    assert "ranking_v1" in applied
    assert "Could not validate" not in applied
    # From the folder, in this process: starting Feast twice takes its time.
    monkeypatch.chdir(clone / "feature_repo")
    done = CliRunner().invoke(cli, ["feature-views", "list"])
    assert done.exit_code == 0, done.output
    listed = done.output[done.output.index("NAME") :]
    assert {line.split()[0] for line in listed.splitlines()[1:] if line.strip()} == {
        group.view_name for group in all_groups().values()
    }
    assert sorted(p.name for p in (clone / "var" / "feast").iterdir()) == ["online.db", "registry.db"]


def test_only_the_definitions_are_scanned() -> None:
    from feast.repo_operations import get_repo_files  # noqa: PLC0415

    assert [p.name for p in get_repo_files(ROOT / "feature_repo")] == ["definitions.py"]


def test_the_configuration_keeps_the_layout_that_headrace_writes() -> None:
    found = yaml.safe_load((ROOT / "feature_repo" / "feature_store.yaml").read_text())
    assert found["project"] == "headrace"
    assert found["entity_key_serialization_version"] == 3
