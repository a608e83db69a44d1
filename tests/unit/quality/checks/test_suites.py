from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from feature_repo.contract.validation import Event, arrow_schema
from feature_repo.group import NON_NEGATIVE, NOT_NULL, USER, DType, Expectation, Feature, FeatureGroup
from feature_repo.groups import all_groups
from feature_repo.settings import Settings
from quality.checks.suites import Rule, Suite, Where, event_suite, group_suite


def group(*features: Feature, expectations: tuple[Expectation, ...] = ()) -> FeatureGroup:
    return FeatureGroup(
        name="taste",
        entity=USER,
        meaning="",
        features=features,
        freshness=timedelta(hours=1),
        ttl=timedelta(days=1),
        expectations=expectations,
    )


def by_identity(suite: Suite) -> dict[tuple[str, tuple[str, ...]], Rule]:
    return {rule.identity: rule for rule in suite.rules}


def test_every_group_has_row_count_key_schema_and_null_shares() -> None:
    for declared in all_groups().values():
        rules = by_identity(group_suite(declared))
        key = (declared.entity.join_key,)
        assert ("columns", ()) in rules
        assert ("row_count_between", ()) in rules
        assert rules["not_null", key].severity == "block"
        assert rules["unique", key].severity == "block"
        assert {c for kind, columns in rules if kind == "not_null" for c in columns} >= set(
            declared.feature_names
        )


@pytest.mark.parametrize(
    "suite", [*map(group_suite, all_groups().values()), event_suite()], ids=lambda s: s.name
)
def test_a_suite_names_each_rule_once_and_only_known_columns(suite: Suite) -> None:
    assert len(by_identity(suite)) == len(suite.rules)
    assert {c for rule in suite.rules for c in rule.columns} <= set(suite.schema.names)


def test_a_declared_expectation_replaces_the_default_of_its_kind() -> None:
    suite = group_suite(
        group(
            Feature("score", DType.FLOAT64, "", expectations=(NOT_NULL, NON_NEGATIVE)),
            expectations=(Expectation("row_count_between", minimum=5),),
        )
    )
    rules = by_identity(suite)
    assert rules["not_null", ("score",)] == Rule("not_null", ("score",))
    assert rules["between", ("score",)] == Rule("between", ("score",), minimum=0)
    assert rules["row_count_between", ()] == Rule("row_count_between", minimum=5)


def test_an_undeclared_row_count_and_null_share_only_warn() -> None:
    rules = by_identity(group_suite(group(Feature("name", DType.STRING, ""))))
    assert rules["row_count_between", ()] == Rule("row_count_between", minimum=1, severity="warn")
    assert rules["not_null", ("name",)].severity == "warn"
    assert ("finite", ("name",)) not in rules


def test_floats_must_be_finite_lists_of_them_too() -> None:
    rules = by_identity(group_suite(group(Feature("v", DType.FLOAT32S, ""), Feature("x", DType.FLOAT64, ""))))
    assert ("finite", ("v",)) in rules
    assert ("finite", ("x",)) in rules


def test_accepted_bounds_replace_and_add() -> None:
    base = Suite("s", pa.schema([]), (Rule("not_null", ("a",)), Rule("unique", ("a",))))
    loose, new = Rule("not_null", ("a",), mostly=0.5), Rule("between", ("a",), maximum=3)
    merged = base.with_overrides([loose, new])
    assert merged.rules == (loose, Rule("unique", ("a",)), new)
    assert base.rules[0].mostly == 1.0


def test_the_event_suite_states_what_the_contract_states() -> None:
    rules = by_identity(event_suite())
    required = {"event_id", "event_type", "event_time", "session_id"}
    assert {c for kind, cs in rules if kind == "not_null" for c in cs} >= required
    assert rules["length_between", ("event_id",)] == Rule(
        "length_between", ("event_id",), minimum=1, maximum=256
    )
    assert rules["length_between", ("query",)].maximum == 4096
    assert rules["between", ("position",)] == Rule("between", ("position",), minimum=0, maximum=1_000_000)
    assert rules["not_null", ("item_id",)].where == Where(
        "event_type", ("impression", "search"), negated=True
    )
    assert set(arrow_schema("event").names) == {*Event.__struct_fields__, "ingested_at"}


def test_a_day_bounds_the_event_time_and_settings_the_types() -> None:
    suite = event_suite(Settings(event_weights={"bookmark": 2.0}), date(2024, 6, 1))
    rules = by_identity(suite)
    assert suite.name == "events 2024-06-01"
    times = rules["between", ("event_time",)]
    assert times.minimum == datetime(2024, 6, 1, tzinfo=UTC)
    assert times.maximum == datetime(2024, 6, 1, 23, 59, 59, 999999, tzinfo=UTC)
    assert "bookmark" in rules["in_set", ("event_type",)].values
    assert ("in_set", ("event_type",)) not in by_identity(event_suite())


def test_settings_alone_bound_the_event_time_from_below() -> None:
    times = by_identity(event_suite(Settings()))["between", ("event_time",)]
    assert times.minimum == datetime(1990, 1, 1, tzinfo=UTC)
    assert times.maximum is None


def test_a_condition_reads_as_a_sentence() -> None:
    assert str(Where("t", ("a", "b"))) == "where t is a or b"
    assert str(Where("t", ("a",), negated=True)) == "where t is not a"
