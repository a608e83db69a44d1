"""Feast's own command line in a fresh clone: from the root and from the folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from feature_repo.groups import all_groups
from tests.conftest import free_port

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
    from click.testing import CliRunner
    from feast.cli.cli import cli

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
    from feast.repo_operations import get_repo_files

    assert [p.name for p in get_repo_files(ROOT / "feature_repo")] == ["definitions.py"]


def test_the_configuration_keeps_the_layout_that_headrace_writes() -> None:
    found = yaml.safe_load((ROOT / "feature_repo" / "feature_store.yaml").read_text())
    assert found["project"] == "headrace"
    assert found["entity_key_serialization_version"] == 3


def test_the_ui_opens_on_this_machine_alone(tmp_path: Path) -> None:
    """`headrace feast ui` from an empty home: the page, and the feature views that it asks for."""
    port, environment = free_port(), {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    with (tmp_path / "log").open("w") as log:
        ui = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "orchestration.cli", "feast", "ui", "--port", str(port)],
            cwd=ROOT,
            env={**environment, "HEADRACE_HOME": str(tmp_path / "home")},
            stdout=log,
            stderr=log,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30.0) as client:
            page = _answer(client, "/", ui)
            views = _answer(client, "/api/v1/feature_views?project=headrace", ui).json()
    finally:
        ui.terminate()
        ui.wait(30)
    assert "feast" in page.text.lower()
    found = {view["spec"]["name"] for view in views["featureViews"]}
    assert found == {group.view_name for group in all_groups().values()}
    printed = (tmp_path / "log").read_text()
    assert f"Feast's UI: http://127.0.0.1:{port}" in printed
    assert "0.0.0.0" not in printed


def _answer(client: httpx.Client, path: str, process: subprocess.Popen[bytes]) -> httpx.Response:
    """The answer of a server that is still starting."""
    for attempt in Retrying(
        retry=retry_if_exception_type(httpx.ConnectError), stop=stop_after_delay(120), wait=wait_fixed(0.1)
    ):
        with attempt:
            assert process.poll() is None
            response = client.get(path)
    assert response.status_code == 200, response.text
    return response
