"""A hundred simulated days of every writer and the nightly retention: nothing grows without end."""

from __future__ import annotations

import os
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import freeze_time
from msgspec.structs import replace

from feature_repo.contract.validation import encode
from feature_repo.errors import ContractError
from feature_repo.home import Home
from feature_repo.lake.lake import Builds, Lake
from feature_repo.online import open_store
from feature_repo.settings import Settings
from orchestration.builds.lake_sync import prune_lake, trim_decisions, trim_log
from orchestration.builds.retention import Keep, retain
from orchestration.builds.run_retention import KeepRuns, prune_runs
from orchestration.processes.dagster_home import open_instance
from quality.quarantine.store import Quarantine
from serving.decisions.record import TOPIC
from serving.decisions.time_marks import Marks
from serving.scoring.blend import Gate, save_blend
from streaming.log import appender, open_log
from streaming.log.redis_streams import RedisLog
from tests.conftest import RedisServer
from tests.support.blends import simple_blend
from tests.support.offline import click_group, day_events, write_events

START = datetime(2024, 1, 1, 3, 30, tzinfo=UTC)
DAYS, STEADY = 100, 45
WEEK = timedelta(days=7)
KEEP = Keep(
    intraday=timedelta(days=2),
    blends=timedelta(days=5),
    builds=timedelta(days=15),
    runs=timedelta(days=15),
    pages=timedelta(days=15),
    quarantine=timedelta(days=15),
)
KEEP_RUNS = KeepRuns(all=timedelta(days=2), failed=timedelta(days=5), last=timedelta(days=15))
GROUP = click_group()
STAMP = "%Y%m%dT%H%M%SZ"


class Simulated:
    """A home whose every writer writes, by a clock that the test moves."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.now = START
        self.settings = Settings(
            home=home.root, log_partitions=1, log_segment_mb=1, history_days=15, lake_retention_days=15
        )
        self.instance = open_instance(home)
        self.marks = Marks(home.decisions, lambda: self.now, WEEK, every_s=0.0)

    def timestamp(self) -> float:
        """The present as the log asks for it."""
        return self.now.timestamp()

    def write(self) -> None:
        """What a day leaves behind."""
        day = self.now.date()
        write_events(Lake(self.home.lake), day, day_events(day, 5))
        self.logs()
        for hour in (0, 6):
            self.build(self.now + timedelta(hours=hour))
        gate = Gate(passed=False, reason="few lists")
        save_blend(self.home.models, simple_blend("base", gate, f"{self.now:%Y%m%dT%H%M%S%fZ}", ""))
        held = Quarantine(self.home.quarantine, lambda: self.now)
        for number in range(5):
            held.put(b"{" * 200, f"{day}", number, ContractError("not_json", "", "no JSON"))
        held.mark_retried(list(held.entries(pending=True))[:3])
        store = open_store(self.settings, self.home)
        store.put_marks({"watermark": f"{day}".encode()})
        store.close()
        for name in ("runs/{}.json", "docs/events_{}.html", "quality/behaviour/{}.json", "spill/{}.tmp"):
            self.file(name.format(day))
        self.dagster_run()

    def logs(self) -> None:
        log, decisions = open_log(self.settings, self.home), open_log(self.settings, self.home, TOPIC)
        self.marks.note(decisions)
        # Enough to fill a segment in a few days: one that is being written is never removed.
        large = {"note": "x" * 60_000}
        events = [replace(e, properties=large) for e in day_events(self.now.date(), 4)]
        log.publish([(e.session_id, encode(e)) for e in events])
        decisions.publish([("r", b"x" * 1000)] * 200)
        log.close()
        decisions.close()

    def build(self, as_of: datetime) -> None:
        path = Builds(self.home.features).path(GROUP.name, as_of)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * 1000)
        self.file(f"docs/drift/{GROUP.view_name}/{as_of:{STAMP}}/index.html")

    def file(self, name: str) -> None:
        path = self.home.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)

    def dagster_run(self) -> None:
        with freeze_time(self.now):
            run = dg.DagsterRun(
                job_name="chain",
                run_id=dg._core.utils.make_new_run_id(),  # type: ignore[attr-defined]
                status=dg.DagsterRunStatus.SUCCESS,
                tags={"dagster/partition": f"{self.now.date()}"},
            )
            self.instance.add_run(run)
            self.instance.report_engine_event("ran", run)
        self.file(f"dagster/storage/{run.run_id}/compute_logs/step.out")

    def age(self) -> None:
        """Give what was written today the time of today."""
        at = self.now.timestamp()
        for path in self.home.root.rglob("*"):
            if path.stat().st_mtime > time.time() - 86_400:
                os.utime(path, (at, at))

    def retain(self) -> None:
        retain((GROUP,), self.home, lambda: self.now, KEEP)
        prune_lake(self.settings, self.home)
        trim_log(self.settings, self.home)
        trim_decisions(self.settings, self.home)
        prune_runs(self.instance, self.home, self.now, KEEP_RUNS)

    def sizes(self) -> Counter[str]:
        """Files and bytes below each folder of the home."""
        found: Counter[str] = Counter()
        for path in self.home.root.rglob("*"):
            if path.is_file():
                parts = path.relative_to(self.home.root).parts
                top = "/".join(parts[: 2 if parts[0] in ("log", "docs", "quality", "dagster") else 1])
                found[f"{top}: files"] += 1
                found[f"{top}: bytes"] += path.stat().st_size
        return found


@pytest.mark.timeout(600)
def test_a_hundred_days_of_every_writer_are_bounded(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = Simulated(home)
    # The segment log tells the age of its files by the wall clock alone.
    monkeypatch.setattr(appender, "time", SimpleNamespace(time=simulated.timestamp))
    largest: Counter[str] = Counter()
    later: Counter[str] = Counter()
    for number in range(DAYS):
        simulated.now = START + timedelta(days=number)
        simulated.write()
        simulated.age()
        simulated.retain()
        seen = largest if number < STEADY else later
        for name, size in simulated.sizes().items():
            seen[name] = max(seen[name], size)
    expected = {
        *("log/events", "log/decisions", "lake", "features", "models", "quarantine", "decisions", "runs"),
        *("docs/drift", "quality/behaviour", "dagster/history", "dagster/storage", "feast"),
    }
    assert expected <= {name.partition(":")[0] for name in later}
    grown = {name: (largest[name], size) for name, size in later.items() if size > 1.1 * largest[name] + 4096}
    assert grown == {}, "(most until day 45, most after)"
    assert [d for d in Lake(home.lake).days() if d < (simulated.now - timedelta(days=16)).date()] == []
    runs = simulated.instance.get_run_records()
    assert 14 <= len(runs) <= 17


def test_decisions_on_redis_are_trimmed_with_the_events(home: Home, own_redis: RedisServer) -> None:
    settings = Settings(
        home=home.root, event_log="redis", online_store="redis", redis_url=own_redis.url, log_partitions=1
    )
    logs: list[Any] = [open_log(settings, home, topic) for topic in ("events", TOPIC)]
    now_ms = time.time_ns() // 1_000_000
    for log in logs:
        assert isinstance(log, RedisLog)
        for days_ago in range(100, 0, -1):
            entry = f"{now_ms - days_ago * 86_400_000 + 43_200_000}-1"
            log._redis.xadd(log._keys[0], {"r": b"{}"}, id=entry)
    trim_log(settings, home)
    trim_decisions(settings, home)
    for log in logs:
        assert log._redis.xlen(log._keys[0]) == 7, "one a day, noon to noon"
        log.close()
    assert trim_decisions(settings, home) == 0
