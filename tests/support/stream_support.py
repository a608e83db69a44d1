"""Shared parts of the stream tests: events, a home to stream in, and an oracle that folds naively."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bytewax.recovery import RecoveryConfig
from bytewax.testing import run_main
from msgspec.structs import replace
from pydantic import SecretStr

from feature_repo.catalogue import Catalogue
from feature_repo.contract.validation import Event, Record, encode
from feature_repo.groups.session_profile import GROUP, Profile, SessionRules, Touch, step, touch_of, values
from feature_repo.groups.user_recent import GROUP as USER_GROUP
from feature_repo.home import Home
from feature_repo.online import OnlineStore, open_store
from feature_repo.settings import Settings
from streaming.dataflow.opening import OpenStream, open_stream
from streaming.dataflow.recovery_files import prepare_recovery
from streaming.log import key_of, open_log, partition_of

T0 = datetime(2024, 6, 1, 12, tzinfo=UTC)
EVENT_LOGS = [
    "segments",
    pytest.param("redis", marks=pytest.mark.redis),
    pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.xdist_group("kafka")]),
]
"""Parameters of a fixture that creates settings for each."""


def event(number: int | str, at_s: float, session: str = "s1", **fields: Any) -> Event:
    given: dict[str, Any] = {
        "event_id": f"e{number}",
        "event_type": "click",
        "event_time": T0 + timedelta(seconds=at_s),
        "session_id": session,
        "item_id": "i1",
        **fields,
    }
    if given["event_type"] == "search":
        given["item_id"] = None
    return Event(**given)


def traffic(count: int, sessions: int = 30, seed: int = 5) -> list[Event]:
    rng = random.Random(seed)
    return [
        event(n, n * 0.05 + rng.uniform(0, 60), f"s{rng.randrange(sessions)}", item_id=f"i{rng.randrange(9)}")
        for n in range(count)
    ]


def on_redis(home: Home, url: str) -> Settings:
    """Create settings for a Redis that will fail: two partitions, short timeouts, frequent snapshots."""
    return Settings(
        home=home.root,
        log_partitions=2,
        online_store="redis",
        redis_url=SecretStr(url),
        store_timeout_s=0.5,
        snapshot_s=0.5,
    )


def publish(settings: Settings, records: Iterable[Record]) -> None:
    log = open_log(settings, Home(settings.home).ensure())
    log.publish([(key_of(r), encode(r)) for r in records])
    log.close()


def publish_raw(settings: Settings, key: str, raw: bytes) -> None:
    log = open_log(settings, Home(settings.home).ensure())
    log.publish([(key, raw)])
    log.close()


def stream_to_end(settings: Settings, stream: OpenStream | None = None) -> None:
    """Run the flow in this process over the whole log, with recovery, as `headrace stream --to-end` does."""
    opened = stream or open_stream(settings, to_end=True)
    folder = prepare_recovery(Home(settings.home).ensure().stream)
    try:
        run_main(opened.flow, epoch_interval=timedelta(0), recovery_config=RecoveryConfig(folder))
    finally:
        opened.close()


def session_values(settings: Settings, sessions: Sequence[str]) -> dict[str, dict[str, Any] | None]:
    """Return features by session; `None` also if consent was refused: that row has a time but no feature."""
    rows = _read(settings, GROUP, sessions)
    return {key: None if row is None or not any_feature(row) else row for key, row in rows.items()}


def any_feature(row: dict[str, Any]) -> bool:
    return any(value is not None for value in row.values())


def refused_sessions(settings: Settings, sessions: Sequence[str]) -> list[str]:
    rows = _read(settings, GROUP, sessions)
    return [key for key, row in rows.items() if row is not None and not any_feature(row)]


def user_values(settings: Settings, users: Sequence[str]) -> dict[str, dict[str, Any] | None]:
    return _read(settings, USER_GROUP, users)


def _read(settings: Settings, group: Any, keys: Sequence[str]) -> dict[str, dict[str, Any] | None]:
    store: OnlineStore = open_store(settings, Home(settings.home))
    try:
        rows = store.read([(group, key) for key in keys])
    finally:
        store.close()
    return {key: None if row is None else dict(row.values) for key, row in zip(keys, rows, strict=True)}


@dataclass
class Expected:
    """The expected result of the stream.

    Attributes:
        sessions: final values by session id, as the store holds them; denied and expired ones are absent.
        outcomes: counts of folded, repeated and late events.
    """

    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=lambda: {"folded": 0, "duplicate": 0, "late": 0})


def expected(events: Sequence[Event], settings: Settings, catalogue: Catalogue | None = None) -> Expected:
    """Compute the oracle: admit events by docs/explanation/stream.md in log order, sort, and fold.

    The oracle never forgets an id; the stream does so after the dedup horizon, when repeats are late anyway.
    """
    found = Expected()
    for partition in range(settings.log_partitions):
        mine = [e for e in events if partition_of(e.session_id, settings.log_partitions) == partition]
        _expect_partition(mine, settings, catalogue or {}, found)
    return found


def _expect_partition(
    events: Sequence[Event], settings: Settings, catalogue: Catalogue, found: Expected
) -> None:
    rules = SessionRules.of(settings)
    lateness, ttl = int(settings.allowed_lateness_s * 1e6), int(settings.session_ttl_s * 1e6)
    admitted: dict[str, list[Touch]] = {}
    withdrawn: set[str] = set()
    watermark = -(2**62)
    for e in events:
        touch = touch_of(e, settings.weights, e.consent)
        watermark = max(watermark, touch.time_us)
        mine = admitted.get(e.session_id, [])
        if mine and max(t.time_us for t in mine) < watermark - ttl:
            mine = []
        if touch.time_us < watermark - ttl:
            outcome = "late"
        elif any(t.event_id == touch.event_id for t in mine) or touch.event_id in withdrawn:
            outcome = "duplicate"
        elif mine and touch.time_us < max(t.time_us for t in mine) - lateness:
            outcome = "late"
            newest = max(mine, key=lambda t: (t.time_us, t.event_id))
            in_time = touch.time_us >= newest.time_us - int(settings.dedup_horizon_s * 1e6)
            if touch.consent is False and touch.user_id is None and in_time:  # applies from now on
                withdrawn.add(touch.event_id)
                denial = replace(touch, time_us=newest.time_us, event_id=f"{newest.event_id}\x7f")
                admitted[e.session_id] = [*mine, denial]
        else:
            outcome = "folded"
            admitted[e.session_id] = [*mine, touch]
        found.outcomes[outcome] += 1
    for session_id, touches in admitted.items():
        if max(t.time_us for t in touches) < watermark - ttl:
            continue
        profile: Profile | None = None
        for t in sorted(touches, key=lambda t: (t.time_us, t.event_id)):
            profile = step(profile, t, catalogue.get(t.item_id or ""), rules)
        assert profile is not None
        if not profile.denied:
            found.sessions[session_id] = as_stored(values(profile, rules))


def as_stored(row: dict[str, Any]) -> dict[str, Any]:
    """Convert values to the form in the store: times in whole seconds."""
    return {k: v.replace(microsecond=0) if isinstance(v, datetime) else v for k, v in row.items()}
