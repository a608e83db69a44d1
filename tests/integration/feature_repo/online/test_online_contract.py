"""Feast's SDK reads what Headrace writes, and the other way round: every type, both stores."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from feature_repo.group import DType, Entity, Feature, FeatureGroup
from feature_repo.online import PROJECT, OnlineRow, OnlineStore
from feature_repo.online.redis_store import RedisStore
from feature_repo.online.sqlite_store import SqliteStore

pytestmark = [
    pytest.mark.redis,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*:UserWarning:feast"),
]

GROUP = FeatureGroup(
    name="every_type",
    entity=Entity("thing", "thing_id", "Anything."),
    meaning="One feature of each type.",
    features=tuple(Feature(f"f_{t.value}", t, "A feature.") for t in DType),
    freshness=timedelta(days=1),
    ttl=timedelta(days=1),
)
T0 = datetime(2024, 6, 1, 12, 0, 0, 250_000, tzinfo=UTC)
FULL: dict[str, Any] = {
    "f_string": "naïve ✓",
    "f_int64": -5,
    "f_float64": 0.1,
    "f_bool": False,
    "f_timestamp": datetime(2024, 5, 1, 1, 2, 3, tzinfo=UTC),
    "f_strings": ["a", "", "żółć"],
    "f_int64s": [0, -1, 1_717_243_200_000],
    "f_float64s": [0.0, -1.5, 1e300],
    "f_float32s": [0.5, -2.0],
}
ROWS = {
    "plain": FULL,
    "schlüssel/日本": {**FULL, "f_int64": 2**62, "f_bool": True},
    "empty lists": {**FULL, "f_strings": [], "f_int64s": [], "f_float64s": [], "f_float32s": []},
    "absent": dict.fromkeys(FULL),
}


@pytest.fixture(params=["redis", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def feast_store(kind: str, tmp_path: Path, redis_url: str) -> Iterator[Any]:
    import feast
    from feast import types

    feast_types = {
        DType.STRING: types.String,
        DType.INT64: types.Int64,
        DType.FLOAT64: types.Float64,
        DType.BOOL: types.Bool,
        DType.TIMESTAMP: types.UnixTimestamp,
        DType.STRINGS: types.Array(types.String),
        DType.INT64S: types.Array(types.Int64),
        DType.FLOAT64S: types.Array(types.Float64),
        DType.FLOAT32S: types.Array(types.Float32),
    }
    online: dict[str, Any] = {"type": "sqlite", "path": str(tmp_path / "online.db")}
    if kind == "redis":
        address = redis_url.removeprefix("redis://").partition("/")[0]
        online = {"type": "redis", "connection_string": address}
    store = feast.FeatureStore(
        config=feast.RepoConfig(
            project=PROJECT,
            provider="local",
            registry=str(tmp_path / "registry.db"),
            online_store=online,
            entity_key_serialization_version=3,
        )
    )
    entity = feast.Entity(name="thing", join_keys=["thing_id"], value_type=feast.ValueType.STRING)
    view = feast.FeatureView(
        name=GROUP.view_name,
        entities=[entity],
        schema=[
            feast.Field(name="thing_id", dtype=types.String),
            *(feast.Field(name=f.name, dtype=feast_types[f.dtype]) for f in GROUP.features),
        ],
        source=feast.PushSource(
            name="pushed",
            batch_source=feast.FileSource(
                path=str(tmp_path / "none.parquet"), timestamp_field="event_timestamp"
            ),
        ),
        ttl=timedelta(days=1),
    )
    store.apply([entity, view])
    yield store
    store.teardown()


@pytest.fixture
def store(kind: str, tmp_path: Path, redis_url: str) -> Iterator[OnlineStore]:
    opened: OnlineStore = (
        RedisStore(redis_url) if kind == "redis" else SqliteStore(str(tmp_path / "online.db"))
    )
    yield opened
    opened.close()


def rows() -> list[OnlineRow]:
    return [OnlineRow(key, values, T0) for key, values in ROWS.items()]


def by_feast(feast_store: Any) -> dict[str, dict[str, Any]]:
    answer = feast_store.get_online_features(
        features=[f"{GROUP.view_name}:{name}" for name in GROUP.feature_names],
        entity_rows=[{"thing_id": key} for key in [*ROWS, "nobody"]],
    ).to_dict()
    return {
        key: {name: answer[name][i] for name in GROUP.feature_names}
        for i, key in enumerate([*ROWS, "nobody"])
    }


def comparable(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return list(value) if isinstance(value, list | tuple) else value


def test_feast_reads_what_headrace_writes(feast_store: Any, store: OnlineStore) -> None:
    assert store.write(GROUP, rows()) == len(ROWS)

    seen = by_feast(feast_store)

    for key, values in ROWS.items():
        assert {n: comparable(v) for n, v in seen[key].items()} == values
    assert set(seen["nobody"].values()) == {None}


def test_headrace_reads_what_feast_writes(feast_store: Any, store: OnlineStore) -> None:
    import pandas as pd

    present = {key: values for key, values in ROWS.items() if key != "absent"}
    frame = pd.DataFrame(
        [{"thing_id": key, **values, "event_timestamp": T0} for key, values in present.items()]
    )
    feast_store.push("pushed", frame)

    found = store.read([(GROUP, key) for key in [*present, "nobody"]])

    assert found[-1] is None
    for (key, values), row in zip(present.items(), found, strict=False):
        assert row is not None
        assert row.key == key
        read = {n: v if v is not None else [] for n, v in row.values.items()}  # Feast writes [] as no value
        assert read == values
        assert row.event_time.replace(microsecond=0) == T0.replace(microsecond=0)


def test_feast_overwrites_headrace_and_headrace_feast(feast_store: Any, store: OnlineStore) -> None:
    import pandas as pd

    def push(number: int, at: datetime) -> None:
        feast_store.push(
            "pushed", pd.DataFrame([{"thing_id": "k", **FULL, "f_int64": number, "event_timestamp": at}])
        )

    def write(number: int, at: datetime) -> int:
        return store.write(GROUP, [OnlineRow("k", {**FULL, "f_int64": number}, at)])

    write(1, T0)
    push(2, T0 + timedelta(minutes=1))
    assert write(3, T0 + timedelta(seconds=30)) == 0
    [row] = store.read([(GROUP, "k")])
    assert row is not None
    assert row.values["f_int64"] == 2
    assert write(4, T0 + timedelta(minutes=2)) == 1
    assert by_feast_one(feast_store, "k")["f_int64"] == [4]


def by_feast_one(feast_store: Any, key: str) -> dict[str, Any]:
    answer: dict[str, Any] = feast_store.get_online_features(
        features=[f"{GROUP.view_name}:{name}" for name in GROUP.feature_names],
        entity_rows=[{"thing_id": key}],
    ).to_dict()
    return answer


def test_feasts_table_reads_the_same_in_another_time_zone(tmp_path: Path) -> None:
    """Feast takes naive UTC for local time on SQLite; a process east of Greenwich must do so as well."""
    path = str(tmp_path / "online.db")
    code = (
        "import sys, sqlite3, warnings; warnings.simplefilter('ignore')\n"
        "from datetime import datetime, UTC\n"
        "from feature_repo.online.sqlite_store import SqliteStore, feast_seconds\n"
        "from feast.infra.online_stores.sqlite import adapt_datetime_epoch, convert_timestamp\n"
        "t = datetime(2024, 6, 1, 12, tzinfo=UTC)\n"
        "assert feast_seconds(t) == adapt_datetime_epoch(t.replace(tzinfo=None)) != int(t.timestamp())\n"
        "assert convert_timestamp(str(feast_seconds(t)).encode()).replace(tzinfo=UTC) == t\n"
    )
    environment = {**os.environ, "TZ": "Asia/Tokyo"}
    done = subprocess.run(
        [sys.executable, "-c", code, path], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
