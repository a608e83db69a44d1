"""The contract's own files: JSON lines with the three kinds mixed; CSV and Parquet with one kind each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from feature_repo.columns import LAKE_ONLY
from feature_repo.contract import Kind
from feature_repo.errors import SourceError
from streaming.sources import tables
from streaming.sources.base import Raw, Row
from streaming.sources.files import InputFile


class HeadraceSource:
    """``.jsonl``, ``.csv`` (each also ``.gz``, ``.zip``) and ``.parquet``."""

    event_types: ClassVar[Mapping[str, float]] = {}

    def files(self, path: InputFile) -> list[InputFile]:
        """One file."""
        if path.path.is_dir():
            msg = f"{path.path}: a folder; give the files in it, e.g. {path.path}/*.jsonl"
            raise SourceError(msg)
        return [path]

    def rows(self, file: InputFile, kind: Kind | None) -> Iterator[Row]:
        """Lines of JSON; rows of a table with their cells typed."""
        if file.suffix == ".parquet":
            return _parquet(file, kind)
        if file.suffix == ".csv":
            return _csv(file, kind)
        return (Row(line, number) for number, line in file.lines() if line.strip())

    def convert(self, raw: Raw, kind: Kind | None) -> Raw:
        """Nothing to translate."""
        return raw


def _csv(file: InputFile, kind: Kind | None) -> Iterator[Row]:
    found: Kind | None = None
    for line, fields, error in file.records():
        found = found or tables.kind_of(file.path, [name for name in fields if name != "_cells"], kind)
        yield Row({**tables.typed(fields, found), "record": found}, line, error)


def _parquet(file: InputFile, kind: Kind | None) -> Iterator[Row]:
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        with pq.ParquetFile(file.path) as parquet:
            kind = tables.kind_of(file.path, parquet.schema_arrow.names, kind)
            tables.check_types(file.path, parquet.schema_arrow, kind)
            number, total = 0, max(parquet.metadata.num_rows, 1)
            for batch in parquet.iter_batches(batch_size=20_000):
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(_present(fields, kind), number)
                file.done = file.size * number // total
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        msg = f"{file.path}: not a whole Parquet file ({str(error).strip()}); write it again"
        raise SourceError(msg) from error
    file.done = file.size


def _present(fields: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    """The cells that hold something, with Arrow's maps and lists of pairs as mappings."""
    present = {name: value for name, value in fields.items() if value is not None and name not in LAKE_ONLY}
    for name in ("properties", "attributes"):
        if isinstance(value := present.get(name), list):
            present[name] = dict(tables.pair(entry) for entry in value)
        elif isinstance(value, dict):
            present[name] = {k: v for k, v in value.items() if v is not None}
    present["record"] = kind
    return {**present, **tables.decoded(present)}
