from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.errors import LakeError
from feature_repo.group import DType
from quality.drift.samples import Sample, Sampler
from tests.support.quality_data import plain, taste

NOW = datetime(2024, 6, 1, tzinfo=UTC)
GROUP = taste(
    *plain(
        x=DType.FLOAT64,
        n=DType.INT64,
        name=DType.STRING,
        vip=DType.BOOL,
        seen=DType.TIMESTAMP,
        keys=DType.STRINGS,
        weights=DType.FLOAT32S,
    )
)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    times = {"event_timestamp": NOW, "created_timestamp": NOW}
    table = [{"user_id": f"u{n}", **row, **times} for n, row in enumerate(rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(table, schema=GROUP.arrow_schema), path)
    return path


def take(path: Path, *more: Path, rows: int = 4, limit: int = 100) -> dict[str, Sample]:
    with Sampler(GROUP) as sampler:
        return sampler.samples(GROUP.features, [path, *more], rows, limit)


def values(sample: Sample) -> list[Any]:
    return sample.values.tolist() if isinstance(sample.values, np.ndarray) else list(sample.values)


@pytest.fixture
def build(tmp_path: Path) -> Path:
    return write(
        tmp_path / "as_of=20240601T000000Z" / "data.parquet",
        [
            {
                "x": 1.5,
                "n": 3,
                "name": "a",
                "vip": True,
                "seen": NOW - timedelta(minutes=1),
                "keys": ["p", "q"],
                "weights": [1.0, float("inf")],
            },
            {
                "x": float("nan"),
                "n": None,
                "name": None,
                "vip": None,
                "seen": None,
                "keys": None,
                "weights": None,
            },
            {"x": None, "n": -1, "name": "b", "vip": False, "seen": NOW, "keys": [], "weights": [2.0]},
            {"x": float("-inf"), "n": 0, "name": "a", "vip": True, "seen": NOW, "keys": ["p"], "weights": []},
        ],
    )


def test_values_without_nulls_nan_and_infinities(build: Path) -> None:
    found = take(build)
    assert values(found["x"]) == [1.5]
    assert sorted(values(found["n"])) == [-1, 0, 3]
    assert sorted(values(found["name"])) == ["a", "a", "b"]
    assert sorted(values(found["vip"])) == [False, True, True]
    assert sorted(values(found["weights"])) == [1.0, 2.0]


def test_times_are_ages_in_seconds(build: Path) -> None:
    assert sorted(values(take(build)["seen"])) == [0.0, 0.0, 60.0]


def test_lists_give_their_elements_and_count_their_rows(build: Path) -> None:
    keys = take(build)["keys"]
    assert sorted(values(keys)) == ["p", "p", "q"]
    assert keys.rows == 3
    assert take(build)["x"].rows == 1


def test_several_builds_are_pooled(build: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "as_of=20240602T000000Z" / "data.parquet", [{"x": 9.0}])
    assert sorted(values(take(build, other, rows=5)["x"])) == [1.5, 9.0]


def test_a_sample_takes_the_same_keys_from_every_build(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / f"{n}.parquet", [{"name": f"u{i}", "x": float(n)} for i in range(3000)])
        for n in (1, 2)
    ]
    one, other = (take(path, rows=3000, limit=300)["name"] for path in paths)
    assert values(one) == values(other)
    assert 220 < one.rows < 380


def test_no_features_need_no_query(build: Path) -> None:
    with Sampler(GROUP) as sampler:
        assert sampler.samples([], [build], 4, 10) == {}


def test_a_torn_build_is_named(tmp_path: Path) -> None:
    path = tmp_path / "torn.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(LakeError, match=r"torn\.parquet: cannot be sampled"):
        take(path)
