"""Several workers of the stream, and what a user reads when one of them, or the store, is gone."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from feature_repo.home import Home
from feature_repo.settings import Settings
from tests.conftest import RedisServer, free_port
from tests.support.stream_process import heartbeats, kill, run, start, streaming, until
from tests.support.stream_support import expected, on_redis, publish, session_values, stream_to_end, traffic

SHARD = re.compile(r"/state/((?:sessions|users)-\d+)")
NOISE = ("Traceback", "panicked", "stack backtrace", "Exception", "connecting to worker", "FATAL")


@pytest.fixture
def said(tmp_path: Path) -> Path:
    return tmp_path / "said"


def lines_of(said: Path) -> list[str]:
    """What the user read, which holds nothing that is meant for programmers."""
    text = said.read_text()
    assert [word for word in NOISE if word in text] == [], text
    return text.splitlines()


def workers_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def test_another_number_of_workers_keeps_the_state(home: Home) -> None:
    settings = Settings(home=home.root, log_partitions=4, snapshot_s=0.3)
    events = traffic(4000)
    keys = sorted({e.session_id for e in events})
    for part, workers in enumerate(("1", "3", "2", "1")):
        publish(settings, events[part * 1000 : (part + 1) * 1000])
        with streaming(settings, "--workers", workers, "--to-end") as process:
            assert process.wait(60) == 0
    assert session_values(settings, keys) == expected(events, settings).sessions


def test_a_worker_that_dies_ends_the_stream_and_the_next_start_goes_on(home: Home, said: Path) -> None:
    settings = Settings(home=home.root, log_partitions=4, snapshot_s=0.3)
    events = traffic(1000)
    publish(settings, events[:500])
    process = start(settings, "--workers", "2", said=said)
    try:
        until(lambda: len(heartbeats(settings)) == settings.log_partitions, "heartbeats of both workers")
        workers = workers_of(process)
        assert len(workers) == 2
        workers[1].kill()
        assert process.wait(30) == 2
        assert psutil.wait_procs(workers, timeout=10)[1] == []
    finally:
        kill(process)
    assert lines_of(said)[-1].startswith("headrace: stream: stream-1 (exit code -9) died;")
    publish(settings, events[500:])
    with streaming(settings, "--workers", "2", "--to-end") as again:
        assert again.wait(60) == 0
    keys = sorted({e.session_id for e in events})
    assert session_values(settings, keys) == expected(events, settings).sessions


def test_workers_do_not_outlive_the_stream(home: Home) -> None:
    """Left alone they would go on beside the next stream, on the same state."""
    settings = Settings(home=home.root)
    process = start(settings, "--workers", "2")
    try:
        until(lambda: len(heartbeats(settings)) == settings.log_partitions, "heartbeats")
        workers = workers_of(process)
        process.kill()
        assert psutil.wait_procs(workers, timeout=30)[1] == []
    finally:
        process.wait()
        for worker in workers:
            if worker.is_running():
                worker.kill()


def test_the_worker_reports_state_that_it_cannot_write(home: Home, said: Path) -> None:
    home.stream.mkdir(exist_ok=True)
    (home.stream / "state").write_text("a file where a folder is wanted")
    process = start(Settings(home=home.root), "--workers", "2", said=said)
    assert process.wait(60) == 2
    *errors, last = [line for line in lines_of(said) if "headrace:" in line or "ERROR" in line]
    assert errors
    for error in errors:
        assert "stream state" in error
        assert "is HEADRACE_HOME writable and its disk not full?" in error
    assert last.endswith("died; its message is above; start again to go on where it stopped")


@contextlib.contextmanager
def taken_port_after_a_free_one() -> Iterator[int]:
    while True:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            try:
                socket.create_server(("127.0.0.1", port - 1)).close()
            except OSError:
                continue
            yield port
            return


def test_a_second_workers_metrics_port_that_is_taken_is_named(home: Home, said: Path) -> None:
    with taken_port_after_a_free_one() as port:
        settings = Settings(home=home.root, stream_metrics_port=port - 1)
        process = start(settings, "--workers", "2", said=said)
        assert process.wait(60) == 2
    told = [line for line in lines_of(said) if "ERROR" in line]
    assert len(told) == 1
    assert f"HEADRACE_STREAM_METRICS_PORT: cannot listen on 127.0.0.1:{port} (Address already" in told[0]


@pytest.mark.redis
@pytest.mark.parametrize("workers", ["1", "2"])
def test_stopping_while_redis_is_away_ends_cleanly_and_goes_on_later(
    home: Home, own_redis: RedisServer, said: Path, workers: str
) -> None:
    settings = on_redis(home, own_redis.url)
    events = traffic(500)
    keys = sorted({e.session_id for e in events})
    with streaming(settings, "--workers", workers, said=said) as process:
        until(lambda: len(heartbeats(settings)) == 2, "heartbeats")
        own_redis.stop()
        publish(settings, events)
        until(lambda: " waits: online store: Redis" in said.read_text(), "that the stream noticed")
        process.terminate()
        assert process.wait(30) == 0
    lines = lines_of(said)
    assert sum("stopped while the online store was away; what it lacks" in line for line in lines) == 1
    assert lines[-1] == "stream stopped"
    own_redis.start()
    stream_to_end(settings)
    assert session_values(settings, keys) == expected(events, settings).sessions


def test_one_home_one_stream(home: Home, said: Path) -> None:
    settings = Settings(home=home.root)
    with streaming(settings):
        until(lambda: heartbeats(settings), "a heartbeat")
        for again in (["-m", "orchestration.cli", "stream"], ["-m", "bytewax.run", "streaming.flow:flow"]):
            assert run([sys.executable, *again], settings, said).wait(60) in {1, 2}
            assert lines_of(said)[-1].endswith("a stream is running here already; stop it first")


class Cluster:
    """Processes of Bytewax's own command, as docs/how-to/run-the-stream.md writes it."""

    def __init__(self, settings: Settings, processes: int, workers: int = 1) -> None:
        addresses = ";".join(f"127.0.0.1:{free_port()}" for _ in range(processes))
        recovery = str(Home(settings.home).stream / "recovery")
        flow = [
            sys.executable,
            "-m",
            "bytewax.run",
            "streaming.flow:flow",
            "-r",
            recovery,
            "-s",
            "1",
            "-b",
            "0",
        ]
        one = ["-w", str(workers)]
        self.said = [Path(settings.home) / f"process-{n}" for n in range(processes)]
        self.processes = [
            run([*flow, *(["-i", str(n), "-a", addresses] if processes > 1 else one)], settings, said)
            for n, said in enumerate(self.said)
        ]

    def shards(self) -> list[set[str]]:
        """The shards whose state each process has open."""
        return [
            {found[1] for f in psutil.Process(p.pid).open_files() if (found := SHARD.search(f.path))}
            for p in self.processes
        ]

    def metrics(self) -> list[str]:
        """The page of each process, from the address it names."""
        pages = []
        for said in self.said:
            (line,) = [line for line in said.read_text().splitlines() if "metrics at" in line]
            pages.append(urllib.request.urlopen(line.split("metrics at ")[1], timeout=10).read().decode())
        return pages

    def stop(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(30) for process in self.processes] == [0] * len(self.processes)

    def kill(self) -> None:
        for process in self.processes:
            kill(process)


@pytest.fixture(
    params=["segments", pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.xdist_group("kafka")])]
)
def cluster_settings(request: pytest.FixtureRequest, home: Home, own_redis: RedisServer) -> Settings:
    given = {
        "home": home.root,
        "online_store": "redis",
        "redis_url": own_redis.url,
        "log_partitions": 4,
        "stream_metrics_port": free_port(),
    }
    if request.param == "kafka":
        kafka: Settings = request.getfixturevalue("kafka_settings")
        given |= {name: getattr(kafka, name) for name in ("event_log", "kafka_bootstrap", "kafka_topic")}
    return Settings(**given)


@pytest.mark.redis
def test_a_cluster_by_bytewaxs_own_command(cluster_settings: Settings) -> None:
    """One process with two workers, two with one each, and back: one owner each, every event counted once."""
    settings = cluster_settings
    events = traffic(1500)
    keys = sorted({e.session_id for e in events})
    stream_to_end(settings)  # makes the recovery partitions
    for n, (processes, workers) in enumerate([(1, 2), (2, 1), (1, 2)], 1):
        publish(settings, events[(n - 1) * 500 : n * 500])
        publish(settings, events[(n - 1) * 500 : (n - 1) * 500 + 100])  # a hundred come twice
        cluster = Cluster(settings, processes, workers)
        try:
            oracle = expected(events[: n * 500], settings).sessions
            until(lambda want=oracle: session_values(settings, keys) == want, f"all of part {n}")
            owned = cluster.shards()
            assert sorted(name for names in owned for name in names) == [
                *(f"sessions-{shard:04d}" for shard in range(4)),
                *(f"users-{shard:04d}" for shard in range(4)),
            ]
            assert all(owned)
            pages = cluster.metrics()
            counted = [page.count("headrace_stream_folded_total{") for page in pages]
            assert sum(counted) == 4
            assert all(counted)
            cluster.stop()
        finally:
            cluster.kill()
    assert sum(row["event_count"] for row in oracle.values()) == len(events)


def test_an_early_end_of_a_cluster_process_ends_its_peer(home: Home) -> None:
    """What is left of a cluster does not go on with half of the partitions."""
    settings = Settings(home=home.root)
    stream_to_end(settings)
    cluster = Cluster(settings, 2)
    try:
        until(lambda: all(cluster.shards()), "both at work")
        cluster.processes[1].kill()
        assert cluster.processes[0].wait(60) != 0
    finally:
        cluster.kill()
