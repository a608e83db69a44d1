"""Metrics endpoint, status table and the pieces around the flow."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from typer.testing import CliRunner

from feature_repo.contract.validation import Item, User, to_arrow
from feature_repo.errors import SettingsError, StoreError
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.online import open_store
from feature_repo.settings import Settings
from orchestration.cli import app
from orchestration.monitoring import status
from orchestration.monitoring.status import sections, stream_section
from streaming.dataflow.flow_metrics import StreamMetrics, serve_metrics
from streaming.dataflow.native_output import native_output_to
from streaming.dataflow.stream_errors import own_error
from streaming.sessions.heartbeat import Counts, Heartbeat, write_heartbeats
from streaming.sessions.item_catalogue import Knowledge
from tests.conftest import free_port
from tests.support.stream_support import T0, event, publish, stream_to_end


def beat(home: Home, settings: Settings, *heartbeats: Heartbeat) -> None:
    store = open_store(settings, home)
    write_heartbeats(store, heartbeats)
    store.close()


def test_metrics_follow_the_heartbeats_and_survive_a_restart_of_counting() -> None:
    registry = CollectorRegistry()
    metrics = StreamMetrics.register(registry)
    metrics.observe(Heartbeat(1, T0, T0 + timedelta(seconds=3), 0.5, Counts(10, 7, 1, 1, 1), 4, 400))
    metrics.observe(Heartbeat(1, T0, T0 + timedelta(seconds=4), 0.0, Counts(12, 9, 1, 1, 1), 5, 500))
    metrics.observe(Heartbeat(1, None, T0, 0.0, Counts(1, 1), 1, 9))
    text = generate_latest(registry).decode()
    for line in (
        'headrace_stream_records_total{partition="1"} 12.0',
        'headrace_stream_folded_total{partition="1"} 9.0',
        'headrace_stream_duplicate_total{partition="1"} 1.0',
        'headrace_stream_late_total{partition="1"} 1.0',
        'headrace_stream_quarantined_total{partition="1"} 1.0',
        'headrace_stream_sessions{partition="1"} 1.0',
        'headrace_stream_state_bytes{partition="1"} 9.0',
        'headrace_stream_event_time_lag_seconds{partition="1"} 4.0',
        'headrace_stream_processing_lag_seconds{partition="1"} 0.0',
    ):
        assert line in text


def test_the_flow_counts_into_the_processes_own_metrics(home: Home) -> None:
    settings = Settings(home=home.root, log_partitions=1)
    publish(settings, [event(1, 0), event(1, 0)])
    stream_to_end(settings)
    port = free_port()
    stop = serve_metrics("127.0.0.1", port)
    try:
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
        for name in ("folded", "duplicate", "written"):
            assert f'headrace_stream_{name}_total{{partition="0"}}' in page
        with pytest.raises(SettingsError, match=f"HEADRACE_STREAM_METRICS_PORT: .*:{port} .*another stream"):
            serve_metrics("127.0.0.1", port)
        with pytest.raises(SettingsError, match=r"HEADRACE_STREAM_METRICS_PORT: .*:65536 "):
            serve_metrics("127.0.0.1", 65_536)
    finally:
        stop()


def test_processes_that_do_not_know_of_each_other_take_the_next_free_port(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    port = free_port()
    stops = [serve_metrics("127.0.0.1", port, tries=20) for _ in range(2)]
    try:
        urls = re.findall(r"metrics at (\S+)", caplog.text)
        assert urls[0] == f"http://127.0.0.1:{port}/metrics"
        assert urls[1] not in {urls[0], ""}
        assert b"headrace_stream" in urllib.request.urlopen(urls[1], timeout=10).read()
    finally:
        for stop in stops:
            stop()


def test_native_output_goes_to_its_file_and_ours_where_it_went_before(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log, handler = logging.getLogger("headrace.test"), logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    try:
        with native_output_to(tmp_path / "stream" / "native.log"):
            os.write(2, b"thread panicked\n")
            os.write(1, b"connecting\n")
            log.warning("ours")
            sys.stderr.write("also ours\n")
            sys.excepthook(RuntimeError, RuntimeError("a panic"), None)  # as `PyErr_Print` of native code
        log.warning("as before")
        os.write(2, b"native again\n")
    finally:
        logging.getLogger().removeHandler(handler)
    assert (
        tmp_path / "stream" / "native.log"
    ).read_text() == "thread panicked\nconnecting\nRuntimeError: a panic\n"
    said = capfd.readouterr()
    assert said.err.split("\n") == ["ours", "also ours", "as before", "native again", ""]
    assert said.out == ""


def test_status_says_when_no_stream_ever_ran(home: Home) -> None:
    section = stream_section(Settings(home=home.root), home)
    assert not section.healthy
    assert section.note == "no heartbeat yet: start it with `headrace stream`"


def test_status_shows_every_partition_and_who_is_stale(home: Home) -> None:
    settings, now = Settings(home=home.root), datetime.now(UTC)
    beat(
        home,
        settings,
        Heartbeat(0, now - timedelta(hours=3), now, 0.0, Counts(1200, 1100, 60, 30, 10, 900), 7, 3 << 20),
        Heartbeat(1, None, now - timedelta(minutes=9)),
    )
    section = stream_section(settings, home)
    table = {row[0]: row[1:] for row in section.rows}
    assert section.columns == ("partition", "0", "1")
    assert table["event lag"] == ("3 h", "–")
    assert table["lag"][1] == "9 min"
    assert (table["read"][0], table["written"][0], table["state"][0]) == ("1,200", "900", "3.0 MiB")
    assert not section.healthy
    assert section.note == "partition 1 is stale: is `headrace stream` running?"


def test_status_counts_the_partitions_that_are_stale(home: Home) -> None:
    settings, old = Settings(home=home.root), datetime.now(UTC) - timedelta(minutes=9)
    beat(home, settings, Heartbeat(0, None, old), Heartbeat(1, None, old))
    note = stream_section(settings, home).note
    assert note == "partitions 0, 1 are stale: is `headrace stream` running?"


def test_a_backlog_is_lag_even_while_the_heart_beats(home: Home) -> None:
    settings, now = Settings(home=home.root), datetime.now(UTC)
    beat(home, settings, Heartbeat(0, now, now, behind_s=settings.stream_stale_s + 1))
    assert not stream_section(settings, home).healthy


def test_status_of_a_healthy_stream_exits_zero(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(home.root))
    # Other areas' sections are theirs to test.
    monkeypatch.setattr(status, "PROVIDERS", (stream_section,))
    now = datetime.now(UTC)
    beat(home, Settings(home=home.root), Heartbeat(0, now, now))
    done = CliRunner().invoke(app, ["status"])
    assert done.exit_code == 0, done.output
    assert "stream: segments → sqlite" in done.output


def test_a_section_that_fails_says_so_and_hides_no_other(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken_section(settings: Settings, home: Home) -> Any:
        message = "Redis at 127.0.0.1:1 failed"
        raise StoreError(message)

    monkeypatch.setattr(status, "PROVIDERS", (broken_section, stream_section))
    first, second = sections(Settings(home=home.root), home)
    assert (first.title, first.healthy, first.note) == ("broken", False, "Redis at 127.0.0.1:1 failed")
    assert second.title.startswith("stream")


def test_knowledge_reads_new_lake_files_and_prefers_what_it_heard(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    lake, now = Lake(home.lake), [0.0]
    knowledge = Knowledge(lake, lambda: now[0])
    knowledge.refresh_sometimes()
    assert knowledge.facts == {}

    write(lake, "item", "1", Item(item_id="a", price=1.0), Item(item_id="b", price=1.0))
    write(lake, "user", "1", User(user_id="u", consent=False))
    knowledge.refresh_sometimes()
    assert knowledge.facts == {}  # looked a moment ago
    now[0] += 10
    knowledge.refresh_sometimes()
    assert knowledge.facts["a"].price == 1.0
    assert knowledge.denies("u")
    assert not knowledge.denies(None)

    knowledge.hear(Item(item_id="a", price=2.0))
    knowledge.hear(User(user_id="u"))
    write(lake, "item", "2", Item(item_id="a", price=9.0), Item(item_id="b", price=3.0))
    (lake.folder("item") / "3.parquet").write_bytes(b"no parquet")
    knowledge.refresh()
    assert (knowledge.facts["a"].price, knowledge.facts["b"].price) == (2.0, 3.0)
    assert not knowledge.denies("u")
    assert "3.parquet cannot be read" in caplog.text


def write(lake: Lake, kind: Any, name: str, *records: Item | User) -> None:
    lake.folder(kind).mkdir(parents=True, exist_ok=True)
    pq.write_table(to_arrow(kind, records, T0), lake.folder(kind) / f"{name}.parquet")


def test_our_error_is_found_under_bytewaxs() -> None:
    ours, theirs, outer = StoreError("store gone"), RuntimeError("in a step"), RuntimeError("in the flow")
    theirs.__cause__, outer.__cause__ = ours, theirs
    assert own_error(outer) is own_error(ours) is ours
    assert own_error(ValueError()) is None


@pytest.mark.parametrize(
    "arguments", [["stream", "--help"], ["status", "--help"], ["backfill", "sessions", "--help"]]
)
def test_help_teaches_with_an_example(arguments: list[str]) -> None:
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "120"})
    assert done.exit_code == 0
    assert f"headrace {' '.join(arguments[:-1])}" in done.output


def test_a_quiet_collector_lets_the_process_end_without_a_word_of_leaks() -> None:
    code = "import duckdb\nfrom streaming.dataflow.worker import quiet_collector\n"
    code += "held = duckdb.connect()\nquiet_collector()\n"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")
