"""The built pages over HTTP: where checks link to, what is served, to whom."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import httpx
import pytest
from typer.testing import CliRunner

from feature_repo.errors import SettingsError
from feature_repo.home import Home
from feature_repo.settings import Settings
from orchestration.cli import app
from orchestration.defs.assembly import build_definitions
from orchestration.defs.jobs import CHAIN
from orchestration.processes import up
from orchestration.processes.page_server import page_url, serve_pages
from orchestration.runtime import Runtime
from tests.conftest import free_port
from tests.support.offline import click_group, day_events, write_events

DAY = date(2024, 5, 30)
NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def served(settings: Settings, home: Home) -> Iterator[tuple[Settings, str]]:
    found = settings.model_copy(update={"docs_port": free_port()})
    with serve_pages(found, home) as (address, port):
        assert port == found.docs_port
        yield found, address


def test_the_link_of_a_check_leads_to_its_page(served: tuple[Settings, str], home: Home) -> None:
    settings, address = served
    runtime = Runtime(settings, home, lambda: NOW, lambda *_: frozenset())
    write_events(runtime.lake, DAY, day_events(DAY, 40))
    with dg.DagsterInstance.ephemeral() as instance:
        job = build_definitions(runtime, (click_group(),)).resolve_job_def(CHAIN)
        result = job.execute_in_process(instance=instance, partition_key=DAY.isoformat())
    links = {
        found.asset_key.to_user_string(): found.metadata["data_docs"].value
        for found in result.get_asset_check_evaluations()
        if "data_docs" in found.metadata
    }
    assert set(links) == {"lake/events", "features/clicks", "feast/clicks"}
    for name, link in links.items():
        page = httpx.get(str(link))
        assert page.status_code == 200, name
        assert page.headers["Content-Type"].startswith("text/html")
        assert "Expectation" in page.text, name
    index = httpx.get(f"{address}/")
    assert "Data Docs" in index.text
    assert 'href="clicks.html"' in index.text


@pytest.mark.parametrize(
    ("given", "link"),
    [
        ({}, "http://127.0.0.1:3002/drift/a%20b/index.html"),
        ({"ui_host": "0.0.0.0", "docs_port": 1}, "http://127.0.0.1:1/drift/a%20b/index.html"),
        ({"ui_host": "::"}, "http://[::1]:3002/drift/a%20b/index.html"),
        ({"docs_url": "https://shop.example/docs/"}, "https://shop.example/docs/drift/a%20b/index.html"),
    ],
)
def test_a_page_has_an_address(settings: Settings, home: Home, given: dict[str, str], link: str) -> None:
    settings = settings.model_copy(update=given)
    assert page_url(settings, home, home.docs / "drift" / "a b" / "index.html") == link


def test_pages_are_served_to_no_other_name_and_run_no_script(
    served: tuple[Settings, str], home: Home
) -> None:
    _, address = served
    (home.docs / "a.html").write_text("secret")
    (home.root / "outside.html").write_text("outside")
    found = httpx.get(f"{address}/a.html")
    assert found.text == "secret"
    assert "script-src 'none'" in found.headers["Content-Security-Policy"]
    assert found.headers["Cache-Control"] == "no-cache"
    foreign = httpx.get(f"{address}/a.html", headers={"Host": "rebound.example"})
    assert foreign.status_code == 421
    assert "HEADRACE_DOCS_URL" in foreign.text
    assert "secret" not in foreign.text
    assert httpx.get(f"{address}/none.html").status_code == 404
    assert httpx.post(f"{address}/a.html").status_code == 501
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as raw:
        raw.sendall(b"GET /../outside.html HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
    assert b"404" in answer.splitlines()[0]
    assert b"outside\n" not in answer


def test_the_name_of_the_setting_is_served(settings: Settings, home: Home) -> None:
    settings = settings.model_copy(update={"docs_port": 0, "docs_url": "https://shop.example"})
    with serve_pages(settings, home) as (address, port):
        assert address == "https://shop.example"
        assert httpx.get(f"http://127.0.0.1:{port}/", headers={"Host": "shop.example"}).is_success


def test_a_port_that_is_taken_is_named(settings: Settings, home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        wanted = rf"HEADRACE_DOCS_PORT={port}: cannot listen on 127.0.0.1 .*another \(0: any free one\)"
        with (
            pytest.raises(SettingsError, match=wanted),
            serve_pages(settings.model_copy(update={"docs_port": port}), home),
        ):
            pytest.fail("two servers on one port")


def test_the_command_serves_until_it_is_stopped(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(home.root))
    monkeypatch.setenv("HEADRACE_DOCS_PORT", "0")
    stop = threading.Event()
    stop.set()
    monkeypatch.setattr(up, "stop_on_signals", lambda: stop)
    result = CliRunner().invoke(app, ["quality", "docs"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("http://127.0.0.1:")


def test_links_that_lead_out_of_the_folder_are_not_followed(
    served: tuple[Settings, str], home: Home, tmp_path: Path
) -> None:
    _, address = served
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "index.html").write_text("secret")
    (home.docs / "page.html").write_text("page")
    (home.docs / "alias.html").symlink_to(home.docs / "page.html")
    (home.docs / "file.html").symlink_to(secret / "index.html")
    (home.docs / "folder").symlink_to(secret)
    (home.docs / "loop.html").symlink_to(home.docs / "loop.html")
    (home.docs / "inside").mkdir()
    (home.docs / "inside" / "index.html").symlink_to(secret / "index.html")
    for path in ("page.html", "alias.html"):
        assert httpx.get(f"{address}/{path}").text == "page"
    for path in ("file.html", "folder/", "folder/index.html", "loop.html", "inside/", "inside/index.html"):
        answer = httpx.get(f"{address}/{path}", follow_redirects=True)
        assert (answer.status_code, "secret" in answer.text) == (404, False), path


@pytest.mark.parametrize(
    ("given", "location"),
    [
        ({"dagster_port": 3999}, "http://localhost:3999/assets/lake/a%20b"),
        ({"dagster_url": "https://dagster.example/"}, "https://dagster.example/assets/lake/a%20b"),
    ],
)
def test_pages_lead_to_the_asset_in_dagster(
    settings: Settings, home: Home, given: dict[str, object], location: str
) -> None:
    settings = settings.model_copy(update={"docs_port": 0, **given})
    with serve_pages(settings, home) as (_, port):
        found = httpx.get(f"http://localhost:{port}/asset/lake/a%20b")
        assert (found.status_code, found.headers["Location"]) == (302, location)
        # Neither a host nor a line of a header comes out of a path.
        odd = httpx.get(f"http://localhost:{port}/asset//evil.example/%0d%0aSet-Cookie:%20a=b")
        assert odd.headers["Location"].startswith(location.removesuffix("lake/a%20b"))
        assert "Set-Cookie" not in odd.headers


def test_an_unknown_dagster_is_reported(settings: Settings, home: Home) -> None:
    with serve_pages(settings.model_copy(update={"docs_port": 0, "dagster_port": 0}), home) as (_, port):
        answer = httpx.get(f"http://127.0.0.1:{port}/asset/lake/events")
        assert answer.status_code == 404
        assert "HEADRACE_DAGSTER_URL" in answer.text


def test_no_folder_is_listed(served: tuple[Settings, str], home: Home) -> None:
    _, address = served
    (home.docs / "drift" / "group").mkdir(parents=True)
    (home.docs / "drift" / "group" / "secret.png").write_text("")
    answer = httpx.get(f"{address}/drift/group/")
    assert (answer.status_code, "secret.png" in answer.text) == (404, False)
    assert "Nothing has been checked yet" in httpx.get(f"{address}/").text
