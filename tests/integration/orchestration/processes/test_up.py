"""When a process counts as up: the stream by its heartbeats, serving by its own word and answer."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from feature_repo.home import Home
from feature_repo.online import open_store
from feature_repo.settings import Settings
from orchestration.processes.children import Child, Children, ProcessError
from orchestration.processes.page_server import serve_pages
from orchestration.processes.up import DagsterProcesses, answers, stream_is_ready, wait_for_serving
from streaming.sessions.heartbeat import Heartbeat, write_heartbeats

SINCE = datetime(2024, 6, 1, 12, tzinfo=UTC)


def beat(partition: int, after_s: float = 1, behind_s: float = 0.0) -> Heartbeat:
    return Heartbeat(partition, None, SINCE + timedelta(seconds=after_s), behind_s)


@pytest.mark.parametrize(
    ("beats", "ready"),
    [
        ([], False),
        ([beat(0), beat(1)], True),
        ([beat(0)], False),
        ([beat(0), beat(1, after_s=-1)], False),
        ([beat(0), beat(1, behind_s=3)], False),
    ],
    ids=["none", "all", "one is missing", "one is of an earlier run", "one is behind"],
)
def test_the_stream_is_ready_when_every_partition_has_caught_up(
    settings: Settings, home: Home, beats: list[Heartbeat], ready: bool
) -> None:
    settings = settings.model_copy(update={"log_partitions": 2})
    store = open_store(settings, home)
    write_heartbeats(store, beats)
    store.close()
    assert stream_is_ready(settings, SINCE) is ready


class Readyz(BaseHTTPRequestHandler):
    """Answers 503 until `ready` is set."""

    ready = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200 if self.ready.is_set() and self.path == "/readyz" else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def address() -> Iterator[str]:
    Readyz.ready = threading.Event()
    with HTTPServer(("127.0.0.1", 0), Readyz) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def announcing(tmp_path: Path, text: str) -> Child:
    code = f"import time; print({text!r}, flush=True); time.sleep(600)"
    return Child("serving", [sys.executable, "-c", code], tmp_path / "serving.log")


def test_serving_is_up_when_the_address_it_names_says_ready(tmp_path: Path, address: str) -> None:
    Readyz.ready.set()
    with Children() as children:
        serving = children.start(announcing(tmp_path, f"serving on {address} (docs at {address}/docs)"))
        assert wait_for_serving(children, serving, 60) == address


def test_serving_that_is_not_ready_is_not_up(tmp_path: Path, address: str) -> None:
    with Children() as children:
        serving = children.start(announcing(tmp_path, f"serving on {address} (docs at {address}/docs)"))
        children.wait_for("its word", lambda: address in serving.said(), 60)
        with pytest.raises(ProcessError, match=r"serving did not answer within 0.2 s"):
            wait_for_serving(children, serving, 0.2)
        assert not answers(f"{address}/readyz")
        Readyz.ready.set()
        assert answers(f"{address}/readyz")
        assert not answers(f"{address}/elsewhere")


def test_serving_asked_to_stop_while_starting_has_no_address(tmp_path: Path) -> None:
    stop = threading.Event()
    with Children(stop) as children:
        serving = children.start(announcing(tmp_path, "loading"))
        stop.set()
        assert wait_for_serving(children, serving, 60) is None


def test_dagster_runs_on_its_prepared_home(settings: Settings, tmp_path: Path) -> None:
    dagster = DagsterProcesses(settings, tmp_path, 4322)
    code, daemon, webserver = dagster.code(), dagster.daemon(), dagster.webserver(4321)
    assert code.args[1:5] == ["-m", "dagster", "code-server", "start"]
    assert daemon.args[1:4] == ["-m", "dagster._daemon", "run"]
    assert webserver.args[1:3] == ["-m", "orchestration.processes.dagster_ui"]
    assert list(webserver.args[-4:]) == ["--host", "127.0.0.1", "--port", "4321"]
    for child in (code, daemon, webserver):
        assert child.env["HEADRACE_DOCS_PORT"] == "4322"
        folder = Path(child.env["DAGSTER_HOME"])
        assert folder == Home(settings.home.resolve()).dagster
        assert "freshness" in (folder / "dagster.yaml").read_text()
        assert child.env["HEADRACE_HOME"] == str(settings.home.resolve())


def test_the_ui_stays_on_this_machine_wherever_serving_listens(settings: Settings, tmp_path: Path) -> None:
    """`HEADRACE_HOST=0.0.0.0` opens rankings behind keys; the UI knows no keys."""
    beyond = settings.model_copy(update={"host": "0.0.0.0"})
    assert "127.0.0.1" in DagsterProcesses(beyond, tmp_path, 0).webserver(4321).args
    with serve_pages(beyond.model_copy(update={"docs_port": 0}), Home(settings.home)) as (address, _):
        assert address.startswith("http://127.0.0.1:")
