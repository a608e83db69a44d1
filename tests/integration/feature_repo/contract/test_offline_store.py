"""The offline store plugin against a naive oracle and against Feast's own DuckDB store, on random tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import feast
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import types as ft
from feast.data_format import ParquetFormat
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.on_demand_feature_view import on_demand_feature_view
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.contract.validation import User, to_arrow
from feature_repo.errors import LakeError
from tests.support.feast_repo import OURS, apply, open_store

pytestmark = pytest.mark.filterwarnings("ignore:On demand feature view is an experimental:RuntimeWarning")

T0 = datetime(2024, 1, 1, tzinfo=UTC)
TTL = timedelta(hours=2)
_TS = pa.timestamp("us", tz="UTC")

user = feast.Entity(name="user", join_keys=["user_id"], value_type=feast.ValueType.STRING)
shop = feast.Entity(name="shop", join_keys=["shop_id"], value_type=feast.ValueType.INT64)


def source(folder: Path, name: str, **fields: Any) -> feast.FileSource:
    return feast.FileSource(
        name=name,
        path=str(folder / f"{name}.parquet"),
        file_format=ParquetFormat(),
        timestamp_field="ts",
        created_timestamp_column="created",
        **fields,
    )


@dataclass
class Repo:
    folder: Path
    ours: feast.FeatureStore
    feasts: feast.FeatureStore
    views: Mapping[str, Any]

    def write(self, name: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), self.folder / f"{name}.parquet")


USERS = pa.schema([("user_id", pa.string()), ("ts", _TS), ("created", _TS), ("score", pa.float64())])
PAIRS = pa.schema(
    [
        ("uid", pa.string()),
        ("shop_id", pa.int64()),
        ("ts", _TS),
        ("created", _TS),
        ("raw_visits", pa.int64()),
        ("tags", pa.list_(pa.string())),
    ]
)


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    folder = tmp_path_factory.mktemp("feast")
    profile = feast.FeatureView(
        name="profile",
        entities=[user],
        schema=[feast.Field(name="user_id", dtype=ft.String), feast.Field(name="score", dtype=ft.Float64)],
        source=source(folder, "users"),
        ttl=TTL,
    )
    visits = feast.FeatureView(
        name="visits",
        entities=[user, shop],
        schema=[
            feast.Field(name="user_id", dtype=ft.String),
            feast.Field(name="shop_id", dtype=ft.Int64),
            feast.Field(name="visits", dtype=ft.Int64),
            feast.Field(name="tags", dtype=ft.Array(ft.String)),
        ],
        source=source(folder, "pairs", field_mapping={"raw_visits": "visits", "uid": "user_id"}),
        ttl=timedelta(0),
    )

    @on_demand_feature_view(  # type: ignore[untyped-decorator]
        sources=[
            profile,
            feast.RequestSource(name="asked", schema=[feast.Field(name="boost", dtype=ft.Float64)]),
        ],
        schema=[feast.Field(name="boosted", dtype=ft.Float64)],
        mode="pandas",
    )
    def boosted(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"boosted": inputs["score"] * inputs["boost"]})

    made = Repo(
        folder, open_store(folder, OURS), open_store(folder, "duckdb"), {"profile": profile, "visits": visits}
    )
    made.write("users", [], USERS)
    made.write("pairs", [], PAIRS)
    apply(folder, [user, shop, profile, visits, boosted])
    return made


# Random tables

minutes = st.integers(0, 400).map(lambda m: T0 + timedelta(minutes=m))
user_ids = st.sampled_from(["a", "b", "ü", None])
scores = st.one_of(st.none(), st.integers(0, 99).map(float))


def unique_times(rows: list[dict[str, Any]], *keys: str) -> list[dict[str, Any]]:
    """Equal event *and* creation times leave the answer open: one row of each."""
    return list({tuple(row[k] for k in (*keys, "ts", "created")): row for row in rows}.values())


user_rows = st.lists(
    st.fixed_dictionaries({"user_id": user_ids, "ts": minutes, "created": minutes, "score": scores}),
    max_size=30,
).map(lambda rows: unique_times(rows, "user_id"))
pair_rows = st.lists(
    st.fixed_dictionaries(
        {
            "uid": user_ids,
            "shop_id": st.integers(1, 2),
            "ts": minutes,
            "created": minutes,
            "raw_visits": st.integers(0, 9),
            "tags": st.lists(st.sampled_from(["x", "y"]), max_size=2),
        }
    ),
    max_size=30,
).map(lambda rows: unique_times(rows, "uid", "shop_id"))
entity_rows = st.lists(
    st.fixed_dictionaries(
        {
            "user_id": st.sampled_from(["a", "b", "ü", "unknown"]),
            "shop_id": st.integers(1, 3),
            "event_timestamp": minutes,
            "label": st.integers(0, 1),
        }
    ),
    min_size=1,
    max_size=15,
)


def newest(
    rows: list[dict[str, Any]],
    keys: Mapping[str, Any],
    now: datetime,
    ttl: timedelta | None,
    exclude_late: bool,
) -> dict[str, Any]:
    """The naive point-in-time lookup: among all rows of the keys, in a loop."""
    best: dict[str, Any] | None = None
    for row in rows:
        if any(row[k] is None or row[k] != v for k, v in keys.items()):
            continue
        if row["ts"] > now or (exclude_late and row["created"] > now):
            continue
        if best is None or (row["ts"], row["created"]) > (best["ts"], best["created"]):
            best = row
    if best is None or (ttl and best["ts"] + ttl < now):
        return {}
    return best


def oracle(
    entities: list[dict[str, Any]], users: list[Any], pairs: list[Any], exclude_late: bool
) -> list[dict[str, Any]]:
    found = []
    for row in entities:
        now = row["event_timestamp"]
        profile = newest(users, {"user_id": row["user_id"]}, now, TTL, exclude_late)
        keys = {"uid": row["user_id"], "shop_id": row["shop_id"]}
        visits = newest(pairs, keys, now, None, exclude_late)
        found.append(
            {
                **row,
                "score": profile.get("score"),
                "visits": visits.get("raw_visits"),
                "tags": visits.get("tags"),
            }
        )
    return canonical(found)


def canonical(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: sorted((k, str(v)) for k, v in row.items()))


REFS = ["profile:score", "visits:visits", "visits:tags"]


def retrieve(store: feast.FeatureStore, entities: Any, **options: Any) -> list[dict[str, Any]]:
    job = store.get_historical_features(entity_df=entities, features=REFS, **options)
    return canonical(job.to_arrow().to_pylist())


@given(entity_rows, user_rows, pair_rows, st.booleans())
@settings(max_examples=25, deadline=None)
def test_equal_to_the_oracle(
    repo: Repo, entities: list[Any], users: list[Any], pairs: list[Any], exclude_late: bool
) -> None:
    repo.write("users", users, USERS)
    repo.write("pairs", pairs, PAIRS)
    found = retrieve(repo.ours, pd.DataFrame(entities), filter_by_created_timestamp=exclude_late)
    assert found == oracle(entities, users, pairs, exclude_late)


@given(entity_rows, user_rows, pair_rows, st.booleans())
@settings(max_examples=6, deadline=None)
def test_equal_to_feasts_own_store(
    repo: Repo, entities: list[Any], users: list[Any], pairs: list[Any], exclude_late: bool
) -> None:
    repo.write("users", users, USERS)
    repo.write("pairs", pairs, PAIRS)
    frame = pd.DataFrame(entities)
    wanted = retrieve(repo.feasts, frame.copy(), filter_by_created_timestamp=exclude_late)
    assert retrieve(repo.ours, frame, filter_by_created_timestamp=exclude_late) == wanted


# Each feature of the interface on a small table


@pytest.fixture
def small(repo: Repo) -> Repo:
    at = lambda hours: T0 + timedelta(hours=hours)  # noqa: E731 - three words for one
    repo.write(
        "users",
        [
            {"user_id": "a", "ts": at(1), "created": at(1), "score": 1.0},
            {"user_id": "a", "ts": at(2), "created": at(9), "score": 2.0},
            {"user_id": "b", "ts": at(2), "created": at(3), "score": 20.0},
            {"user_id": "b", "ts": at(2), "created": at(2), "score": 10.0},
        ],
        USERS,
    )
    repo.write(
        "pairs",
        [{"uid": "a", "shop_id": 1, "ts": at(1), "created": at(1), "raw_visits": 7, "tags": ["x"]}],
        PAIRS,
    )
    return repo


def asked(**columns: list[Any]) -> pd.DataFrame:
    count = len(columns["user_id"])
    return pd.DataFrame({"event_timestamp": [T0 + timedelta(hours=2.5)] * count, **columns})


def test_of_equal_event_times_the_one_created_last_counts(small: Repo) -> None:
    frame = asked(user_id=["a", "b"])
    found = small.ours.get_historical_features(entity_df=frame, features=["profile:score"]).to_df()
    assert dict(zip(found.user_id, found.score, strict=True)) == {"a": 2.0, "b": 20.0}


@pytest.mark.parametrize("by", ["argument", "setting"])
def test_late_values_are_excluded_when_asked(small: Repo, by: str) -> None:
    store = small.ours
    options = {"filter_by_created_timestamp": True} if by == "argument" else {}
    if by == "setting":
        store = open_store(small.folder, {"type": OURS, "exclude_late": True})
    frame = asked(user_id=["a", "b"])
    found = store.get_historical_features(entity_df=frame, features=["profile:score"], **options).to_df()
    assert dict(zip(found.user_id, found.score, strict=True)) == {"a": 1.0, "b": 10.0}


@pytest.mark.usefixtures("zone")
def test_the_ttl_is_inclusive_and_older_values_are_absent(small: Repo) -> None:
    frame = pd.DataFrame(
        {
            "user_id": ["b", "b"],
            "event_timestamp": [T0 + timedelta(hours=4), T0 + timedelta(hours=4, microseconds=1)],
        }
    )
    rows = small.ours.get_historical_features(entity_df=frame, features=["profile:score"]).to_arrow()
    found = dict(zip(rows["event_timestamp"].to_pylist(), rows["score"].to_pylist(), strict=True))
    assert list(found.values()).count(None) == 1
    assert found[T0 + timedelta(hours=4)] == 20.0


@pytest.fixture
def numbered(repo: Repo) -> Repo:
    """Ids that are one number and several texts, and one that is no number."""
    at = T0 + timedelta(hours=1)
    rows = [
        {"user_id": name, "ts": at, "created": at, "score": float(place)}
        for place, name in enumerate(["01", "1", "1.0", "10", "true", "u9"])
    ]
    repo.write("users", rows, USERS)
    pairs = [{"uid": "1", "shop_id": 1, "ts": T0, "created": T0, "raw_visits": 7, "tags": ["x"]}]
    repo.write("pairs", pairs, PAIRS)
    return repo


@pytest.mark.parametrize(
    "keys",
    [
        [1, 10],
        pd.array([1, 10], "UInt8"),
        pd.array([1, None, 10], "Int64"),
        [Decimal(1), Decimal(10)],
        ["1", None, "10"],
        pd.Categorical(["1", "10"]),
        pd.Categorical([1, 10]),
    ],
    ids=lambda keys: str(getattr(keys, "dtype", type(keys[0]))),
)
@pytest.mark.parametrize("late", [False, True])
def test_a_whole_number_names_the_row_of_its_digits(numbered: Repo, keys: Any, late: bool) -> None:
    found = numbered.ours.get_historical_features(
        entity_df=asked(user_id=keys), features=["profile:score"], filter_by_created_timestamp=late
    )
    rows = found.to_arrow().to_pylist()
    assert {str(row["user_id"]): row["score"] for row in rows if row["user_id"] is not None} == {
        "1": 1.0,
        "10": 3.0,
    }


def test_by_sql_too(numbered: Repo) -> None:
    query = f"SELECT 1 AS user_id, TIMESTAMPTZ '{T0 + TTL}' AS event_timestamp"
    found = numbered.ours.get_historical_features(entity_df=query, features=["profile:score"])
    assert found.to_arrow()["score"].to_pylist() == [1.0]


@pytest.mark.parametrize(
    ("keys", "dtype"),
    [
        ([1.0, 10.0], "double"),
        ([1, None], "double"),
        ([True, False], "bool"),
        ([Decimal("1.0")], "decimal128(2, 1)"),
        ([T0], "timestamp"),
    ],
)
def test_keys_that_have_no_one_spelling_are_refused(numbered: Repo, keys: list[Any], dtype: str) -> None:
    with pytest.raises(LakeError, match=r"give text or whole numbers, e\.g\. frame\[\"user_id\"\]") as caught:
        numbered.ours.get_historical_features(entity_df=asked(user_id=keys), features=["profile:score"])
    assert f"entity rows: column user_id has type {dtype}" in str(caught.value)


def test_keys_of_several_types_are_refused(numbered: Repo) -> None:
    with pytest.raises(LakeError, match=r"column user_id.*; give each column values of one type"):
        numbered.ours.get_historical_features(
            entity_df=asked(user_id=["1", 1]), features=["profile:score"]
        ).to_df()


@pytest.mark.parametrize(("shop", "visits"), [(1, 7), ("1", 7), ("01", None), ("u9", None)])
def test_a_source_keyed_by_numbers_is_met_by_their_digits(numbered: Repo, shop: Any, visits: Any) -> None:
    frame = asked(user_id=["1"], shop_id=[shop])
    found = numbered.ours.get_historical_features(entity_df=frame, features=["visits:visits"]).to_arrow()
    assert found["visits"].to_pylist() == [visits]


def test_full_feature_names(small: Repo) -> None:
    found = retrieve(small.ours, asked(user_id=["a"], shop_id=[1]), full_feature_names=True)
    assert found[0]["profile__score"] == 2.0
    assert (found[0]["visits__visits"], found[0]["visits__tags"]) == (7, ["x"])


def test_a_join_key_alias(small: Repo) -> None:
    profile = small.views["profile"]
    friend = profile[["score"]].with_name("friend").with_join_key_map({"user_id": "friend_id"})
    # Both have a name: Feast cannot compare a service of which one view has an alias and another has none.
    service = feast.FeatureService(name="friends", features=[profile[["score"]].with_name("own"), friend])
    apply(small.folder, [service])
    frame = asked(user_id=["a"], friend_id=["b"])
    found = small.ours.get_historical_features(entity_df=frame, features=service, full_feature_names=True)
    row = found.to_arrow().to_pylist()[0]
    assert (row["own__score"], row["friend__score"]) == (2.0, 20.0)


def test_an_alias_of_one_of_two_keys_keeps_the_other(small: Repo) -> None:
    """Feast's own store forgets the key that has no alias and joins on the other alone: any shop matches."""
    friends = small.views["visits"][["visits"]].with_name("friends")
    service = feast.FeatureService(
        name="shops_of_friends", features=[friends.with_join_key_map({"user_id": "friend_id"})]
    )
    apply(small.folder, [service])
    frame = asked(user_id=["z"], friend_id=["a"], shop_id=[2])
    ours = small.ours.get_historical_features(entity_df=frame, features=service).to_df()
    feasts = small.feasts.get_historical_features(entity_df=frame.copy(), features=service).to_df()
    assert ours.visits.isna().all()
    assert feasts.visits.tolist() == [7]


def test_on_demand_views_are_computed_on_the_result(small: Repo) -> None:
    frame = asked(user_id=["a"], boost=[3.0])
    job = small.ours.get_historical_features(entity_df=frame, features=["profile:score", "boosted:boosted"])
    assert job.to_df().boosted.tolist() == [6.0]
    assert [view.name for view in job.on_demand_feature_views] == ["boosted"]


def in_sql(folder: Path, frame: pd.DataFrame) -> str:
    path = folder / "entities.parquet"
    pq.write_table(pa.Table.from_pandas(frame), path)
    return f"SELECT * FROM '{path}'"


FORMS: dict[str, Callable[[Path, pd.DataFrame], Any]] = {
    "pandas": lambda _, frame: frame,
    "arrow": lambda _, frame: pa.Table.from_pandas(frame),
    "arrow reader": lambda _, frame: pa.Table.from_pandas(frame).to_reader(),
    "sql": in_sql,
    "times in text": lambda _, frame: frame.assign(event_timestamp=frame.event_timestamp.astype(str)),
    "times without zone": lambda _, frame: frame.assign(
        event_timestamp=frame.event_timestamp.dt.tz_localize(None)
    ),
    "another name of the time": lambda _, frame: frame.rename(columns={"event_timestamp": "asked_at"}),
}


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize("form", list(FORMS))
def test_entity_rows_in_every_form(small: Repo, form: str) -> None:
    frame = asked(user_id=["a", "b"], shop_id=[1, 1])
    found = retrieve(small.ours, FORMS[form](small.folder, frame))
    assert [(row["user_id"], row["score"], row["visits"]) for row in found] == [
        ("a", 2.0, 7),
        ("b", 20.0, None),
    ]


def test_no_entity_rows_give_no_rows_and_all_columns(small: Repo) -> None:
    frame = asked(user_id=["a"], shop_id=[1]).iloc[:0]
    found = small.ours.get_historical_features(entity_df=frame, features=REFS).to_arrow()
    assert (found.num_rows, found.column_names) == (
        0,
        ["event_timestamp", "user_id", "shop_id", "score", "visits", "tags"],
    )


def test_equal_entity_rows_are_all_kept(small: Repo) -> None:
    assert len(retrieve(small.ours, asked(user_id=["a"] * 3, shop_id=[1] * 3))) == 3


def test_the_result_streams_and_runs_again(small: Repo) -> None:
    job = small.ours.get_historical_features(entity_df=asked(user_id=["a"] * 5), features=["profile:score"])
    batches = list(job.to_batches(2))
    assert sum(batch.num_rows for batch in batches) == 5
    assert job.to_arrow().num_rows == 5
    assert "ASOF LEFT JOIN" in job.to_sql()
    assert job.metadata is not None
    assert job.metadata.min_event_timestamp == job.metadata.max_event_timestamp == T0 + timedelta(hours=2.5)
    assert job.metadata.keys == ["user_id"]


@pytest.mark.parametrize("features", [["profile:score"], ["profile:score", "boosted:boosted"]])
def test_persist_writes_one_file_and_refuses_to_overwrite(
    small: Repo, features: list[str], tmp_path: Path
) -> None:
    job = small.ours.get_historical_features(entity_df=asked(user_id=["a"], boost=[1.0]), features=features)
    storage = SavedDatasetFileStorage(path=str(tmp_path / "sets" / "train.parquet"))
    job.persist(storage)
    assert pq.read_table(tmp_path / "sets" / "train.parquet").num_rows == 1
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        job.persist(storage)
    job.persist(storage, allow_overwrite=True)
    assert [p.name for p in (tmp_path / "sets").iterdir()] == ["train.parquet"]


def test_a_relative_source_starts_from_the_repository_not_the_working_directory(
    small: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Feast's own store opens it below the working directory and finds nothing."""
    monkeypatch.chdir(tmp_path)
    relative = feast.FeatureView(
        name="relative",
        entities=[user],
        schema=[feast.Field(name="user_id", dtype=ft.String), feast.Field(name="score", dtype=ft.Float64)],
        source=feast.FileSource(name="relative", path="users.parquet", timestamp_field="ts"),
    )
    apply(small.folder, [relative])
    job = small.ours.get_historical_features(entity_df=asked(user_id=["b"]), features=["relative:score"])
    assert job.to_df().score.notna().all()
    with pytest.raises(Exception, match=r"No files found|No such file"):
        small.feasts.get_historical_features(
            entity_df=asked(user_id=["b"]), features=["relative:score"]
        ).to_df()


@pytest.mark.usefixtures("zone")
def test_pulls_equal_feasts_own(small: Repo) -> None:
    provider = [store._get_provider().offline_store for store in (small.ours, small.feasts)]
    configs = [small.ours.config, small.feasts.config]
    arguments = {
        "data_source": small.views["profile"].batch_source,
        "join_key_columns": ["user_id"],
        "feature_name_columns": ["score"],
        "timestamp_field": "ts",
        "created_timestamp_column": "created",
        "start_date": T0,
        "end_date": T0 + timedelta(hours=2),
    }
    for pull, count in (("pull_latest_from_table_or_query", 2), ("pull_all_from_table_or_query", 4)):
        ours, feasts = (
            canonical(getattr(store, pull)(config, **arguments).to_arrow().to_pylist())
            for store, config in zip(provider, configs, strict=True)
        )
        assert ours == feasts
        assert len(ours) == count


@pytest.mark.usefixtures("zone")
def test_materialize_runs_through_the_store(small: Repo) -> None:
    small.ours.materialize(
        T0 - timedelta(days=1),
        T0 + timedelta(hours=3),
        feature_views=["profile"],
        disable_event_timestamp=False,
    )
    found = small.ours.get_online_features(["profile:score"], [{"user_id": "b"}]).to_dict()
    assert found["score"] == [20.0]


def test_rows_of_users_who_deny_today_are_left_out(small: Repo, tmp_path: Path) -> None:
    """By point-in-time joins, pulls and `materialize`, whatever the builds hold; also under a mapped name."""
    said = [User(user_id="a", consent=True), User(user_id="b", consent=False)]
    for number, records in enumerate([said, [User(user_id="a", consent=False), User(user_id="b")]]):
        at = T0 + timedelta(days=number)
        pq.write_table(to_arrow("user", records, at), tmp_path / f"part-{number}.parquet")
        store = open_store(small.folder, {"type": OURS, "users": str(tmp_path)})
        frame = asked(user_id=["a", "b"], shop_id=[1, 1])
        features = ["profile:score", "visits:visits"]
        found = store.get_historical_features(entity_df=frame, features=features).to_arrow().to_pylist()
        scores = {row["user_id"]: (row["score"], row["visits"]) for row in found}
        wanted = [{"a": (2.0, 7), "b": (None, None)}, {"a": (None, None), "b": (20.0, None)}]
        assert scores == wanted[number]
    arguments = {
        "data_source": small.views["profile"].batch_source,
        "join_key_columns": ["user_id"],
        "feature_name_columns": ["score"],
        "timestamp_field": "ts",
        "created_timestamp_column": "created",
        "start_date": T0,
        "end_date": T0 + timedelta(hours=2),
    }
    offline = store._get_provider().offline_store
    for pull in (offline.pull_latest_from_table_or_query, offline.pull_all_from_table_or_query):
        assert set(pull(store.config, **arguments).to_arrow()["user_id"].to_pylist()) == {"b"}


# What is wrong is said


def test_missing_files_are_named(small: Repo) -> None:
    gone = feast.FeatureView(
        name="gone",
        entities=[user],
        schema=[feast.Field(name="user_id", dtype=ft.String), feast.Field(name="score", dtype=ft.Float64)],
        source=feast.FileSource(name="gone", path=str(small.folder / "gone.parquet"), timestamp_field="ts"),
    )
    apply(small.folder, [gone])
    job = small.ours.get_historical_features(entity_df=asked(user_id=["b"]), features=["gone:score"])
    with pytest.raises(LakeError, match=r"offline store: .*gone\.parquet"):
        job.to_df()


def test_a_missing_join_key_is_named(small: Repo) -> None:
    with pytest.raises(
        LakeError, match=r"no column user_id, which joins profile; there are event_timestamp, x"
    ):
        small.ours.get_historical_features(
            entity_df=pd.DataFrame({"event_timestamp": [T0], "x": [1]}), features=["profile:score"]
        )


def test_a_query_that_fails_is_shown(small: Repo) -> None:
    with pytest.raises(LakeError, match=r"(?s)entity rows by SQL: .*nowhere.*DuckDB must answer it"):
        small.ours.get_historical_features(entity_df="SELECT * FROM nowhere", features=["profile:score"])


def test_what_is_no_frame_is_refused(small: Repo) -> None:
    with pytest.raises(
        LakeError, match=r"entity rows: a list; give a pandas frame, an Arrow table or a SQL query"
    ):
        small.ours.get_historical_features(entity_df=[1], features=["profile:score"])


def test_a_bad_memory_limit_is_refused(small: Repo) -> None:
    store = open_store(small.folder, {"type": OURS, "memory_limit": "plenty"})
    with pytest.raises(LakeError, match=r"offline store: memory_limit='plenty', threads=None: "):
        store.get_historical_features(entity_df=asked(user_id=["b"]), features=["profile:score"])
