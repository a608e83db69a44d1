"""From embedded to Redis and back: profiles, sessions and unread events come along; what cannot is named."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from feature_repo.contract.validation import Event, User, encode
from feature_repo.errors import SettingsError
from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.lake.lake import Builds, Lake
from feature_repo.online import open_store
from feature_repo.run_mode import FILE, Mode, check_mode, mode_of, read_mode, write_mode
from feature_repo.settings import Settings
from orchestration.builds.build import build_group, end_of
from orchestration.builds.lake_sync import sync_lake
from orchestration.processes.mode_switch import switch_mode
from streaming.dataflow.opening import open_stream
from streaming.log import key_of, open_log
from tests.conftest import RedisServer, free_port
from tests.support.offline import day_events, write_events

NOW = datetime.now(UTC).replace(microsecond=0)
SESSION, USER = (all_groups()[n] for n in ("session_profile", "user_profile"))
SESSIONS = ("s1", "s2", "s3")


def click(number: int, session: str, minutes_ago: float) -> Event:
    return Event(
        event_id=f"e{number}",
        event_type="click",
        event_time=NOW - timedelta(minutes=minutes_ago),
        session_id=session,
        user_id=f"u-{session}",
        item_id=f"i{number}",
    )


def publish(settings: Settings, records: Sequence[Any]) -> None:
    log = open_log(settings, Home(settings.home))
    log.publish([(key_of(r), encode(r)) for r in records])
    log.close()


def stream(settings: Settings) -> str:
    """``headrace stream --to-end`` as a user runs it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    done = subprocess.run(
        [sys.executable, "-m", "orchestration.cli", "stream", "--to-end"],
        env={
            **environment,
            "HEADRACE_HOME": str(settings.home),
            "HEADRACE_EVENT_LOG": settings.event_log,
            "HEADRACE_ONLINE_STORE": settings.online_store,
            "HEADRACE_REDIS_URL": settings.redis_url.get_secret_value(),
            "HEADRACE_STREAM_METRICS_PORT": "0",
        },
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is not a position of" not in done.stderr
    return done.stdout + done.stderr


def sessions(settings: Settings) -> dict[str, tuple[int, list[str]]]:
    """Events and items of each session, as the store has them."""
    store = open_store(settings, Home(settings.home))
    rows = store.read([(SESSION, s) for s in SESSIONS])
    store.close()
    return {row.key: (row.values["event_count"], sorted(row.values["item_ids"])) for row in rows if row}


def profile(settings: Settings, user: str) -> Any:
    store = open_store(settings, Home(settings.home))
    [row] = store.read([(USER, user)])
    store.close()
    return row


@pytest.fixture
def embedded(home: Home) -> Settings:
    """A home with a build of profiles, of which one user has denied consent since."""
    day = (NOW - timedelta(days=2)).date()
    write_events(Lake(home.lake), day, day_events(day, 30))
    settings = Settings(home=home.root, log_partitions=4)
    build = build_group(USER, settings, home, end_of(day), lambda: NOW)
    Builds(home.features).promote(USER.name, build)
    publish(settings, [User(user_id="u2", consent=False)])
    return settings


@pytest.mark.redis
@pytest.mark.timeout(600)
def test_there_and_back_again(embedded: Settings, home: Home, own_redis: RedisServer) -> None:
    embedded = embedded.model_copy(update={"redis_url": SecretStr(own_redis.url)})
    redis = embedded.model_copy(update={"event_log": "redis", "online_store": "redis"})
    publish(embedded, [click(1, "s1", 50), click(2, "s2", 45), click(3, "s1", 40)])
    stream(embedded)
    assert read_mode(home) == Mode("segments", "sqlite")
    before = sessions(embedded)
    assert before == {"s1": (2, ["i1", "i3"]), "s2": (1, ["i2"])}
    # In the log, but neither folded nor in the lake when the mode changes.
    publish(embedded, [click(4, "s2", 30)])

    said = " ".join(stream(redis).split())
    assert "the event log was segments and is redis now" in said
    assert "4 events of the last 24.5 h were copied" in said
    assert "the online store was sqlite and is redis now" in said
    assert "rows of user_profile" in said
    assert sessions(redis) == {"s1": (2, ["i1", "i3"]), "s2": (2, ["i2", "i4"])}
    assert profile(redis, "u1") is not None
    assert profile(redis, "u2") is None, "consent was denied, and stays so"
    assert "carrying over" not in stream(redis), "once"

    publish(redis, [click(5, "s1", 20), click(6, "s3", 15)])
    stream(redis)
    there = sessions(redis)
    assert there == {"s1": (3, ["i1", "i3", "i5"]), "s2": (2, ["i2", "i4"]), "s3": (1, ["i6"])}
    assert sessions(embedded) == before, "the old store is as it was left"

    said = " ".join(stream(embedded).split())
    assert "the event log was redis and is segments now" in said
    assert "6 events of the last 24.5 h were copied" in said
    assert sessions(embedded) == there
    assert profile(embedded, "u1") is not None
    assert profile(embedded, "u2") is None
    assert read_mode(home) == Mode("segments", "sqlite", 2)

    # Back in Redis, where rows of the first time are: what changed meanwhile is written over them.
    publish(embedded, [click(7, "s3", 5)])
    stream(redis)
    assert sessions(redis) == {**there, "s3": (2, ["i6", "i7"])}
    sync_lake(redis, home)
    held = [
        row for path in Lake(home.lake).files("event", NOW.date() - timedelta(days=1)) for row in ids(path)
    ]
    assert sorted(i for i in held if i.startswith("e") and len(i) == 2) == [f"e{n}" for n in range(1, 8)]


def ids(path: str) -> list[str]:
    import pyarrow.parquet as pq

    found: list[str] = pq.read_table(path, columns=["event_id"])["event_id"].to_pylist()
    return found


@pytest.mark.redis
def test_only_the_store_changes(embedded: Settings, own_redis: RedisServer) -> None:
    """The stream's state stays, and it writes every session into the store that has none."""
    redis = embedded.model_copy(update={"online_store": "redis", "redis_url": SecretStr(own_redis.url)})
    publish(embedded, [click(1, "s1", 50), click(2, "s2", 45)])
    stream(embedded)
    said = stream(redis)
    assert "the event log was" not in said
    assert sessions(redis) == sessions(embedded) != {}
    assert profile(redis, "u1") is not None


def test_an_old_log_out_of_reach_is_named_with_both_ways_out(home: Home) -> None:
    write_mode(home, Mode("redis", "sqlite"))
    settings = Settings(home=home.root, redis_url=f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(SettingsError) as caught:
        switch_mode(settings, home, lambda said: None)
    message = str(caught.value)
    assert message.startswith(
        f"HEADRACE_EVENT_LOG=segments: {home.root} last ran with redis, whose last events"
    )
    assert "unreachable (event log on Redis: cannot" in message
    assert "HEADRACE_REDIS_URL" in message
    assert message.endswith(f"or remove {home.root / FILE} to continue without them")
    assert read_mode(home) == Mode("redis", "sqlite"), "the next start asks again"
    (home.root / FILE).unlink()
    switch_mode(settings, home, lambda said: None)
    assert read_mode(home) == Mode("segments", "sqlite")


def test_parts_that_carry_nothing_over_say_who_does(home: Home) -> None:
    settings = Settings(home=home.root)
    assert check_mode(settings, home) is None
    write_mode(home, Mode("kafka", "redis"))
    with pytest.raises(
        SettingsError, match="last ran with kafka and redis, the settings say segments and sq"
    ):
        open_stream(settings)


def test_a_home_of_an_earlier_version_is_known_by_what_it_holds(home: Home) -> None:
    assert read_mode(home) is None
    home.lake.mkdir()
    (home.lake / "state-segments.json").write_text("{}")
    assert read_mode(home) is None, "no stream ran"
    (home.stream / "state").mkdir(parents=True)
    assert read_mode(home) == Mode("segments", "redis")
    home.feast.mkdir()
    Path(home.feast / "online.db").touch()
    assert read_mode(home) == Mode("segments", "sqlite")
    (home.root / FILE).write_text("{")
    with pytest.raises(SettingsError, match=rf"{FILE}: damaged .*; remove it"):
        read_mode(home)


def test_a_stream_that_runs_is_not_pulled_from_under(home: Home) -> None:
    from streaming.dataflow.service import lock

    write_mode(home, Mode("redis", "sqlite"))
    held = lock(home.stream, 1)
    with pytest.raises(SettingsError, match="a stream is running here already; stop it first"):
        switch_mode(Settings(home=home.root), home, lambda said: None)
    held.close()
    assert mode_of(Settings(), 3) == Mode("segments", "sqlite", 3)
