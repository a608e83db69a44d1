"""Column-wise encoding equals the store's own, value by value, for every type."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.group import USER, DType, Feature, FeatureGroup
from feature_repo.online import OnlineRow
from feature_repo.online.rows import encode_rows
from orchestration.materialize.arrow_encoding import encode_batch

EVERY = FeatureGroup(
    name="every",
    entity=USER,
    meaning="One feature of each type.",
    features=tuple(Feature(dtype.value, dtype, "x") for dtype in DType),
    freshness=timedelta(days=1),
    ttl=timedelta(days=1),
)
INT = st.integers(-(2**63), 2**63 - 1)
FLOAT = st.floats(allow_nan=False)
TIME = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
VALUES: dict[DType, st.SearchStrategy[Any]] = {
    DType.STRING: st.text(max_size=300),
    DType.INT64: INT,
    DType.FLOAT64: FLOAT,
    DType.BOOL: st.booleans(),
    DType.TIMESTAMP: TIME,
    DType.STRINGS: st.lists(st.text(max_size=5), max_size=4),
    DType.INT64S: st.lists(INT, max_size=4),
    DType.FLOAT64S: st.lists(FLOAT, max_size=4),
    DType.FLOAT32S: st.lists(st.floats(width=32, allow_nan=False), max_size=4),
}
ROW = st.fixed_dictionaries({dtype.value: st.none() | VALUES[dtype] for dtype in DType})


@given(rows=st.lists(st.tuples(ROW, TIME), max_size=8))
@settings(max_examples=60, deadline=None)
def test_bytes_equal_the_generic_encoders(rows: list[tuple[dict[str, Any], datetime]]) -> None:
    found = [OnlineRow(f"u{n}", values, time) for n, (values, time) in enumerate(rows)]
    columns: dict[str, list[Any]] = {"user_id": [row.key for row in found]}
    for name in EVERY.feature_names:
        columns[name] = [row.values[name] for row in found]
    columns["event_timestamp"] = columns["created_timestamp"] = [row.event_time for row in found]
    batch = pa.RecordBatch.from_pydict(columns, schema=EVERY.arrow_schema)
    encoded = encode_batch(EVERY, batch)
    expected = encode_rows(EVERY, found)
    assert [(r.key, r.micros, list(r.raws)) for r in encoded] == [
        (r.key, r.micros, list(r.raws)) for r in expected
    ]
