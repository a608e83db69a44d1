"""A training set made in many parts is the one made in a single part; wide rows are found where they lie."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.errors import BuildError
from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.settings import Settings
from orchestration.builds.build import build_group, end_of
from orchestration.training import parts
from orchestration.training.dataset import TrainingSet, training_folder
from orchestration.training.parts import Parts
from orchestration.training.spec import GROUPS, TrainingSpec
from orchestration.training.spool import Spool
from serving.decisions.record import Decision, UsedRow
from streaming.simulator import ShopConfig, simulate_lake
from tests.support.decisions import decision

CONFIG = ShopConfig(users=12, items=15, days=4, seed=2, duplicates=0, late=0, malformed=0)
NOW = CONFIG.end + timedelta(days=1)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Four days with profiles as of the end of three of them."""
    home = Home(tmp_path_factory.mktemp("parts")).ensure()
    simulate_lake(CONFIG, Lake(home.lake))
    for day in Lake(home.lake).days()[:3]:
        for name in GROUPS:
            if all_groups()[name].batch is not None:
                build_group(all_groups()[name], Settings(home=home.root), home, end_of(day), lambda: NOW)
    return home


def decisions(home: Home) -> Iterator[Decision]:
    """Every second list was logged, some twice."""
    files = Lake(home.lake).files("event")
    table = pa.concat_tables(
        pq.ParquetFile(f).read(["request_id", "event_type", "event_time"]) for f in files
    )
    shown = [r for r in table.to_pylist() if r["event_type"] == "impression"]
    for number, row in enumerate(shown[::2]):
        used = UsedRow({"click_rate": float(number), "categories": ["a"]}, row["event_time"], cached=False)
        for _ in range(1 + (number % 5 == 0)):
            yield decision(row["request_id"], row["event_time"], features={"user": used})


def made(home: Home) -> tuple[pa.Table, Any]:
    days = Lake(home.lake).days()
    spec = TrainingSpec(days[0], days[-1])
    card = TrainingSet(spec, Settings(home=home.root), home, lambda: NOW, decisions(home)).make()
    return pq.read_table(training_folder(home) / "data.parquet"), card


def test_the_parts_do_not_show(shop: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, card = made(shop)
    assert set(whole["user_profile__source"].to_pylist()) == {"logged", "point_in_time", "none"}
    assert len(set(whole["item_profile__event_time"].to_pylist())) == 4  # three builds, and none
    monkeypatch.setattr(parts, "PART_ROWS", 150)
    joins = count_joins(monkeypatch)
    in_parts, same = made(shop)
    assert len(joins) > 5
    assert card.unpermitted > 0, "some of the shop's users deny consent"
    assert in_parts.equals(whole)
    assert (same.inputs, same.rows, same.embargoed) == (card.inputs, card.rows, card.embargoed)


def count_joins(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    joins: list[int] = []
    real = Parts._join

    def counting(self: Parts) -> None:
        joins.append(1)
        real(self)

    monkeypatch.setattr(Parts, "_join", counting)
    return joins


def test_a_part_that_does_not_fit_is_halved(shop: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = made(shop)
    real = Parts._join

    def cramped(self: Parts) -> None:
        [(rows,)] = self._con.execute("SELECT count(*) FROM part").fetchall()
        if rows > 300:
            raise duckdb.OutOfMemoryException("Out of Memory Error: too many")
        real(self)

    monkeypatch.setattr(Parts, "_join", cramped)
    assert made(shop)[0].equals(whole)


def test_what_does_not_fit_at_all_says_so_and_leaves_the_set_before(
    shop: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = made(shop)[0]

    def never(self: Parts) -> None:
        raise duckdb.OutOfMemoryException("Out of Memory Error: too many")

    monkeypatch.setattr(Parts, "_join", never)
    with pytest.raises(BuildError, match="too many; raise HEADRACE_DUCKDB_MEMORY; the previous set stays"):
        made(shop)
    assert pq.read_table(training_folder(shop) / "data.parquet").equals(before)
    assert not list(training_folder(shop).glob(".*.tmp"))


SCHEMA = pa.schema(
    [("request_id", pa.string()), ("event_timestamp", pa.timestamp("us", "UTC")), ("n", pa.int64())]
)


def batch(*rows: tuple[str, int]) -> pa.RecordBatch:
    time = datetime(2024, 5, 1, tzinfo=UTC)
    return pa.RecordBatch.from_pylist(
        [{"request_id": r, "event_timestamp": time, "n": n} for r, n in rows], SCHEMA
    )


def spool(tmp_path: Path, con: duckdb.DuckDBPyConnection, *batches: pa.RecordBatch) -> Spool:
    tmp_path.mkdir(exist_ok=True)
    found = Spool(con, "kept", tmp_path, SCHEMA)
    for one in batches:
        found.add(one)
    return found


def test_a_spool_reads_only_the_files_that_hold_what_is_asked(tmp_path: Path) -> None:
    with duckdb.connect() as con:
        found = spool(tmp_path, con, batch(("a", 1), ("b", 2)), batch(("c", 3)), batch(("a", 4)))
        con.execute("CREATE TABLE asked AS SELECT unnest(['a', 'z']) AS request_id")
        query = found.of("asked")
        assert [name in query for name in ("1.parquet", "2.parquet", "3.parquet")] == [True, False, True]
        assert sorted(con.execute(f"SELECT n FROM ({query})").fetchall()) == [(1,), (4,)]
        con.execute("DELETE FROM asked WHERE request_id = 'a'")
        assert con.execute(found.of("asked")).fetchall() == []


def test_the_digest_of_a_spool_is_of_its_rows(tmp_path: Path) -> None:
    contents = {
        "one": [batch(("a", 1), ("b", 2))],
        "order": [batch(("b", 2)), batch(("a", 1))],
        "twice": [batch(("a", 1), ("b", 2)), batch(("a", 1))],
        "other": [batch(("a", 1), ("b", 3))],
        "none": [],
    }
    digests = {}
    for name, batches in contents.items():
        with duckdb.connect() as con:
            digests[name] = spool(tmp_path / name, con, *batches).digest()
    assert digests["one"] == digests["order"] == digests["twice"]
    assert len(set(digests.values())) == 3
