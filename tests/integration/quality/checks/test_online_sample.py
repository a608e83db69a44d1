"""Builds read back from a real store: whole, with rows missing, old, and with values changed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from feature_repo.errors import LakeError
from feature_repo.group import EVENT_TIMESTAMP, ITEM, DType, Feature, FeatureGroup
from feature_repo.home import Home
from feature_repo.online.opening import open_store
from feature_repo.online.rows import OnlineRow
from feature_repo.online.store import OnlineStore
from feature_repo.settings import Settings
from quality.checks.online_sample import check_online, same_value, sampled
from quality.checks.results import CheckReport

AS_OF = datetime(2024, 6, 1, 12, 30, 15, 250_000, tzinfo=UTC)
GROUP = FeatureGroup(
    name="item_taste",
    entity=ITEM,
    meaning="",
    features=(
        Feature("title", DType.STRING, ""),
        Feature("ctr", DType.FLOAT64, ""),
        Feature("seen", DType.TIMESTAMP, ""),
        Feature("keys", DType.STRINGS, ""),
        Feature("vector", DType.FLOAT32S, ""),
    ),
    freshness=timedelta(hours=26),
    ttl=timedelta(days=90),
)


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def store(request: pytest.FixtureRequest, home: Home) -> Iterator[OnlineStore]:
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        settings = Settings(home=home.root, online_store="redis", redis_url=SecretStr(url))
    else:
        settings = Settings(home=home.root)
    opened = open_store(settings, home)
    yield opened
    opened.close()


def row(n: int) -> dict[str, Any]:
    return {
        "item_id": f"i{n}",
        "title": None if n % 7 == 0 else f"Item {n}",
        "ctr": n / 97,
        "seen": AS_OF - timedelta(seconds=n),
        "keys": [f"k{j}" for j in range(n % 3)],
        "vector": [0.1 * n, 1 / 3],
        "event_timestamp": AS_OF,
        "created_timestamp": AS_OF,
    }


@pytest.fixture
def build(tmp_path: Path) -> Path:
    path = tmp_path / "data.parquet"
    pq.write_table(pa.Table.from_pylist([row(n) for n in range(200)], schema=GROUP.arrow_schema), path)
    return path


def put(store: OnlineStore, build: Path, event_time: datetime = AS_OF, **change: Any) -> list[OnlineRow]:
    rows = []
    for fields in pq.read_table(build).to_pylist():
        values = {name: fields[name] for name in GROUP.feature_names} | change
        rows.append(OnlineRow(fields["item_id"], values, event_time))
    store.write(GROUP, rows)
    return rows


def messages(report: CheckReport) -> dict[str, str]:
    return {r.column: r.message for r in report.failures}


def test_what_was_materialized_reads_back_equal(store: OnlineStore, build: Path, tmp_path: Path) -> None:
    put(store, build)
    report = check_online(GROUP, build, store, tmp_path / "docs", sample=100)
    assert report.failures == ()
    assert report.rows == 100
    assert report.docs is not None
    assert report.docs.name == "item_taste_online.html"


def test_rows_that_are_not_online_block(store: OnlineStore, build: Path) -> None:
    put(store, build)
    gone = [r["item_id"] for r in sampled(GROUP, build, 50)][:3]
    assert store.delete(GROUP, gone) == 3
    report = check_online(GROUP, build, store, sample=50)
    assert not report.passed
    assert messages(report)["online_row"].startswith(
        "online_row: 3 of 50 rows not known (0.06), e.g. 'missing'"
    )


def test_an_older_row_blocks_and_a_newer_one_does_not(store: OnlineStore, build: Path) -> None:
    put(store, build, AS_OF - timedelta(days=1))
    assert "'older'" in messages(check_online(GROUP, build, store, sample=10))["online_row"]
    put(store, build, AS_OF + timedelta(days=1), title="later")
    assert check_online(GROUP, build, store, sample=10).failures == ()


def test_a_value_that_differs_is_shown_with_both_sides(store: OnlineStore, build: Path) -> None:
    put(store, build, ctr=0.5)
    found = messages(check_online(GROUP, build, store, sample=20))
    assert list(found) == ["ctr"]
    assert found["ctr"].startswith("ctr: 20 of 20 rows not known (1), e.g. 'online 0.5, offline 0.")


def test_an_empty_build_only_warns(store: OnlineStore, tmp_path: Path) -> None:
    path = tmp_path / "empty.parquet"
    pq.write_table(GROUP.arrow_schema.empty_table(), path)
    report = check_online(GROUP, path, store)
    assert report.passed
    assert messages(report)[""] == "table: 0 rows; wanted ≥ 1 rows"


def test_a_sample_is_stable_and_not_the_first_rows(build: Path) -> None:
    keys = [r["item_id"] for r in sampled(GROUP, build, 20)]
    assert keys == [r["item_id"] for r in sampled(GROUP, build, 20)]
    assert len(set(keys)) == 20
    assert set(keys) <= {r["item_id"] for r in sampled(GROUP, build, 40)}
    assert set(keys) != {f"i{n}" for n in range(20)}
    assert sampled(GROUP, build, 1)[0][EVENT_TIMESTAMP] == AS_OF


def test_a_build_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "torn.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(LakeError, match=r"torn\.parquet: cannot be sampled"):
        sampled(GROUP, path, 5)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1.0, 1.0 + 1e-9, True),
        (1.0, 1.01, False),
        (0.0, 1e-15, True),
        (1, 1, True),
        (None, None, True),
        (None, 0.0, False),
        (None, [], True),
        ([1.0, 2.0], (1.0, 2.0), True),
        ([1.0], [1.0, 2.0], False),
        (["a"], ["b"], False),
        (AS_OF, AS_OF.replace(microsecond=0), True),
        (AS_OF, AS_OF + timedelta(seconds=1), False),
        (True, False, False),
    ],
)
def test_values_are_the_same_up_to_what_the_store_rounds(one: Any, other: Any, same: bool) -> None:
    assert same_value(one, other) is same
    assert same_value(other, one) is same
