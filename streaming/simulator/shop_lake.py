"""Writes a shop directly into a lake, without files or log: tens of millions of events for benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.contract.validation import arrow_schema, to_arrow
from feature_repo.errors import SourceError
from feature_repo.lake.lake import Lake
from streaming.simulator.config import ShopConfig
from streaming.simulator.delivery import Counts, deliver
from streaming.simulator.shop import make_shop

ROW_GROUP = 200_000


def simulate_lake(
    config: ShopConfig, lake: Lake, progress: Callable[[int, int], None] = lambda days, events: None
) -> Counts:
    """Fill an empty lake with what ingesting the simulated shop would write.

    Args:
        config: must have no duplicates or malformed lines, because a lake holds each event once.
        progress: called with the days done and the events written so far.

    Raises:
        SourceError: the config has duplicates or malformed lines, or the lake is not empty.
    """
    if config.duplicates or config.malformed:
        msg = "a lake has no duplicate and no malformed event: set both shares to 0"
        raise SourceError(msg)
    if lake.days():
        msg = f"{lake.root}: already has events; choose an empty folder"
        raise SourceError(msg)
    shop = make_shop(config)
    for kind, records in (("item", shop.item_records()), ("user", shop.user_records())):
        _write(lake.folder(kind) / "simulated.parquet", to_arrow(kind, records, config.start))  # type: ignore[arg-type]
    counts = Counts()
    for number, delivery in enumerate(deliver(shop)):
        counts += delivery.counts
        _write_events(lake, delivery.table, config.start + timedelta(days=number + 1), number)
        progress(number + 1, counts.events)
    return counts


def _write_events(lake: Lake, table: pa.Table, ingested_at: datetime, number: int) -> None:
    """Write one file per event day in a delivery."""
    schema = arrow_schema("event")
    stamp = pa.repeat(pa.scalar(ingested_at, schema.field("ingested_at").type), table.num_rows)
    table = pa.table([*_as_permitted(table).columns, stamp], schema=schema)
    days = pc.floor_temporal(table["event_time"], unit="day")
    for day in pc.unique(days).to_pylist():
        of_day = table.filter(pc.equal(days, pa.scalar(day, days.type)))
        date = day.astimezone(UTC).date()
        _write(lake.events_of(date) / f"simulated-{number:04d}.parquet", of_day)


def _as_permitted(table: pa.Table) -> pa.Table:
    """Remove the queries of events that deny consent, as the door does (`contract.as_permitted`)."""
    kept = pc.if_else(pc.equal(table["event_type"], "search"), "", pa.scalar(None, pa.string()))
    denies = pc.fill_null(pc.equal(table["consent"], False), False)
    query = pc.if_else(denies, kept, table["query"])
    return table.set_column(table.schema.get_field_index("query"), "query", query)


def _write(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd", row_group_size=ROW_GROUP)
