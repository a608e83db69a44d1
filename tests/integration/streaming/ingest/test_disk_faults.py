"""A disk that takes no more, and a store file deleted under the stream: one line, nothing lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import prometheus_client
import pytest
import redis
from pydantic import SecretStr

from feature_repo.errors import LakeError, LogError, StoreError
from feature_repo.groups.session_profile import GROUP
from feature_repo.home import Home
from feature_repo.online import OnlineRow, open_store
from feature_repo.settings import Settings
from streaming.dataflow.service import run_stream
from streaming.ingest.files import lake_writer
from streaming.log import open_log
from tests.conftest import RedisServer, free_port
from tests.support.stream_process import kill, start, streaming, until
from tests.support.stream_support import (
    T0,
    event,
    expected,
    publish,
    publish_raw,
    session_values,
    stream_to_end,
    traffic,
)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[Path, str], None]]:
    """A small file system in a folder; only root may mount one."""
    made: list[Path] = []

    def mounted(folder: Path, size: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
            pytest.skip("only root may mount a file system")
        made.append(folder)

    yield mounted
    for folder in made:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def grow(folder: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def to_end(settings: Settings, said: Path) -> tuple[int, str]:
    """Exit code and last words of a stream that is to end with the log."""
    process = start(settings, "--to-end", said=said)
    try:
        return process.wait(120), said.read_text()
    finally:
        kill(process)


@pytest.mark.parametrize("free_kb", [0, 60, 300])
def test_a_full_state_disk_ends_the_stream_in_one_line(
    settings: Settings,
    home: Home,
    mount: Callable[[Path, str], None],
    tmp_path: Path,
    free_kb: int,
) -> None:
    """Whether Bytewax's files or ours meet it first; with room again it goes on, exact."""
    events = traffic(4000, sessions=900)
    small = settings.model_copy(update={"log_partitions": 2, "snapshot_s": 0.05, "stream_batch_size": 200})
    mount(home.stream, "1m")
    publish(small, events[:10])
    stream_to_end(small)
    publish(small, events[10:])
    room = os.statvfs(home.stream).f_bavail * os.statvfs(home.stream).f_frsize
    ballast = home.stream / "ballast"
    ballast.write_bytes(bytes(max(room - free_kb * 1024, 0)))

    code, text = to_end(small, tmp_path / "said")

    assert code == 2, text
    assert "Traceback" not in text
    assert "panicked" not in text
    errors = [line for line in text.splitlines() if line.startswith("headrace: ")]
    assert len(errors) == 1, text
    assert str(home.stream) in errors[0]
    assert "space" in errors[0] or "disk not full" in errors[0]

    ballast.unlink()
    grow(home.stream, "20m")
    code, text = to_end(small, tmp_path / "said")
    assert code == 0, text
    sessions = sorted({e.session_id for e in events})
    assert session_values(small, sessions) == expected(events, small).sessions


def test_a_store_file_deleted_under_the_stream_is_written_again(settings: Settings, home: Home) -> None:
    """Live sessions come back without another event of theirs, and new ones are written as well."""
    small = settings.model_copy(update={"log_partitions": 2, "snapshot_s": 0.5, "heartbeat_s": 0.1})
    sessions = [f"s{n}" for n in range(20)]
    publish(small, [event(n, n, name) for n, name in enumerate(sessions)])
    with streaming(small):
        until(lambda: None not in session_values(small, sessions).values(), "the sessions")
        (home.feast / "online.db").unlink()
        publish(small, [event(99, 99, "new")])
        until(lambda: None not in session_values(small, [*sessions, "new"]).values(), "all of them again")
        rows = session_values(small, sessions)
    assert [row and row["event_count"] for row in rows.values()] == [1] * 20
    assert (
        session_values(small, [*sessions, "new"])
        == expected(
            [*(event(n, n, name) for n, name in enumerate(sessions)), event(99, 99, "new")], small
        ).sessions
    )


def test_a_reader_of_a_deleted_store_file_reads_the_new_one(settings: Settings, home: Home) -> None:
    reader, writer = open_store(settings, home), open_store(settings, home)
    row = OnlineRow("s1", {"event_count": 1}, T0)
    writer.write(GROUP, [row])
    assert reader.read([(GROUP, "s1")])[0] is not None
    (home.feast / "online.db").unlink()
    writer.write(GROUP, [OnlineRow("s2", {"event_count": 2}, T0)])  # the writer notices at once
    until(lambda: reader.read([(GROUP, "s2")])[0] is not None, "the new file")
    assert reader.read([(GROUP, "s1")])[0] is None
    assert not list(home.feast.glob("*-journal"))
    reader.close()
    writer.close()


def test_a_log_and_a_lake_on_a_full_disk(
    settings: Settings, home: Home, mount: Callable[[Path, str], None]
) -> None:
    """Neither loses what it acknowledged, and both go on when there is room."""
    events = traffic(3000, sessions=50)
    mount(home.log, "300k")
    publish(settings, events[:100])
    with pytest.raises(LogError, match="disk full: free space"):
        publish(settings, events[100:])
    grow(home.log, "20m")
    publish(settings, events[100:])
    mount(home.lake, "16k")
    log = open_log(settings, home)
    with pytest.raises(LakeError, match="free space"):
        lake_writer(settings, home, log).sync()
    grow(home.lake, "20m")
    assert lake_writer(settings, home, log).sync().events == len(events)
    log.close()
    stream_to_end(settings)
    sessions = sorted({e.session_id for e in events})
    assert session_values(settings, sessions) == expected(events, settings).sessions


def test_metrics_stay_on_loopback_and_hold_no_text_of_clients(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever address the API binds to; labels are partitions and reason codes, whatever records hold."""
    served: list[tuple[str, int]] = []
    monkeypatch.setattr(
        "streaming.dataflow.worker.serve_metrics",
        lambda host, port, tries=1: served.append((host, port)) or (lambda: None),
    )
    open_api = settings.model_copy(update={"host": "0.0.0.0"})
    publish(open_api, [event(1, 0, "someone@example.org" * 9)])
    publish_raw(open_api, "s", b'{"record":"event","someone@example.org":"' + b"x" * 100_000 + b'"}')
    publish_raw(open_api, "s", b'{"record":"someone@example.org"}')
    run_stream(open_api, to_end=True)
    assert served == [("127.0.0.1", open_api.stream_metrics_port)]
    text = prometheus_client.generate_latest().decode()
    assert "headrace_stream_quarantined_total" in text
    assert "example.org" not in text
    partitions = {str(n) for n in range(open_api.log_partitions)}
    for metric in prometheus_client.REGISTRY.collect():
        if metric.name.startswith("headrace_stream_"):
            for sample in metric.samples:
                assert set(sample.labels) == {"partition"}
                assert sample.labels["partition"] in partitions
        elif metric.name == "headrace_quarantined_records":
            assert all(len(sample.labels["code"]) < 40 for sample in metric.samples)


@pytest.mark.redis
def test_a_redis_that_takes_no_writes_says_why_and_is_waited_for(
    settings: Settings, own_redis: RedisServer
) -> None:
    """Read-only, then out of memory; the stream holds its position and goes on."""
    both = settings.model_copy(
        update={
            "event_log": "redis",
            "online_store": "redis",
            "redis_url": SecretStr(own_redis.url),
            "log_partitions": 2,
        }
    )
    events = traffic(200)
    publish(both, events)
    client = redis.Redis.from_url(own_redis.url)
    store = open_store(both, Home(both.home))
    row = OnlineRow("s", {"event_count": 1}, T0)
    client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
    with pytest.raises(LogError, match=r"cannot write .*point HEADRACE_REDIS_URL at the primary"):
        publish(both, events[:1])
    with pytest.raises(StoreError, match="point HEADRACE_REDIS_URL at the primary"):
        store.write(GROUP, [row])
    client.execute_command("REPLICAOF", "NO", "ONE")
    client.config_set("maxmemory", 1)
    with pytest.raises(StoreError, match="raise its maxmemory"):
        store.write(GROUP, [row])
    sessions = sorted({e.session_id for e in events})
    with streaming(both):
        until((both.home / "stream" / "state").exists, "a stream at work")
        assert set(session_values(both, sessions).values()) == {None}
        client.config_set("maxmemory", 0)
        until(lambda: session_values(both, sessions) == expected(events, both).sessions, "all sessions")
    client.close()
    store.close()
