"""Rule suites, derived from the feature-group and event declarations.

A rule is plain data. `quality.checks.measure` turns rules into one DuckDB query,
`quality.checks.expectations` into Great Expectations' expectations; neither knows a rule's origin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal, TypeAlias

import msgspec
import pyarrow as pa

from feature_repo.contract.validation import Event, arrow_schema
from feature_repo.group import CREATED_TIMESTAMP, EVENT_TIMESTAMP, DType, Expectation, Feature, FeatureGroup
from feature_repo.settings import Settings

Severity: TypeAlias = Literal["block", "warn"]
Bound: TypeAlias = float | datetime | None
Kind: TypeAlias = Literal[
    "columns",
    "row_count_between",
    "not_null",
    "unique",
    "between",
    "in_set",
    "length_between",
    "finite",
    "same_length",
]

ANY_VALUE = 1e-9
"""`mostly` of the null-share rule that every feature has: a single value satisfies it."""

FLOATS = (DType.FLOAT64, DType.FLOAT64S, DType.FLOAT32S)
BEHAVIOUR = "behaviour"
"""Name under which behaviour drift is stored and plotted."""
WITHOUT_ITEM = ("impression", "search")


@dataclass(frozen=True)
class Where:
    """The rows that a rule covers: `column` is (or, `negated`, is not) one of `values`."""

    column: str
    values: tuple[str, ...]
    negated: bool = False

    def __str__(self) -> str:
        return f"where {self.column} is {'not ' if self.negated else ''}{' or '.join(self.values)}"


@dataclass(frozen=True)
class Rule:
    """One condition on the data.

    Attributes:
        kind: as in `feature_repo.group.Expectation`, plus ``columns`` (names and types of the schema),
            ``finite`` (no NaN, no infinity) and ``length_between`` (bytes of a text).
            On list columns, a rule about values covers every element.
        mostly: share of non-null rows (``not_null``: of all rows) that must pass.
    """

    kind: Kind
    columns: tuple[str, ...] = ()
    minimum: Bound = None
    maximum: Bound = None
    values: tuple[str, ...] = ()
    mostly: float = 1.0
    severity: Severity = "block"
    where: Where | None = None

    @property
    def identity(self) -> tuple[str, tuple[str, ...]]:
        """Key under which a suite holds at most one rule: the kind and the columns."""
        return self.kind, self.columns


@dataclass(frozen=True)
class Suite:
    """The rules of one target.

    Attributes:
        exact: whether columns beyond `schema` are a fault.
        may_lack: columns that may be absent, because an earlier version of the contract lacked them.
        title: what is checked, for people.
        asset: path of the Dagster asset that holds the data.
        drift: name under which the data's drift is plotted.
    """

    name: str
    schema: pa.Schema
    rules: tuple[Rule, ...]
    exact: bool = True
    may_lack: tuple[str, ...] = ()
    title: str = ""
    asset: str = ""
    drift: str = ""

    def with_overrides(self, overrides: Sequence[Rule]) -> Suite:
        """Return the suite with accepted bounds; each replaces the rule of its kind and columns or is new."""
        merged = {rule.identity: rule for rule in self.rules}
        merged.update({rule.identity: rule for rule in overrides})
        return replace(self, rules=tuple(merged.values()))


def group_suite(group: FeatureGroup) -> Suite:
    """Derive the rules for a group's rows.

    They always include columns and types, the row count (at least one, as a warning if the group declares
    none), a present and unique key, the null share of every feature, and finite floats.
    """
    key = group.entity.join_key
    rules = [
        Rule("columns"),
        Rule("row_count_between", minimum=1, severity="warn"),
        Rule("not_null", (key,)),
        Rule("unique", (key,)),
        Rule("not_null", (EVENT_TIMESTAMP,)),
        Rule("not_null", (CREATED_TIMESTAMP,)),
    ]
    for feature in group.features:
        rules += _feature_rules(feature)
    rules += [_declared(expectation, expectation.columns) for expectation in group.expectations]
    suite = Suite(
        group.name,
        group.arrow_schema,
        (),
        title=f"Build of {group.name}",
        asset=f"features/{group.name}",
        drift=group.view_name,
    )
    return suite.with_overrides(rules)


def _feature_rules(feature: Feature) -> list[Rule]:
    column = (feature.name,)
    rules = [Rule("not_null", column, mostly=ANY_VALUE, severity="warn")]
    if feature.dtype in FLOATS:
        rules.append(Rule("finite", column))
    return rules + [_declared(expectation, column) for expectation in feature.expectations]


def _declared(expectation: Expectation, columns: tuple[str, ...]) -> Rule:
    return Rule(
        kind=expectation.kind,
        columns=() if expectation.kind == "row_count_between" else columns,
        minimum=expectation.minimum,
        maximum=expectation.maximum,
        values=expectation.values,
        mostly=expectation.mostly,
        severity=expectation.severity,
    )


def event_suite(settings: Settings | None = None, day: date | None = None) -> Suite:
    """Derive the rules for a lake day of events from the bounds in the contract's struct.

    Args:
        settings: the registered event types and the earliest event time; without them neither is bounded.
        day: the event day of all rows.
    """
    rules = [Rule("columns"), Rule("row_count_between", minimum=1)]
    info = msgspec.inspect.type_info(Event)
    assert isinstance(info, msgspec.inspect.StructType)
    for field in info.fields:
        if field.required:
            rules.append(Rule("not_null", (field.name,)))
        rules += _field_rules(field.name, field.type)
    earliest = settings.earliest_event_time if settings else None
    latest = None
    if day is not None:
        earliest = datetime.combine(day, time(), UTC)
        latest = earliest + timedelta(days=1) - timedelta(microseconds=1)
    if earliest is not None:
        rules.append(Rule("between", ("event_time",), minimum=earliest, maximum=latest))
    if settings is not None:
        rules.append(Rule("in_set", ("event_type",), values=tuple(sorted(settings.weights))))
    rules += [
        Rule("unique", ("event_id",)),
        Rule("not_null", ("item_id",), where=Where("event_type", WITHOUT_ITEM, negated=True)),
        Rule("not_null", ("query",), where=Where("event_type", ("search",))),
        Rule("length_between", ("items",), minimum=1, where=Where("event_type", ("impression",))),
        Rule("not_null", ("user_id",), mostly=ANY_VALUE, severity="warn"),
        Rule("not_null", ("ingested_at",)),
    ]
    name = "events" if day is None else f"events {day.isoformat()}"
    may_lack = tuple(field.name for field in info.fields if not field.required)
    suite = Suite(
        name,
        arrow_schema("event"),
        (),
        exact=False,
        may_lack=may_lack,
        title="Events" if day is None else f"Events of {day.isoformat()}",
        asset="lake/events",
        drift=BEHAVIOUR,
    )
    return suite.with_overrides(rules)


def _field_rules(name: str, info: msgspec.inspect.Type) -> list[Rule]:
    """Derive the struct's bounds on a field: length of a text, range of a number."""
    match info:
        case msgspec.inspect.Metadata(type=inner):
            return _field_rules(name, inner)
        case msgspec.inspect.UnionType(types=types):
            return [rule for t in types for rule in _field_rules(name, t)]
        case msgspec.inspect.StrType(min_length=low, max_length=high) if low or high:
            # The contract bounds ids in bytes and texts in characters; a character has up to four bytes.
            bound = None if high is None else high if name.endswith("_id") else 4 * high
            return [Rule("length_between", (name,), minimum=low, maximum=bound)]
        case msgspec.inspect.IntType(ge=low, le=high) | msgspec.inspect.FloatType(ge=low, le=high):
            if low is not None or high is not None:
                return [Rule("between", (name,), minimum=low, maximum=high)]
    return []
