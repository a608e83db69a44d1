"""Dagster's UI in a browser: the workspace loads, and the graph runs from the log to Feast's views."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from feature_repo.home import Home
from orchestration.instance import prepare_instance
from tests.conftest import free_port

ROOT = Path(__file__).resolve().parents[3]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EXPANDED = ",".join(f"global@global:{name}" for name in ("lake", "features", "feast", "models"))

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH"),
]


@pytest.fixture
def ui(home: Home) -> Iterator[str]:
    """The webserver on `workspace.yaml`, as `dagster dev` starts it."""
    port = free_port()
    environment = {**os.environ, "HEADRACE_HOME": str(home.root), "DAGSTER_HOME": str(prepare_instance(home))}
    log = home.root / "ui.log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "dagster_webserver", "-w", "workspace.yaml", "-p", str(port)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"{url}/server_info", timeout=1):
                    break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def test_the_graph_shows_lineage_from_the_log_to_the_views(ui: str) -> None:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": 4000, "height": 6000})
        page.goto(f"{ui}/asset-groups?expanded={EXPANDED}")
        for name in ("event_log", "user_profile", "segment_profile", "item_profile", "session_profile"):
            page.get_by_text(name, exact=True).first.wait_for(timeout=60_000, state="attached")
        assert "Failed to load" not in page.inner_text("body")
        browser.close()
