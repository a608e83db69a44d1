"""Dagster's UI in a browser: the graph runs from the log to Feast's views, a check leads to its page."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from feature_repo.home import Home
from feature_repo.settings import Settings
from orchestration.defs.assembly import build_definitions
from orchestration.defs.jobs import CHAIN
from orchestration.processes.dagster_home import open_instance, prepare_instance
from orchestration.processes.page_server import serve_pages
from orchestration.runtime import Runtime
from tests.conftest import free_port
from tests.support.offline import click_group, day_events, write_events

DAY = date(2024, 5, 30)
NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[4]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EXPANDED = ",".join(f"global@global:{name}" for name in ("lake", "features", "feast", "models"))

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH"),
]


@pytest.fixture
def ui(home: Home) -> Iterator[str]:
    """The guarded webserver on `workspace.yaml`."""
    port = free_port()
    environment = {**os.environ, "HEADRACE_HOME": str(home.root), "DAGSTER_HOME": str(prepare_instance(home))}
    log = home.root / "ui.log"
    with log.open("wb") as out:
        command = [
            sys.executable,
            "-m",
            "orchestration.processes.dagster_ui",
            "-w",
            "workspace.yaml",
            "-p",
            str(port),
        ]
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


@pytest.fixture
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield found
        found.close()


def test_the_graph_shows_lineage_from_the_log_to_the_views(ui: str, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 4000, "height": 6000})
    page.goto(f"{ui}/asset-groups?expanded={EXPANDED}")
    for name in ("event_log", "user_profile", "segment_profile", "item_profile", "session_profile"):
        page.get_by_text(name, exact=True).first.wait_for(timeout=60_000, state="attached")
    assert "Failed to load" not in page.inner_text("body")


def test_no_page_of_another_site_reaches_the_api(ui: str) -> None:
    """Over real sockets: the right way, a rebound name, a foreign origin, a mutation by GET."""
    host, query = ui.removeprefix("http://"), {"query": "{ version }"}
    with httpx.Client(base_url=ui, timeout=60.0) as client:
        assert client.post("/graphql", json=query).json()["data"]["version"]
        assert client.post("/graphql", json=query, headers={"origin": ui}).status_code == 200
        assert client.get("/server_info", headers={"host": "rebound.example"}).status_code == 421
        foreign = {"origin": "https://evil.example", "host": host}
        assert client.post("/graphql", json=query, headers=foreign).status_code == 403
        by_get = 'mutation { terminateRun(runId: "x") { __typename } }'
        assert client.get("/graphql", params={"query": by_get}).status_code == 405


@pytest.fixture
def checked(settings: Settings, home: Home) -> Iterator[str]:
    """A chain that ran, and the address its pages are served at."""
    settings = settings.model_copy(update={"docs_port": free_port()})
    runtime = Runtime(settings, home, lambda: NOW, lambda *_: frozenset())
    write_events(runtime.lake, DAY, day_events(DAY, 40))
    with open_instance(home) as instance:
        job = build_definitions(runtime, (click_group(),)).resolve_job_def(CHAIN)
        assert job.execute_in_process(instance=instance, partition_key=DAY.isoformat()).success
    with serve_pages(settings, home) as (address, _):
        yield address


# The run comes before the browser: Playwright keeps an event loop in this thread.
def test_a_click_on_a_check_leads_to_its_page(checked: str, ui: str, browser: Any, tmp_path: Path) -> None:
    page = browser.new_page(viewport={"width": 1500, "height": 1100})
    page.goto(f"{ui}/assets/lake/events?view=checks&checkDetail=contract")
    link = page.locator(f'a[href^="{checked}"]').first
    link.wait_for(timeout=60_000)
    page.screenshot(path=tmp_path / "check.png")
    with page.context.expect_page() as opened:
        link.click(modifiers=["ControlOrMeta"])
    docs = opened.value
    # What a person waits for; the load event of a tab in the background may have passed already.
    docs.get_by_text("values must never be null").first.wait_for(timeout=60_000, state="attached")
    assert docs.url == f"{checked}/events_2024-05-30.html"
    docs.screenshot(path=tmp_path / "page.png")
    assert "values must never be null" in docs.inner_text("body")
