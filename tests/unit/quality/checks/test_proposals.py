from __future__ import annotations

import logging
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.errors import BuildError, LakeError
from feature_repo.group import NON_NEGATIVE, NOT_NULL, USER, DType, Expectation, Feature, FeatureGroup
from quality.checks.build_profile import BuildProfile, ColumnProfile, profile
from quality.checks.proposals import Proposals, accept, accepted, propose, save_proposals
from quality.checks.suites import Rule
from tests.support.quality_data import taste

NOW = datetime(2024, 6, 1, tzinfo=UTC)
GROUP = taste(
    Feature("spend", DType.FLOAT64, "", "", (NON_NEGATIVE,)),
    Feature("mood", DType.STRING, "", "", (NOT_NULL,)),
    Feature("weights", DType.FLOAT64S, ""),
    Feature("count", DType.INT64, ""),
    expectations=(Expectation("row_count_between", minimum=1),),
)


def build(rows: int = 100, **columns: ColumnProfile) -> BuildProfile:
    given_columns = {name: ColumnProfile(0.0) for name in GROUP.feature_names} | columns
    return BuildProfile(rows, given_columns)


def proposed(*history: BuildProfile) -> dict[tuple[str, tuple[str, ...]], Rule]:
    return {p.rule.identity: p.rule for p in propose(GROUP, history)}


# Profiles


def test_a_profile_counts_nulls_ranges_and_values(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"spend": 1.5, "mood": "calm", "weights": [1.0, math.inf, -3.0], "count": 3},
        {"spend": math.nan, "mood": "calm", "weights": [], "count": None},
        {"spend": None, "mood": None, "weights": None, "count": -2},
        {"spend": 9.0, "mood": "wild", "weights": [7.0], "count": 5},
    ]
    rows = [
        {**r, "user_id": str(i), "event_timestamp": NOW, "created_timestamp": NOW} for i, r in enumerate(rows)
    ]
    path = tmp_path / "data.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=GROUP.arrow_schema), path)
    found = profile(GROUP, path)
    assert found.rows == 4
    spend = found.columns["spend"]
    assert (spend.null_share, spend.minimum, spend.maximum) == (0.25, 1.5, 9.0)
    assert found.columns["mood"] == ColumnProfile(0.25, None, None, 2)
    assert found.columns["weights"] == ColumnProfile(0.25, -3.0, 7.0)
    assert (found.columns["count"].minimum, found.columns["count"].maximum) == (-2.0, 5.0)


def test_an_empty_build_has_a_profile(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    pq.write_table(GROUP.arrow_schema.empty_table(), path)
    assert profile(GROUP, path).columns["spend"] == ColumnProfile(0.0, None, None, 0)


def test_a_build_without_a_feature_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"user_id": ["a"]}), path)
    with pytest.raises(LakeError, match=r"data\.parquet: cannot be profiled as taste .*spend"):
        profile(GROUP, path)


# Proposals


def test_bounds_hold_the_history_with_room() -> None:
    rules = proposed(
        build(100, spend=ColumnProfile(0.1, 2.0, 10.0)),
        build(150, spend=ColumnProfile(0.2, 3.0, 12.0)),
        build(120, spend=ColumnProfile(0.0, 2.5, 11.0)),
    )
    assert rules["row_count_between", ()] == Rule("row_count_between", minimum=50, maximum=300)
    assert rules["not_null", ("spend",)] == Rule("not_null", ("spend",), mostly=0.68, severity="warn")
    assert rules["between", ("spend",)] == Rule("between", ("spend",), minimum=0, maximum=17.0)


def test_a_declared_rule_is_tightened_and_keeps_its_severity() -> None:
    rules = proposed(*[build(spend=ColumnProfile(0, 50.0, 60.0))] * 3)
    assert rules["between", ("spend",)] == Rule("between", ("spend",), minimum=45.0, maximum=65.0)
    # mood is declared not null: nothing looser is proposed.
    assert ("not_null", ("mood",)) not in rules


def test_a_range_of_one_value_gets_room_too() -> None:
    rules = proposed(*[build(count=ColumnProfile(0, 4.0, 4.0))] * 3)
    assert rules["between", ("count",)] == Rule(
        "between", ("count",), minimum=2.0, maximum=6.0, severity="warn"
    )


def test_negative_histories_may_grow_more_negative() -> None:
    rules = proposed(*[build(weights=ColumnProfile(0, -4.0, 4.0))] * 3)
    assert rules["between", ("weights",)].minimum == -8.0


def test_a_feature_that_was_always_null_gets_no_null_bound() -> None:
    assert ("not_null", ("count",)) not in proposed(*[build(count=ColumnProfile(1.0))] * 3)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.floats(0, 1)), min_size=3, max_size=8))
def test_every_build_of_the_history_keeps_what_is_proposed(seen: list[tuple[float, float, float]]) -> None:
    history = [build(weights=ColumnProfile(nulls, low, low + width)) for low, width, nulls in seen]
    rules = proposed(*history)
    between, nulls = rules["between", ("weights",)], rules.get(("not_null", ("weights",)))
    for low, width, share in seen:
        assert isinstance(between.minimum, float)
        assert isinstance(between.maximum, float)
        slack = 1e-3 * max(abs(low), abs(low + width), 1.0)
        assert between.minimum <= low + slack
        assert between.maximum >= low + width - slack
        assert nulls is None or 1 - share >= nulls.mostly


@pytest.mark.parametrize("history", [[], [build()] * 2, [build(0)] * 5])
def test_too_little_history_is_reported(history: list[BuildProfile]) -> None:
    with pytest.raises(
        BuildError, match=r"taste: \d builds with rows; bounds need 3: run the chain for more days"
    ):
        propose(GROUP, history)


# Acceptance


@pytest.fixture
def root(tmp_path: Path) -> Path:
    history = [build(spend=ColumnProfile(0.1, 2.0, 10.0), count=ColumnProfile(0, 1.0, 3.0))] * 3
    save_proposals(tmp_path, Proposals("taste", 3, NOW, propose(GROUP, history)))
    return tmp_path


def test_nothing_counts_before_it_is_accepted(root: Path) -> None:
    assert accepted(root, GROUP) == ()


def test_all_is_accepted_and_the_proposal_is_gone(root: Path) -> None:
    rules = accept(root, GROUP, NOW)
    assert accepted(root, GROUP) == rules
    assert {r.columns for r in rules} >= {(), ("spend",), ("count",)}
    with pytest.raises(
        BuildError, match="taste: nothing is proposed; run `headrace quality propose taste` first"
    ):
        accept(root, GROUP, NOW)


def test_one_column_is_accepted_and_the_rest_stays_proposed(root: Path) -> None:
    first = accept(root, GROUP, NOW, ["count"])
    assert {r.columns for r in first} == {("count",)}
    accept(root, GROUP, NOW, ["spend"])
    assert {r.columns for r in accepted(root, GROUP)} == {("count",), ("spend",)}


def test_a_column_without_a_proposal_is_reported(root: Path) -> None:
    with pytest.raises(BuildError, match=r"taste: nothing is proposed for nose \(see .*taste\.json\)"):
        accept(root, GROUP, NOW, ["nose"])


def test_a_person_may_edit_the_proposal(root: Path) -> None:
    path = root / "proposals" / "taste.json"
    path.write_text(path.read_text().replace('"maximum": 4.0', '"maximum": 9.5'))
    accept(root, GROUP, NOW)
    by_identity = {r.identity: r for r in accepted(root, GROUP)}
    assert by_identity["between", ("count",)].maximum == 9.5


@pytest.mark.parametrize("folder", ["proposals", "accepted"])
def test_a_damaged_file_is_named(root: Path, folder: str) -> None:
    (root / folder).mkdir(exist_ok=True)
    (root / folder / "taste.json").write_text('{"group": 1}')
    with pytest.raises(LakeError, match=rf"{folder}/taste\.json: .*fix the line or remove the file"):
        (accept(root, GROUP, NOW) if folder == "proposals" else accepted(root, GROUP))


def test_rules_of_features_that_are_gone_are_left_out(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    accept(root, GROUP, NOW)
    smaller = FeatureGroup(
        "taste", USER, "", GROUP.features[:2], freshness=GROUP.freshness, ttl=GROUP.ttl, expectations=()
    )
    with caplog.at_level(logging.WARNING):
        assert {c for r in accepted(root, smaller) for c in r.columns} == {"spend"}
    assert "an accepted rule names ('count',), which no longer exists" in caplog.text
