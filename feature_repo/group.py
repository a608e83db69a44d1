"""The feature-group declaration: one object from which everything else derives.

Arrow schema, Feast view, Great Expectations suite, Dagster asset with checks and freshness policy, the
serving reader's plan and the reference page all read `FeatureGroup`; a group is one module in
`feature_repo/groups/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Protocol

from feature_repo.clock import time_of

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

    from feature_repo.settings import Settings

EVENT_TIMESTAMP = "event_timestamp"
CREATED_TIMESTAMP = "created_timestamp"
PART = "_part"
"""Column of a table that is split by part: the number of a row's."""

# Constants of the statistics, see docs/reference/statistics.md; batch expressions and the replay share them.
CTR_PRIOR = 10.0
"""Impressions' worth of prior that a click-through rate is shrunk with."""
CTR_UNSHOWN = 0.1
"""Mean click-through rate assumed where nothing was ever shown."""
CLICK_RATE_PRIOR = 5.0
"""Clicks' worth of prior that a user's click rate is shrunk to 1 with."""
SMALLEST_SCORE = 1e-300
"""Score below which nothing is told apart; keeps logarithms finite."""
POSITIONS = 100
"""Positions told apart; those beyond the last count as the last."""
SESSION_ITEMS = 50
"""Distinct items of a session, last engaged with first, that become neighbours of each other."""


class DType(StrEnum):
    """Types a feature may have: what Arrow, Feast, DuckDB and Spark all hold without loss."""

    STRING = "string"
    INT64 = "int64"
    FLOAT64 = "float64"
    BOOL = "bool"
    TIMESTAMP = "timestamp"
    STRINGS = "strings"
    INT64S = "int64s"
    FLOAT64S = "float64s"
    FLOAT32S = "float32s"

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type of a column of this feature."""
        return _arrow_types()[self]


@cache
def _arrow_types() -> dict[DType, pa.DataType]:
    import pyarrow as pa  # noqa: PLC0415 - commands that read no column shall start without it

    return {
        DType.STRING: pa.string(),
        DType.INT64: pa.int64(),
        DType.FLOAT64: pa.float64(),
        DType.BOOL: pa.bool_(),
        DType.TIMESTAMP: pa.timestamp("us", tz="UTC"),
        DType.STRINGS: pa.list_(pa.string()),
        DType.INT64S: pa.list_(pa.int64()),
        DType.FLOAT64S: pa.list_(pa.float64()),
        DType.FLOAT32S: pa.list_(pa.float32()),
    }


@dataclass(frozen=True)
class Entity:
    """What a group describes. `join_key` is the column that names it."""

    name: str
    join_key: str
    meaning: str


USER = Entity("user", "user_id", "A person, known across sessions.")
SEGMENT = Entity("segment", "segment", "A set of users with something in common.")
ITEM = Entity("item", "item_id", "Something that can be ranked.")
SESSION = Entity("session", "session_id", "A run of events without a gap of 30 minutes.")


@dataclass(frozen=True)
class Expectation:
    """One thing that must hold of a group's rows.

    Attributes:
        kind: ``not_null`` (share of nulls ≤ 1 − `mostly`), ``between`` (`minimum` … `maximum`), ``in_set``
            (`values`), ``unique``, ``row_count_between``, ``same_length`` (list columns `columns` pair up).
        severity: a failing ``block`` keeps the build from the online store; ``warn`` only reports.
    """

    kind: Literal["not_null", "between", "in_set", "unique", "row_count_between", "same_length"]
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    mostly: float = 1.0
    severity: Literal["block", "warn"] = "block"


NOT_NULL = Expectation("not_null")
UNIQUE = Expectation("unique")
NON_NEGATIVE = Expectation("between", minimum=0)
SHARE = Expectation("between", minimum=0, maximum=1)


@dataclass(frozen=True)
class Feature:
    """One column: name, type, unit, one line of meaning, and what must hold of it."""

    name: str
    dtype: DType
    meaning: str
    unit: str = ""
    expectations: tuple[Expectation, ...] = ()


@dataclass(frozen=True)
class BatchParams:
    """What a batch expression may depend on besides its tables. Half-lives and spans as `timedelta`."""

    as_of: datetime
    weights: Mapping[str, float]
    segment_attribute: str
    affinity_half_life: timedelta
    popularity_half_lives: tuple[timedelta, timedelta, timedelta]
    affinity_top_k: int
    neighbours_top_k: int
    session_gap: timedelta
    consent_default: bool

    @classmethod
    def of(cls, settings: Settings, as_of: datetime) -> BatchParams:
        """What the settings say, as of a time."""
        short, mid, long = (timedelta(seconds=s) for s in settings.popularity_half_lives_s)
        return cls(
            as_of=as_of,
            weights=settings.weights,
            segment_attribute=settings.segment_attribute,
            affinity_half_life=timedelta(days=settings.affinity_half_life_days),
            popularity_half_lives=(short, mid, long),
            affinity_top_k=settings.affinity_top_k,
            neighbours_top_k=settings.neighbours_top_k,
            session_gap=timedelta(seconds=settings.session_gap_s),
            consent_default=settings.consent_default,
        )


@dataclass(frozen=True)
class Part:
    """Which of `of` (a power of two) parts of a group's keys, split by hash; by default all of them."""

    number: int = 0
    of: int = 1

    @property
    def whole(self) -> bool:
        """Whether it is all keys."""
        return self.of == 1

    def rows(self, table: ir.Table, key: str) -> ir.Table:
        """The rows of the part; those without a key belong to none but the whole.

        A table that says in a column `PART` which part a row belongs to is believed.
        """
        if self.whole:
            return table
        if PART in table.columns:
            return table.filter(table[PART] == self.number).drop(PART)
        return table.filter((table[key].hash() & (self.of - 1)) == self.number)


class Keep(Protocol):
    """Given a name and a table that all parts share, the table, computed once where the engine can.

    With `key` it may come split by part: then it has a column `PART`, and `Part.rows` reads no other part.
    """

    def __call__(self, name: str, table: ir.Table, key: str | None = None) -> ir.Table: ...


def _same(name: str, table: ir.Table, key: str | None = None) -> ir.Table:
    return table


@dataclass(frozen=True)
class LakeTables:
    """Inputs of a batch expression, as Ibis tables.

    `events` holds each event once, with ``event_time < as_of`` and within the look-back; `items` and `users`
    hold the newest record of each id. `groups` holds the rows of the groups named in `depends_on`.

    Attributes:
        part: the keys to compute, in groups that are `divisible`.
        keep: what to do with a table that all parts share; by default nothing.
    """

    events: ir.Table
    items: ir.Table
    users: ir.Table
    groups: Mapping[str, ir.Table] = field(default_factory=dict)
    part: Part = Part()
    keep: Keep = _same


BatchExpression = Callable[[LakeTables, BatchParams], "ir.Table"]
"""Returns one row per entity: the join key and every feature. The runner adds the two timestamps:
`event_timestamp` is `as_of`, `created_timestamp` the wall time of the build."""


@dataclass(frozen=True)
class Fold:
    """How the stream keeps a group: a pure function of what it holds of the group's entity.

    Attributes:
        row: from that and the rules of sessions to the features in declared order; times in microseconds
            since 1970. For a session it gets the `Profile` (`groups.session_profile`), for a user the
            profiles of the sessions of the last day.
    """

    row: Callable[[Any, Any], tuple[Any, ...]]


@dataclass(frozen=True, eq=False)
class FeatureGroup:
    """A declared group; compared by identity, so that it can key what is derived from it.

    Attributes:
        freshness: age beyond which the group counts as stale.
        ttl: age beyond which a row counts as absent. Feast does not enforce it online; readers here do.
        batch: expression for slow groups; absent for groups the stream keeps.
        fold: functions of groups the stream keeps; absent for slow groups.
        depends_on: groups whose rows the expression reads.
        divisible: whether the expression honours `LakeTables.part`: many keys with lists are built part by
            part, since DuckDB holds lists and quantiles in memory whole.
        ranked_as: name of the group's row in rankings: in codes (`user_stale`), decision records and signals.
            Rankings do not read a group without one.
        where_asked: rankings read the row only where a rule asks for what the user bought.
        version: raised when a feature changes its meaning; the view's name carries it from 2 on.
    """

    name: str
    entity: Entity
    meaning: str
    features: tuple[Feature, ...]
    freshness: timedelta
    ttl: timedelta
    batch: BatchExpression | None = None
    fold: Fold | None = None
    depends_on: tuple[str, ...] = ()
    expectations: tuple[Expectation, ...] = ()
    version: int = 1
    divisible: bool = False
    ranked_as: str = ""
    where_asked: bool = False

    @property
    def view_name(self) -> str:
        """Name of the Feast feature view."""
        return self.name if self.version == 1 else f"{self.name}_v{self.version}"

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        return tuple(f.name for f in self.features)

    def named(self, row: tuple[Any, ...]) -> dict[str, Any]:
        """The values of a `Fold.row` by feature name, times as UTC datetimes."""
        named = dict(zip(self.feature_names, row, strict=True))
        for feature in self.features:
            if feature.dtype is DType.TIMESTAMP and named[feature.name] is not None:
                named[feature.name] = time_of(named[feature.name])
        return named

    @property
    def arrow_schema(self) -> pa.Schema:
        """Columns of the group offline: join key, features, `event_timestamp`, `created_timestamp`."""
        import pyarrow as pa  # noqa: PLC0415

        return pa.schema(
            [
                pa.field(self.entity.join_key, pa.string(), nullable=False),
                *(pa.field(f.name, f.dtype.arrow) for f in self.features),
                pa.field(EVENT_TIMESTAMP, DType.TIMESTAMP.arrow, nullable=False),
                pa.field(CREATED_TIMESTAMP, DType.TIMESTAMP.arrow, nullable=False),
            ]
        )
