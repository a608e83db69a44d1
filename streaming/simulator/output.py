"""Writes a shop to files: JSON lines with all kinds mixed, or one Parquet file per kind."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.clock import EPOCH
from feature_repo.contract.columns import LAKE_ONLY
from feature_repo.contract.validation import Event, Kind, Record, ShownItem, arrow_schema, encode, to_arrow
from feature_repo.errors import SourceError
from streaming.simulator.delivery import Delivery
from streaming.simulator.shop import Shop
from streaming.simulator.table import EVENT_SCHEMA

_FAULTS = 6


class Output(Protocol):
    """Receives the catalogue once, then the deliveries in order."""

    def catalogue(self, shop: Shop) -> None:
        """Write items and users."""

    def events(self, delivery: Delivery) -> None:
        """Write a delivery, including malformed lines."""


@contextmanager
def open_output(out: Path) -> Iterator[Output]:
    """Open the writer for the suffix of `out`.

    Raises:
        SourceError: the suffix is unknown, or the folder cannot be written.
    """
    suffixes = "".join(out.suffixes[-2:])
    if not suffixes.endswith((".jsonl", ".jsonl.gz", ".parquet")):
        msg = f"--out {out}: unknown suffix; use .jsonl, .jsonl.gz or .parquet"
        raise SourceError(msg)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if suffixes.endswith(".parquet"):
            with pq.ParquetWriter(out, EVENT_SCHEMA, compression="zstd") as writer:
                yield ParquetOutput(out, writer)
        else:
            with out.open("wb") as raw:
                # Leave name and time out of the gzip header, so that the same shop gives the same bytes.
                zipped = gzip.GzipFile("", "wb", 1, raw, mtime=0) if suffixes.endswith(".gz") else None
                yield JsonLines(zipped.write if zipped else raw.write)
                if zipped:
                    zipped.close()
    except OSError as error:
        msg = f"--out {out}: cannot be written ({error.strerror}); choose a file in a writable folder"
        raise SourceError(msg) from error


class JsonLines:
    """Writer of one record per line; ``"record"`` gives the kind."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def catalogue(self, shop: Shop) -> None:
        """Write items, then users."""
        records: list[Record] = [*shop.item_records(), *shop.user_records()]
        self._write(b"".join(encode(r) + b"\n" for r in records))

    def events(self, delivery: Delivery) -> None:
        """Write events in order of arrival; a malformed line follows the event it was made from."""
        lines = [encode(e) + b"\n" for e in event_records(delivery.table)]
        for row in delivery.malformed[::-1]:
            lines.insert(int(row) + 1, broken_line(lines[row][:-1], int(row)) + b"\n")
        self._write(b"".join(lines))


class ParquetOutput:
    """Writer of one event file, with items and users beside it. Malformed rows are ones Parquet allows."""

    def __init__(self, out: Path, writer: pq.ParquetWriter) -> None:
        self._out = out
        self._writer = writer

    def catalogue(self, shop: Shop) -> None:
        """Write ``<stem>.items.parquet`` and ``<stem>.users.parquet``."""
        kinds: list[tuple[Kind, Sequence[Record]]] = [
            ("item", shop.item_records()),
            ("user", shop.user_records()),
        ]
        for kind, records in kinds:
            table = to_arrow(kind, records, shop.config.start).drop_columns(sorted(LAKE_ONLY))
            schema = pa.schema([f for f in arrow_schema(kind) if f.name not in LAKE_ONLY])
            pq.write_table(table.cast(schema), self._out.with_suffix(f".{kind}s.parquet"), compression="zstd")

    def events(self, delivery: Delivery) -> None:
        """Write events, then the broken copies: an unregistered type, or a time long past."""
        table = delivery.table
        broken = table.take(pa.array(delivery.malformed))
        odd = pa.array(delivery.malformed % 2 == 1)
        past = pa.scalar(EPOCH, pa.timestamp("us", tz="UTC"))
        for name, value in (
            ("event_type", pc.if_else(odd, "clik", broken["event_type"])),
            ("event_time", pc.if_else(odd, broken["event_time"], past)),
        ):
            at = EVENT_SCHEMA.get_field_index(name)
            broken = broken.set_column(at, EVENT_SCHEMA.field(at), value)
        self._writer.write_table(pa.concat_tables([table, broken]))


def event_records(table: pa.Table) -> Iterator[Event]:
    """Yield rows of `EVENT_SCHEMA` as contract events."""
    lists = table["items"].combine_chunks()
    lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) else lists
    flat = lists.flatten()
    slots = [
        ShownItem(item, score)
        for item, score in zip(
            flat.field("item_id").to_pylist(), flat.field("score").to_pylist(), strict=True
        )
    ]
    ends = np.concatenate(
        [[0], np.cumsum(pc.list_value_length(lists).to_numpy(zero_copy_only=False))]
    ).tolist()
    times = table["event_time"].cast(pa.int64()).to_pylist()
    plain = (
        "event_id",
        "event_type",
        "session_id",
        "user_id",
        "item_id",
        "request_id",
        "position",
        "query",
        "consent",
    )
    columns: dict[str, list[Any]] = {name: table[name].to_pylist() for name in plain}
    for n, values in enumerate(zip(*columns.values(), strict=True)):
        fields = dict(zip(plain, values, strict=True))
        yield Event(
            **fields,
            event_time=datetime.fromtimestamp(times[n] / 1_000_000, UTC),
            items=tuple(slots[ends[n] : ends[n + 1]]),
        )


def broken_line(line: bytes, number: int) -> bytes:
    """Return a broken copy of an event's line; `number` chooses the fault."""
    match number % _FAULTS:
        case 0:
            return line[: len(line) // 2]
        case 1:
            return b"[" + line + b"]"
        case 2:
            return line.replace(b'"event_id"', b'"evnt_id"', 1)
        case 3:
            return line.replace(b'"event_time":"2', b'"event_time":"9', 1)
        case 4:
            return line.replace(b'"event_type":"', b'"event_type":"x_', 1)
        case _:
            return b"\xff\xfe" + line
