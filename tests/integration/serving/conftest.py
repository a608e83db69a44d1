"""A small shop in the store and on disk, and serving over real HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pyarrow as pa
import pytest
import uvicorn
from fastapi import FastAPI

from feature_repo.clock import wall_clock
from feature_repo.group import DType
from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.lake.lake import Build, Builds
from feature_repo.online import OnlineRow, open_store
from feature_repo.online.consent_rows import COMPLETE
from feature_repo.settings import Settings
from serving.app import create_app
from serving.control.flag_store import FlagStore
from serving.scoring.blend import Blend, Gate, save_blend
from serving.server import config_of, listen

CATEGORIES = ("shoes", "hats", "coats")
_EMPTY: dict[DType, Any] = {DType.STRING: "", DType.INT64: 0, DType.FLOAT64: 0.0, DType.BOOL: False}


class Shop:
    """Thirty items in three categories (`i0` … `i29`, item n in category n mod 3), a user, a session."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.home = Home(settings.home)
        self.store = open_store(settings, self.home)
        self.store.put_marks({COMPLETE: b"1"})

    def build(self, as_of: datetime | None = None, ctr: float = 0.1) -> None:
        """Write and promote a build of `item_profile`."""
        as_of = as_of or datetime.now(UTC)
        group = all_groups()["item_profile"]
        rows = [self._item(n, as_of, ctr) for n in range(30)]
        builds = Builds(self.home.features)
        path = builds.write(group.name, as_of, pa.Table.from_pylist(rows, group.arrow_schema), group.version)
        builds.promote(group.name, Build(path, as_of, as_of, len(rows)), group.version)

    def _item(self, number: int, as_of: datetime, ctr: float) -> dict[str, Any]:
        group = all_groups()["item_profile"]
        row = {f.name: _EMPTY.get(f.dtype, []) for f in group.features if f.dtype is not DType.TIMESTAMP}
        category = CATEGORIES[number % 3]
        given = {
            "categories": [category],
            "attr_keys": [f"category:{category}"],
            "ctr": ctr,
            "title": f"item {number}",
        }
        return {
            "item_id": f"i{number}",
            "event_timestamp": as_of,
            "created_timestamp": as_of,
            "created_at": as_of,
            **row,
            **given,
            "vector": [1.0, 0.0] if number % 2 else [0.0, 1.0],
        }

    def flags(self, **changes: Any) -> None:
        """Change flags, with an entry in the audit log."""
        FlagStore(self.home.flags, wall_clock).change(changes, "test")

    def blend(self, version: str = "1", **weights: float) -> None:
        """Save a fitted blend; by default of session, long-term and segment affinity for categories."""
        names = weights or {
            "base": 1.0,
            "log_odds:category": 1.0,
            "segment_log_odds:category": 1.5,
            "session_affinity:category": 8.0,
        }
        gate = Gate(passed=True, reason="of the test")
        blend = Blend(
            version=version,
            kind="fitted",
            names=tuple(names),
            scales=(1.0,) * len(names),
            weights=tuple(names.values()),
            gate=gate,
        )
        save_blend(self.home.models, blend)

    def user(
        self,
        user_id: str = "u",
        likes: str = "hats",
        age: timedelta = timedelta(minutes=1),
        bought: Sequence[str] = (),
    ) -> None:
        """A user who clicked one category more than anyone would."""
        values = {
            "segment": f"likes:{likes}",
            "attr_keys": [f"category:{likes}"],
            "attr_clicks": [9.0],
            "attr_expected": [1.0],
            "click_rate": 1.0,
            **({"purchased_items": list(bought)} if bought else {}),
        }
        self._write("user_profile", user_id, values, age)

    def segment(self, name: str = "all", likes: str = "coats", age: timedelta = timedelta(minutes=1)) -> None:
        """A segment with one favourite category."""
        values = {
            "user_count": 3,
            "attr_keys": [f"category:{likes}"],
            "attr_clicks": [9.0],
            "attr_expected": [1.0],
            "click_rate": 1.0,
        }
        self._write("segment_profile", name, values, age)

    def session(
        self,
        session_id: str = "s",
        likes: str = "shoes",
        age: timedelta = timedelta(seconds=2),
        user_id: str | None = None,
    ) -> None:
        """A session that clicked in one category."""
        at = datetime.now(UTC) - age
        values = {
            "user_id": user_id,
            "item_ids": ["x1", "x2"],
            "item_times_ms": [int(at.timestamp() * 1000)] * 2,
            "item_weights": [1.0, 1.0],
            "attr_keys": [f"category:{likes}"],
            "attr_weights": [4.0],
            "started_at": at,
            "last_event_time": at,
        }
        self._write("session_profile", session_id, values, age)

    def _write(self, group: str, key: str, values: dict[str, Any], age: timedelta) -> None:
        row = OnlineRow(key, values, datetime.now(UTC) - age)
        assert self.store.write(all_groups()[group], [row]) == 1

    def stock(self) -> Shop:
        """Stock everything, with deterministic flags: no exploration, no holdout, no diversity."""
        self.flags(**{"exploration.share": 0.0, "holdout": 0.0, "diversity.relevance": 1.0})
        self.build()
        self.blend()
        self.user()
        self.segment()
        self.segment("likes:hats", "hats")
        self.session()
        return self


def candidates(count: int = 9) -> list[dict[str, Any]]:
    return [{"item_id": f"i{n}", "score": float(count - n)} for n in range(count)]


@pytest.fixture
def body() -> Callable[..., dict[str, Any]]:
    """A rank request: the first `count` items, best first."""
    return lambda count=9, **fields: {"candidates": candidates(count), **fields}


@contextmanager
def running(app: FastAPI) -> Iterator[httpx.Client]:
    """Serve the application under uvicorn on a port chosen by the system."""
    listening = listen("127.0.0.1", 0)
    settings: Settings = app.state.services.settings
    server = uvicorn.Server(config_of(app, settings, log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    port = listening.getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            # The first start on a machine compiles the loops.
            wait_for(lambda: server.started and client.get("/readyz").status_code == 200, 60.0)
            yield client
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()


def wait_for(condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    """Return the first true value of a condition, or fail at the deadline."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)
    return value


@pytest.fixture
def until() -> Callable[..., Any]:
    """`wait_for` for test modules, which import nothing from here."""
    return wait_for


@pytest.fixture
def settings(home: Home) -> Settings:
    """Generous time budgets for a busy machine: these tests check answers, not speed."""
    return Settings(home=home.root, budget_ms=10_000, store_budget_ms=5_000, page_share=1.0)


@pytest.fixture
def shop(settings: Settings) -> Iterator[Shop]:
    made = Shop(settings).stock()
    yield made
    made.store.close()


@pytest.fixture
def make_shop(home: Home) -> Iterator[Callable[..., Shop]]:
    """A stocked shop with custom settings."""
    made: list[Shop] = []

    def make(**settings: Any) -> Shop:
        made.append(Shop(Settings(home=home.root, **settings)).stock())
        return made[-1]

    yield make
    for shop in made:
        shop.store.close()


@pytest.fixture
def serving() -> Callable[[Settings], Any]:
    """``with serving(settings) as client`` serves over HTTP."""
    return lambda settings: running(create_app(settings))


@pytest.fixture
def serve_app() -> Callable[[FastAPI], Any]:
    """``with serve_app(app) as client`` serves an application that the test has changed."""
    return running


@pytest.fixture
def api(shop: Shop) -> Iterator[httpx.Client]:
    """Serve the stocked shop on SQLite."""
    with running(create_app(shop.settings)) as client:
        yield client
