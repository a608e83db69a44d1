"""Queries of users who deny consent are never stored, whichever way they arrive."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from feature_repo.contract.validation import Contract, Event, User, decode
from feature_repo.errors import StoreError
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.settings import Settings
from orchestration.builds.lake_sync import sync_lake
from quality.quarantine.store import Quarantine
from serving.features.consent_denials import Permissions
from serving.features.door_denials import AGAIN_S, Denials
from streaming.ingest.event_door import EventDoor
from streaming.ingest.files import ingest
from streaming.ingest.quarantine_retry import RetryCounts, retry
from streaming.log import open_log
from tests.support.stream_support import publish, stream_to_end

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def shop(request: pytest.FixtureRequest, make_shop: Callable[..., Any]) -> Any:
    more: dict[str, Any] = {}
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        more = {"online_store": "redis", "redis_url": SecretStr(url)}
    return make_shop(**more)


def search(name: str, user: str | None, **more: Any) -> dict[str, Any]:
    at = datetime.now(UTC) - timedelta(minutes=1)
    return {
        "record": "event", "event_id": name, "event_type": "search", "event_time": at.isoformat(),
        "session_id": f"s-{name}", "user_id": user, "query": f"secret of {name}", **more,
    }  # fmt: skip


def denial(user: str, consent: bool = False) -> dict[str, Any]:
    return {"record": "user", "user_id": user, "consent": consent}


def in_log(settings: Settings, home: Home) -> dict[str, str | None]:
    """Return the queries in the log by event id."""
    log, found = open_log(settings, home), {}
    for partition in range(log.partitions):
        for raw in log.read(partition, log.start(partition), 1000).records:
            record = decode(raw)
            if isinstance(record, Event) and record.event_type in {"search", "click"}:
                found[record.event_id] = record.query
    log.close()
    return found


def in_lake(settings: Settings, home: Home) -> dict[str, str | None]:
    sync_lake(settings, home)
    rows = [row for f in Lake(home.lake).files("event") for row in pq.read_table(f).to_pylist()]
    return {row["event_id"]: row["query"] for row in rows if row["event_type"] in {"search", "click"}}


def test_over_http(shop: Any, serving: Callable[..., Any]) -> None:
    """A denial in the store, in the same body, or known only to this worker."""
    publish(shop.settings, [User(user_id="before", consent=False), User(user_id="gives", consent=True)])
    stream_to_end(shop.settings)
    with serving(shop.settings) as client:
        bodies: list[Any] = [
            [
                search("1", "before"),
                search("2", "gives"),
                search("3", None),
                search("4", "together"),
                denial("together"),
                search("5", "before", event_type="click", item_id="i1"),
                search("6", "before", consent=True),
            ],
            denial("heard"),
            search("7", "heard"),
            [denial("before", consent=True), search("8", "before")],
        ]
        for body in bodies:
            answer = client.post("/v1/events", json=body).raise_for_status().json()
            assert answer["rejected"] == []
    wanted = {"1": "", "2": "secret of 2", "3": "secret of 3", "4": "", "5": None, "6": "", "7": ""}
    wanted["8"] = "secret of 8"
    assert in_log(shop.settings, shop.home) == wanted
    assert in_lake(shop.settings, shop.home) == wanted
    assert list(Quarantine.of(shop.settings, shop.home).entries()) == [], "an omitted query is not an error"


def test_of_files(settings: Settings, home: Home, tmp_path: Path) -> None:
    def take(name: str, *records: dict[str, Any]) -> None:
        path = tmp_path / name
        path.write_text("\n".join(map(json.dumps, records)))
        assert ingest([path], "headrace", settings).quarantined == 0

    take("first.jsonl", search("1", "before"), denial("gives", consent=True))
    take("users.jsonl", denial("before"))
    take("more.jsonl", search("2", "before"), search("3", "gives"), search("4", "same"), denial("same"))
    wanted = {"1": "secret of 1", "2": "", "3": "secret of 3", "4": ""}
    assert in_log(settings, home) == wanted
    assert in_lake(settings, home) == wanted, "queries before the denial were permitted"
    stream_to_end(settings)
    assert list(Quarantine.of(settings, home).entries()) == []


def test_out_of_quarantine(settings: Settings, home: Home) -> None:
    log = open_log(settings, home)
    door = EventDoor(Contract(settings, settings.clock), log, Quarantine.of(settings, home))
    wink = {"event_type": "wink", "item_id": "i1"}
    assert door.accept([search("1", "u", **wink), search("2", "v", **wink)], "http").accepted == 0
    log.close()
    publish(settings, [User(user_id="u", consent=False)])
    sync_lake(settings, home)
    fixed = settings.model_copy(update={"event_weights": {"wink": 1.0}})
    assert retry(fixed) == RetryCounts(replayed=2)
    rows = [row for f in Lake(home.lake).files("event") for row in pq.read_table(f).to_pylist()]
    assert {row["event_id"]: row["query"] for row in rows} == {"1": None, "2": "secret of 2"}


@pytest.mark.parametrize("order", ["denial first", "denial last"])
def test_of_another_producer_the_lake_leaves_it_out(settings: Settings, home: Home, order: str) -> None:
    """The log is written without a door. In any order, the lake applies the newest record."""
    fields = search("1", "u")
    del fields["record"]
    asked = Event(**{**fields, "event_time": datetime.fromisoformat(fields["event_time"])})
    denies = User(user_id="u", consent=False)
    publish(settings, [denies, asked] if order == "denial first" else [asked, denies])
    assert in_log(settings, home) == {"1": "secret of 1"}
    assert in_lake(settings, home) == {"1": ""}


class Broken:
    """A store that is down and counts its calls."""

    asked = 0

    def read(self, _: Any) -> Any:
        self.asked += 1
        raise StoreError("down")


def test_a_store_that_is_down_is_not_asked_for_each_event() -> None:
    now, permissions, store = [0.0], Permissions(10), Broken()
    permissions.hear({"record": "user", "user_id": "heard", "consent": False})
    known = Denials(permissions, store, lambda: now[0])  # type: ignore[arg-type]
    assert [set(known(["heard", "u"])) for _ in range(3)] == [{"heard"}] * 3
    assert store.asked == 1
    now[0] = AGAIN_S
    known(["u"])
    assert store.asked == 2
