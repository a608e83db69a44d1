"""Reads served feature rows from the decision records."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from feature_repo.group import EVENT_TIMESTAMP, DType, FeatureGroup
from feature_repo.home import Home
from feature_repo.settings import Settings
from orchestration.monitoring.parity import decisions_of
from serving.decisions.record import TOPIC, Decision
from streaming.log import open_log

_log = logging.getLogger(__name__)
REQUEST = "request_id"


def row_schema(group: FeatureGroup) -> pa.Schema:
    """Return the schema: request, event time and the features of a group."""
    return pa.schema(
        [
            pa.field(REQUEST, pa.string()),
            group.arrow_schema.field(EVENT_TIMESTAMP),
            *(group.arrow_schema.field(name) for name in group.feature_names),
        ]
    )


def logged_rows(
    decisions: Iterable[Decision], groups: Mapping[str, FeatureGroup], size: int = 5_000
) -> Iterator[tuple[FeatureGroup, pa.RecordBatch]]:
    """Yield batches of served rows, by group.

    Records hash the ids of people: such values are left empty, because the example has the id itself.
    """
    held: dict[str, list[dict[str, Any]]] = {name: [] for name, group in groups.items() if group.ranked_as}
    for decision in decisions:
        for name, rows in held.items():
            used = decision.features.get(groups[name].ranked_as)
            if used is None:
                continue
            rows.append(_row(groups[name], decision.request_id, used.event_time, used.values))
            if len(rows) >= size:
                yield groups[name], _batch(rows, groups[name])
                rows.clear()
    for name, rows in held.items():
        if rows:
            yield groups[name], _batch(rows, groups[name])


def _batch(rows: list[dict[str, Any]], group: FeatureGroup) -> pa.RecordBatch:
    """Convert rows to a batch; leave out rows that do not fit the group's types, with a warning."""
    schema = row_schema(group)
    try:
        return pa.RecordBatch.from_pylist(rows, schema)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        fitting = [row for row in rows if _fits(row, schema)]
        _log.warning("%d decisions have no valid rows of %s", len(rows) - len(fitting), group.name)
        return pa.RecordBatch.from_pylist(fitting, schema)


def _fits(row: dict[str, Any], schema: pa.Schema) -> bool:
    try:
        pa.RecordBatch.from_pylist([row], schema)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True


def _row(group: FeatureGroup, request: str, time: datetime, values: Mapping[str, Any]) -> dict[str, Any]:
    found = {f.name: _value(f.dtype, values.get(f.name)) for f in group.features if f.name != "user_id"}
    return {REQUEST: request, EVENT_TIMESTAMP: time, "user_id": None, **found}


def _value(dtype: DType, value: Any) -> Any:
    if dtype is DType.TIMESTAMP and isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            return value  # not a valid row: see `_batch`
    return value


def logged_decisions(settings: Settings, home: Home, first: date, last: date) -> Iterator[Decision]:
    """Yield the decisions of the days still in the log, one at a time; none if none was ever written."""
    if settings.event_log == "segments" and not (home.log / TOPIC).exists():
        return
    log = open_log(settings, home, TOPIC)
    try:
        yield from decisions_of(log, first, last)
    finally:
        log.close()
