"""The item snapshot: builds as arrays."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.errors import LakeError
from feature_repo.lake.lake import Build, Builds
from serving.decisions.replay import snapshot_as_of
from serving.items.item_rows import ALONE
from serving.items.item_snapshot import MAX_NUMERICS, load_snapshot
from tests.support.ranking_data import AS_OF, item, items_table, neighbours_table, snapshot

IDS = [f"i{n}" for n in range(8)]


@given(
    st.dictionaries(
        st.sampled_from([*IDS, "gone"]),
        st.dictionaries(st.sampled_from([*IDS, "gone"]), st.integers(1, 9).map(float), max_size=5),
    ),
    st.lists(st.sampled_from([*IDS, "new"]), unique=True, max_size=9),
    st.lists(st.sampled_from([*IDS, "new"]), unique=True, max_size=4),
)
def test_covisits_are_those_of_the_neighbour_rows(
    pairs: dict[str, dict[str, float]], candidates: list[str], last: list[str]
) -> None:
    sessions = {item_id: n + 1 for n, item_id in enumerate(IDS)}
    held = snapshot([item(i) for i in IDS], neighbours_table(pairs, sessions))
    rows = held.rows(held.numbers(candidates), last)
    wanted = [
        [pairs.get(t, {}).get(c, 0.0) if c in IDS and t in IDS else 0.0 for t in last] for c in candidates
    ]
    np.testing.assert_allclose(rows.together, np.array(wanted).reshape(len(candidates), len(last)))
    np.testing.assert_allclose(rows.sessions, [sessions[t] if t in pairs and t in IDS else 0 for t in last])


def test_rows_come_in_the_order_asked_and_unknown_items_are_marked() -> None:
    held = snapshot([item("a", ctr=0.3), item("b", ctr=0.1)])
    rows = held.rows(held.numbers(["b", "nobody", "a", "b"]))
    assert rows.rows.tolist() == [1, -1, 0, 1]
    found = rows.alone[rows.places]
    np.testing.assert_allclose(np.exp(found[:, 0]), [0.1, np.nan, 0.3, 0.1])
    assert np.isnan(found[1]).all()
    assert rows.together.shape == (4, 0)


def test_what_is_gathered_are_the_numbers_in_the_order_asked() -> None:
    held = snapshot([item("a"), item("b")])
    item_ids, order = ["b", "nobody", "a"], np.array([2, 0, 1])
    assert held.gather(item_ids, order).tolist() == [0, 1, -1]
    assert held.gather([], np.zeros(0, np.intp)).tolist() == []


def test_all_that_was_touched_is_numbered_and_the_newest_go_with_candidates() -> None:
    touched = [f"i{n}" for n in range(7)] + ["gone"]
    held = snapshot([item(i) for i in IDS], neighbours_table({"i6": {"i0": 1.0}, "i1": {"i0": 2.0}}, {}))
    rows = held.rows(held.numbers(["i0"]), touched)
    assert rows.touched.tolist() == [*range(7), -1]
    assert rows.together.tolist() == [[0.0, 2.0, 0.0, 0.0, 0.0]]


def test_numerics_stand_in_columns_with_gaps_as_nan() -> None:
    held = snapshot(
        [
            item("a", numeric_keys=["price", "year"], numeric_values=[3.0, 1999.0]),
            item("b", numeric_keys=["year"], numeric_values=[2001.0]),
            item("c"),
        ]
    )
    assert held.numeric_names == ("price", "year")
    wanted = [[3.0, 1999.0], [np.nan, 2001.0], [np.nan, np.nan], [np.nan, np.nan]]
    np.testing.assert_allclose(held.alone[:, ALONE:], np.log1p(wanted))


def test_the_numerics_most_items_have_are_kept() -> None:
    names = [f"n{i:02d}" for i in range(MAX_NUMERICS + 3)]
    held = snapshot(
        [
            item("a", numeric_keys=names, numeric_values=[1.0] * len(names)),
            item("b", numeric_keys=names[3:], numeric_values=[1.0] * (len(names) - 3)),
        ]
    )
    assert held.numeric_names == tuple(names[3:])


def test_nulls_are_nothing() -> None:
    empty = item("a", ctr=None, popularity_long=None)
    for name in ("attr_keys", "numeric_keys", "numeric_values", "categories", "vector"):
        empty[name] = None
    held = snapshot([empty, item("b", ["category:x"], vector=[0.6, 0.8])])
    assert np.isnan(held.alone[0, 0])
    assert held.popularity[0, 2] == 0.0
    assert held.vectors.tolist() == [[0.0, 0.0], [pytest.approx(0.6), pytest.approx(0.8)]]
    assert np.diff(held.category_offsets).tolist() == [0, 1]
    assert held.category_names == ("x",)


def test_the_smoothed_shares_sum_to_one() -> None:
    held = snapshot([item("a", popularity_long=5.0), item("b"), item("c", popularity_long=1.0)])
    assert held.share.sum() == pytest.approx(1.0)
    assert held.share.min() > 0


def promote(builds: Builds, group: str, after: timedelta | int, table: object) -> Build:
    as_of = AS_OF + (after if isinstance(after, timedelta) else timedelta(days=after))
    path = builds.write(group, as_of, table)
    build = Build(path=path, as_of=as_of, created=as_of, rows=table.num_rows)  # type: ignore[attr-defined]
    builds.promote(group, build)
    return build


def test_the_current_builds_are_loaded_and_named(tmp_path: Path) -> None:
    builds = Builds(tmp_path)
    assert load_snapshot(builds) is None
    promote(builds, "item_profile", 0, items_table([item("a")]))
    first = load_snapshot(builds)
    assert first is not None
    assert first.version == "items@20240601T000000Z"
    assert len(first) == 1
    promote(builds, "item_profile", 1, items_table([item("a"), item("b")]))
    promote(builds, "item_neighbours", 1, neighbours_table({"a": {"b": 2.0}}, {"a": 3}))
    second = load_snapshot(builds)
    assert second is not None
    assert second.version == "items@20240602T000000Z+neighbours@20240602T000000Z"
    assert second.rows(second.numbers(["b"]), ["a"]).together.tolist() == [[2.0]]
    assert len(first) == 1


def test_each_group_has_an_age_of_its_own(tmp_path: Path) -> None:
    builds = Builds(tmp_path)
    promote(builds, "item_profile", 3, items_table([item("a")]))
    alone = load_snapshot(builds)
    assert alone is not None
    assert alone.neighbours_as_of is None
    promote(builds, "item_neighbours", 1, neighbours_table({}, {}))
    both = load_snapshot(builds)
    assert both is not None
    assert (both.as_of, both.neighbours_as_of) == (AS_OF + timedelta(days=3), AS_OF + timedelta(days=1))


def test_ages_are_those_that_the_name_of_a_build_tells(tmp_path: Path) -> None:
    """A replay has only the name; if its age differed, items could expire in between."""
    builds = Builds(tmp_path)
    fraction = timedelta(microseconds=654_321)
    promote(builds, "item_profile", fraction, items_table([item("a")]))
    promote(builds, "item_neighbours", 2 * fraction, neighbours_table({}, {}))
    served = load_snapshot(builds)
    assert served is not None
    assert (served.as_of, served.neighbours_as_of) == (AS_OF, AS_OF + timedelta(seconds=1))
    again = snapshot_as_of(tmp_path, served.version)
    assert (again.as_of, again.neighbours_as_of) == (served.as_of, served.neighbours_as_of)


def test_without_covisits_what_was_touched_is_known_all_the_same() -> None:
    held = snapshot([item("a"), item("b")], neighbours_table({"a": {"b": 2.0}}, {"a": 3}))
    rows = held.rows(held.numbers(["b"]), ["a"], covisits=False)
    assert rows.touched.tolist() == [0]
    assert (rows.together.shape, rows.sessions.shape) == ((1, 0), (0,))


def test_a_build_without_rows_is_no_snapshot(tmp_path: Path) -> None:
    builds = Builds(tmp_path)
    promote(builds, "item_profile", 0, items_table([]))
    assert load_snapshot(builds) is None


def test_an_unreadable_build_is_named(tmp_path: Path) -> None:
    builds = Builds(tmp_path)
    build = promote(builds, "item_profile", 0, items_table([item("a")]))
    build.path.write_bytes(b"not parquet")
    with pytest.raises(LakeError, match=r"data\.parquet: not a readable build .* run the chain again"):
        load_snapshot(builds)
