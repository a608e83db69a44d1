"""Column lineage against expressions small enough to read the answer off."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
import pytest

from feature_repo.group import EVENT_TIMESTAMP
from feature_repo.groups import all_groups, batch_groups
from feature_repo.settings import Settings
from orchestration.lineage.group_lineage import group_sources
from orchestration.lineage.lineage import column_sources
from tests.support.offline import click_group

EVENTS = ibis.table(
    {"user": "string", "item": "string", "kind": "string", "at": "timestamp", "shown": "array<string>"},
    name="events",
)
ITEMS = ibis.table({"item": "string", "price": "float64", "title": "string"}, name="items")


def of(table: ir.Table) -> dict[str, set[str]]:
    return {name: {".".join(source) for source in sources} for name, sources in column_sources(table).items()}


def test_renamed_computed_and_constant_columns() -> None:
    table = ITEMS.select(
        id="item", double=ITEMS.price * 2, label=ITEMS.title + ITEMS.item, one=ibis.literal(1)
    )
    assert of(table) == {
        "id": {"items.item"},
        "double": {"items.price"},
        "label": {"items.title", "items.item"},
        "one": set(),
    }


def test_a_filter_does_not_feed_a_column_but_a_count() -> None:
    clicks = EVENTS.filter(EVENTS.kind == "click")
    table = clicks.group_by("user").agg(last=clicks["at"].max(), clicks=clicks.count())
    assert of(table) == {"user": {"events.user"}, "last": {"events.at"}, "clicks": {"events.kind"}}


def test_a_count_of_groups_comes_from_their_keys() -> None:
    once = EVENTS.group_by("user", "item").agg()
    assert of(once.group_by("user").agg(items=once.count()))["items"] == {"events.user", "events.item"}


def test_the_condition_of_an_aggregate_feeds_it() -> None:
    table = EVENTS.group_by("user").agg(items=EVENTS.item.nunique(where=EVENTS.kind == "click"))
    assert of(table)["items"] == {"events.item", "events.kind"}


def test_joins_keep_the_sides_apart() -> None:
    joined = EVENTS.left_join(ITEMS, "item")
    table = joined.select("user", "price", same=joined.item)
    assert of(table) == {"user": {"events.user"}, "price": {"items.price"}, "same": {"events.item"}}
    assert of(joined.agg(n=joined.count()))["n"] == {"events.item", "items.item"}


def test_a_table_joined_to_itself() -> None:
    left, right = EVENTS.select("user", one="item"), EVENTS.view().select("user", two="item")
    assert of(left.join(right, "user").select("one", "two")) == {
        "one": {"events.item"},
        "two": {"events.item"},
    }


def test_a_union_comes_from_both_sides_whatever_their_order() -> None:
    first = EVENTS.select(id="user", other="kind")
    second = ITEMS.select(other="title", id="item")
    assert of(ibis.union(first, second)) == {
        "id": {"events.user", "items.item"},
        "other": {"events.kind", "items.title"},
    }


def test_windows_and_lists() -> None:
    ranked = EVENTS.mutate(rank=ibis.row_number().over(group_by="user", order_by="at"))
    assert of(ranked.select("rank"))["rank"] == {"events.user", "events.at"}
    pair = ibis.struct({"rank": ranked["rank"], "item": ranked.item})
    lists = ranked.group_by("user").agg(pairs=pair.collect())
    lists = lists.select("user", items=lists.pairs.sort().map(lambda p: p["item"]))
    assert of(lists)["items"] == {"events.user", "events.at", "events.item"}


@pytest.mark.parametrize("how", ["value", "table"])
def test_unnested_lists_feed_their_elements_and_the_count_of_them(how: str) -> None:
    rows = (
        EVENTS.select(slot=EVENTS.shown.unnest())
        if how == "value"
        else EVENTS.unnest("shown").rename(slot="shown")
    )
    assert of(rows.select("slot"))["slot"] == {"events.shown"}
    assert of(rows.agg(n=rows.count()))["n"] == {"events.shown"}


def test_subqueries() -> None:
    mean = ITEMS.select("item", dear=ITEMS.price / ITEMS.price.mean().as_scalar())
    assert of(mean)["dear"] == {"items.price"}
    known = EVENTS.filter(EVENTS.item.isin(ITEMS.item))
    assert of(known.agg(n=known.count()))["n"] == {"events.item", "items.item"}


def test_a_declared_group_is_followed_to_the_lake_by_hand() -> None:
    found = group_sources(click_group(), Settings())
    assert found["user_id"] == {("lake/events", "user_id")}
    assert found["clicks"] == {("lake/events", "event_type"), ("lake/events", "user_id")}
    assert found["last_item"] == {("lake/events", "item_id")}
    assert found["last_event_time"] == {("lake/events", "event_time")}


def test_every_batch_feature_has_sources_that_exist() -> None:
    lake = {"lake/events", "lake/items", "lake/users"}
    for group in batch_groups().values():
        found = group_sources(group, Settings())
        assert set(found) == {group.entity.join_key, *group.feature_names}
        for name, sources in found.items():
            assert sources, f"{group.name}.{name}"
            for table, column in sources:
                parent = table.removeprefix("features/")
                assert table in lake or column in all_groups()[parent].arrow_schema.names
                assert table in lake or parent in group.depends_on


def test_known_features_of_the_shop() -> None:
    items = group_sources(batch_groups()["item_profile"], Settings())
    assert items["title"] == {("lake/items", "title")}
    assert items["price"] == {("lake/items", "price")}
    assert {("lake/events", "items"), ("lake/events", "event_type")} <= items["impressions"]
    segments = group_sources(batch_groups()["segment_profile"], Settings())
    assert ("features/user_profile", "segment") in segments["user_count"]


def test_without_an_expression_that_can_be_followed_names_decide(caplog: pytest.LogCaptureFixture) -> None:
    def broken(tables: object, params: object) -> object:
        msg = "no Ibis here"
        raise ValueError(msg)

    found = group_sources(click_group(batch=broken), Settings())
    assert found["user_id"] == {("lake/events", "user_id"), ("lake/users", "user_id")}
    assert found["clicks"] == set()
    assert "no Ibis here" in caplog.text
    assert EVENT_TIMESTAMP not in found
