"""The batch expressions against the naive oracle, and their schemas against the declarations."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import ibis
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from feature_repo.contract.validation import Event, Item, ShownItem, User, arrow_schema
from feature_repo.group import PART, BatchParams, LakeTables, Part
from feature_repo.groups import batch_groups
from feature_repo.settings import Settings
from tests.oracles.statistics_oracle import Oracle, differences
from tests.support.batch import build_all, duckdb, rows_of
from tests.support.events_strategy import AS_OF, World, worlds

PARAMS = BatchParams.of(Settings(), AS_OF)
NAMES = ("item_neighbours", "item_profile", "segment_profile", "user_profile")


def assert_equal_to_oracle(
    world: World, params: BatchParams, only: str | None = None, parts: int = 1
) -> None:
    built = build_all(world.events, world.items, world.users, params, only, parts=parts)
    oracle = Oracle(world.events, world.items, world.users, params)
    for name in built:
        group = batch_groups()[name]
        tolerance = 1e-6 if name == "item_profile" else 1e-9  # its vector is single precision
        assert hasattr(oracle, name), f"tests/oracles/statistics_oracle.py: Oracle.{name} is missing"
        wanted = getattr(oracle, name)()
        found = rows_of(built[name], group.entity.join_key)
        assert differences(wanted, found, name, tolerance) == []


@given(
    worlds(max_events=50),
    st.sampled_from([PARAMS, replace(PARAMS, affinity_top_k=1, neighbours_top_k=1, consent_default=False)]),
    st.sampled_from([1, 2, 4]),
)
@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each example takes a second: no shrinking
)
def test_every_feature_equals_the_oracle_however_the_users_are_divided(
    world: World, params: BatchParams, parts: int
) -> None:
    assert_equal_to_oracle(world, params, parts=parts)


def test_parts_hold_every_key_once_and_keep_what_they_share() -> None:
    users = ibis.memtable({"user_id": [f"u{n}" for n in range(200)]})
    found = [duckdb().to_pyarrow(Part(n, 4).rows(users, "user_id"))["user_id"].to_pylist() for n in range(4)]
    assert sorted(user for part in found for user in part) == sorted(f"u{n}" for n in range(200))
    assert min(map(len, found)) > 25
    assert Part().rows(users, "user_id") is users


def test_a_table_that_is_split_already_is_believed() -> None:
    split = ibis.memtable({"user_id": ["u1", "u2", "u3"], PART: [1, 0, 1]})
    found = duckdb().to_pyarrow(Part(1, 2).rows(split, "user_id"))
    assert sorted(found["user_id"].to_pylist()) == ["u1", "u3"]
    assert found.column_names == ["user_id"]
    assert Part().rows(split, "user_id") is split


def test_what_the_parts_share_is_computed_once() -> None:
    kept: dict[str, tuple[ibis.Table, str | None]] = {}

    def keep(name: str, table: ibis.Table, key: str | None = None) -> ibis.Table:
        return kept.setdefault(name, (table, key))[0]

    tables = LakeTables(
        *(ibis.memtable(arrow_schema(kind).empty_table()) for kind in ("event", "item", "user")), keep=keep
    )
    group = batch_groups()["user_profile"]
    assert group.batch is not None
    for number in range(2):
        expression = group.batch(replace(tables, part=Part(number, 2)), PARAMS)
    assert {name: key for name, (_, key) in kept.items()} == {
        "each_touch": "user_id",
        "received": None,
        "active": None,
        "bought": None,
    }
    read = {table.op() for table, _ in kept.values()}
    events = tables.events.op()
    assert events in expression.op().find(type(events))
    assert events not in expression.op().find(type(events), filter=lambda node: node not in read)


def test_the_groups_of_the_oracle_are_batch_groups_and_users_come_before_segments() -> None:
    names = list(batch_groups())
    assert set(NAMES) <= set(names)
    assert names.index("user_profile") < names.index("segment_profile")


def test_an_empty_lake_gives_empty_groups_with_the_declared_types() -> None:
    built = build_all([], [], [], PARAMS)
    rows = {name: table.num_rows for name, table in built.items()}
    assert rows == {name: int(name == "segment_profile") for name in batch_groups()}
    for name, group in batch_groups().items():
        declared = {f.name: f.dtype.arrow for f in group.features}
        found = {field.name: field.type for field in built[name].schema}
        assert {k: v for k, v in found.items() if k != group.entity.join_key} == declared, name


def event(number: int, kind: str, **fields: object) -> Event:
    given_fields: dict[str, object] = {
        "event_time": AS_OF - timedelta(hours=number),
        "session_id": "s",
        "user_id": "u",
        **fields,
    }
    return Event(event_id=f"e{number}", event_type=kind, **given_fields)  # type: ignore[arg-type]


def test_a_robots_session_is_cut_to_its_last_items() -> None:
    events = [
        event(n, "click", item_id=f"i{n % 70:02}", event_time=AS_OF - timedelta(seconds=200 - n))
        for n in range(120)
    ]
    world = World(events, [], [])
    assert_equal_to_oracle(world, PARAMS, "item_neighbours")
    neighbours = rows_of(
        build_all(events, [], [], PARAMS, only="item_neighbours")["item_neighbours"], "item_id"
    )
    assert "i50" not in neighbours
    assert len(neighbours["i00"]["neighbour_ids"]) == 49


def test_long_impressions_share_the_last_position() -> None:
    shown = tuple(ShownItem(f"i{n:03}") for n in range(130))
    events = [
        event(3, "impression", items=shown, request_id="r"),
        event(2, "click", item_id="i120", request_id="r"),
        event(1, "click", item_id="i005", position=129),
    ]
    assert_equal_to_oracle(World(events, [], []), PARAMS, "item_profile")


def test_a_click_stamped_before_its_request_counts_as_one_after_it() -> None:
    """Clicks and slots are joined by request, whichever bears the earlier stamp."""
    shown = (ShownItem("a"), ShownItem("b"))
    at = AS_OF - timedelta(hours=2)
    rows = []
    for seconds in (1, -1):
        clicked = at + timedelta(seconds=seconds)
        events = [
            event(1, "impression", items=shown, request_id="r", event_time=at),
            event(2, "click", item_id="b", request_id="r", event_time=clicked),
        ]
        assert_equal_to_oracle(World(events, [], []), PARAMS, "item_profile")
        rows.append(
            rows_of(build_all(events, [], [], PARAMS, only="item_profile")["item_profile"], "item_id")
        )
    late, early = rows
    assert (early["b"]["impressions"], early["b"]["clicks"]) == (1.0, 1.0)
    for item in "ab":
        for name in ("impressions", "clicks", "ctr", "ctr_debiased"):
            assert early[item][name] == late[item][name]


def test_values_beyond_top_k_are_cut_per_type_and_ties_go_by_name() -> None:
    items = [
        Item(item_id=f"i{n}", categories=(f"c{n:02}",), attributes={"tags": [f"t{n}", "every"]})
        for n in range(12)
    ]
    events = [
        event(n + 1, "view", item_id=f"i{n % 12}", event_time=AS_OF - timedelta(hours=1)) for n in range(12)
    ]
    params = replace(PARAMS, affinity_top_k=3)
    assert_equal_to_oracle(World(events, items, []), params, "user_profile")
    user = rows_of(build_all(events, items, [], params, only="user_profile")["user_profile"], "user_id")["u"]
    assert user["categories"] == ["c00", "c01", "c02"]
    assert user["attr_keys"] == [
        "category:c00",
        "category:c01",
        "category:c02",
        "tags:every",
        "tags:t0",
        "tags:t1",
    ]
    assert sum(user["category_shares"]) == pytest.approx(3 / 12)


def test_a_declared_user_without_events_has_a_profile_and_counts_in_the_segment() -> None:
    users = [
        User(user_id="quiet", attributes={"segment": "gold"}),
        User(user_id="denies", attributes={"segment": "gold"}, consent=False),
    ]
    events = [event(1, "view", item_id="i", user_id="denies")]
    built = build_all(events, [], users, PARAMS)
    rows = rows_of(built["user_profile"], "user_id")
    assert list(rows) == ["quiet"]
    assert rows["quiet"]["segment"] == "gold"
    assert (rows["quiet"]["recency_days"], rows["quiet"]["view_count_90d"]) == (None, 0)
    assert rows_of(built["segment_profile"], "segment")["gold"]["user_count"] == 1
    item = rows_of(built["item_profile"], "item_id")["i"]
    assert item["clicks"] == 1.0
    assert built["item_neighbours"].num_rows == 0


def test_anonymous_events_count_for_everyone_only() -> None:
    items = [Item(item_id="i", categories=("Hats",), price=3.0)]
    built = build_all([event(1, "view", item_id="i", user_id=None)], items, [], PARAMS)
    assert built["user_profile"].num_rows == 0
    everyone = rows_of(built["segment_profile"], "segment")["all"]
    assert (everyone["user_count"], everyone["categories"], everyone["price_median"]) == (0, ["hats"], 3.0)


def test_half_lives_of_an_hour_over_decades_underflow_to_zero_quietly() -> None:
    old = [event(1, "view", item_id="i", event_time=AS_OF - timedelta(days=9_000))]
    row = rows_of(build_all(old, [], [], PARAMS, only="item_profile")["item_profile"], "item_id")["i"]
    assert (row["popularity_short"], row["clicks"]) == (0.0, 1.0)


def test_weights_of_zero_leave_no_engagement() -> None:
    params = replace(PARAMS, weights={"view": 0.0, "dislike": -1.0})
    built = build_all([event(1, "view", item_id="i"), event(2, "dislike", item_id="i")], [], [], params)
    assert built["item_profile"].num_rows == 0
    assert rows_of(built["user_profile"], "user_id")["u"]["view_count_1d"] == 1


class _SparkOptions(ibis.config.Config):  # type: ignore[misc]
    treat_nan_as_null: bool = False


@pytest.mark.parametrize(
    ("name", "part"), [*((name, Part()) for name in NAMES), ("user_profile", Part(1, 2))]
)
def test_every_expression_compiles_for_spark(name: str, part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    """PySpark is not installed here: that the SQL exists is checked, not what Spark answers."""
    monkeypatch.setattr(ibis.options, "pyspark", _SparkOptions())
    group = batch_groups()[name]
    kinds = {
        kind: ibis.table(ibis.Schema.from_pyarrow(arrow_schema(kind)), name=kind)  # type: ignore[arg-type]
        for kind in ("event", "item", "user")
    }
    groups = {
        other: ibis.table(ibis.Schema.from_pyarrow(batch_groups()[other].arrow_schema), name=other)
        for other in group.depends_on
    }
    tables = LakeTables(kinds["event"], kinds["item"], kinds["user"], groups, part)
    assert group.batch is not None
    sql = str(ibis.to_sql(group.batch(tables, PARAMS), dialect="pyspark"))
    assert "SELECT" in sql
