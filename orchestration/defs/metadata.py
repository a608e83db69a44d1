"""Metadata of a materialization for Dagster: rows, time bounds, a preview, the duration."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

PREVIEW_ROWS = 5
_PREVIEW_WIDTH = 40
_LIST_ITEMS = 3
_PERSONAL = {"user_id", "session_id"}


def file_metadata(paths: Sequence[Path | str], time_column: str) -> dict[str, Any]:
    """Return rows, bytes, the bounds of a time column and a preview; the files are not read whole."""
    files = [pq.ParquetFile(path) for path in paths]
    found: dict[str, Any] = {
        "dagster/row_count": sum(f.metadata.num_rows for f in files),
        "files": len(files),
        "bytes": sum(Path(p).stat().st_size for p in paths),
    }
    bounds = [b for f in files if (b := time_bounds(f, time_column))]
    if bounds:
        found["first"] = min(b[0] for b in bounds).isoformat()
        found["last"] = max(b[1] for b in bounds).isoformat()
    full = next((f for f in files if f.metadata.num_rows), None)
    if full is not None:
        rows = next(full.iter_batches(batch_size=PREVIEW_ROWS))
        found["preview"] = dg.MarkdownMetadataValue(preview(pa.Table.from_batches([rows])))
    for file in files:
        file.close()
    return found


def time_bounds(file: pq.ParquetFile, column: str) -> tuple[datetime, datetime] | None:
    """Return a column's first and last time, from row group statistics if present; `None` without rows."""
    leaves = {file.metadata.schema.column(n).path: n for n in range(len(file.metadata.schema))}
    groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
    found = [group.column(leaves[column]).statistics for group in groups]
    if found and all(part is not None and part.has_min_max for part in found):
        return min(part.min for part in found), max(part.max for part in found)
    values = file.read(columns=[column]).column(0)
    if values.length() == values.null_count:
        return None
    bounds = pc.min_max(values).as_py()
    return bounds["min"], bounds["max"]


def preview(table: pa.Table, rows: int = PREVIEW_ROWS) -> str:
    """Render the first rows as a Markdown table. Ids of people are hashed, long values are cut."""
    names = table.column_names
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += [
        "| " + " | ".join(_cell(name, row[name]) for name in names) + " |"
        for row in table.slice(0, rows).to_pylist()
    ]
    return "\n".join(lines)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in _PERSONAL:
        return f"#{xxhash.xxh64_hexdigest(str(value).encode())[:8]}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        shown = [*(_cell("", v) for v in value[:_LIST_ITEMS]), *["…"] * (len(value) > _LIST_ITEMS)]
        value = f"[{', '.join(shown)}]"
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    text = text.replace("|", "¦").replace("\n", " ")
    return text if len(text) <= _PREVIEW_WIDTH else f"{text[: _PREVIEW_WIDTH - 1]}…"
