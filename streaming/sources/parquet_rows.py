"""Rows of a Parquet file, a row group at a time: what cannot be read of it costs its own row or group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from feature_repo.errors import ContractError, SourceError
from streaming.sources.files import InputFile
from streaming.sources.plain import PlainRow

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_ROWS, _FEW = 20_000, 16
_BATCH_BYTES = 64 << 20


class ParquetTable:
    """A Parquet file.

    Raises:
        SourceError: it is not whole, or names a column twice.
    """

    def __init__(self, file: InputFile) -> None:
        import pyarrow.parquet as pq  # noqa: PLC0415

        self._file = file
        _check_packing(file)
        try:
            self._parquet: pq.ParquetFile = pq.ParquetFile(file.path)
            self.schema: pa.Schema = self._parquet.schema_arrow
        except Exception as error:  # Arrow maps damage to whichever error it meets first
            raise self._damaged(error) from error
        if twice := [name for name, count in Counter(self.schema.names).items() if count > 1]:
            msg = f"{file.path}: column {', '.join(twice)} is there twice; rename one"
            raise SourceError(msg)

    def rows(self) -> Iterator[PlainRow]:
        """The rows, typed as in the file: times in UTC to the microsecond, decimals exact.

        A row with a cell that cannot be read comes with an error; so does, once, a row group that cannot.

        Raises:
            SourceError: nothing of the file could be read.
        """
        metadata = self._parquet.metadata
        total, before, read = max(metadata.num_rows, 1), 0, False
        failed: Exception | None = None
        for group in range(metadata.num_row_groups):
            rows, number = metadata.row_group(group).num_rows, before
            try:
                for batch in self._batches(group, rows):
                    for row in _rows(batch, number, self._file):
                        read = True
                        yield row
                    number += batch.num_rows
                    self._file.done = min(self._file.size * number // total, self._file.size)
            except SourceError:
                raise
            except Exception as error:  # as above
                failed = error
                msg = (
                    f"{self._file.path}: rows {number + 1} to {before + rows} cannot be read "
                    f"({_one_line(error)}); the others were read; write the file again"
                )
                yield PlainRow(b"", number + 1, b"", ContractError("unreadable_rows", "", msg))
            before += rows
        if failed is not None and not read:
            raise self._damaged(failed) from failed
        self._file.done = self._file.size

    def head(self, column: str, rows: int) -> list[Any]:
        """The first values of one column, as far as they can be read."""
        try:
            batch = next(self._parquet.iter_batches(batch_size=rows, columns=[column]), None)
            return [] if batch is None else _values(batch.column(0))
        except Exception:  # reading the rows tells
            return []

    def _batches(self, group: int, rows: int) -> Iterator[pa.RecordBatch]:
        # Encoded, a column that repeats one long text is small; what a row takes is seen from a few.
        few = next(self._parquet.iter_batches(batch_size=_FEW, row_groups=[group]), None)
        size = max(
            self._parquet.metadata.row_group(group).total_byte_size // max(rows, 1),
            few.nbytes // max(few.num_rows, 1) if few is not None else 1,
        )
        at_once = max(1, min(_ROWS, _BATCH_BYTES // max(size, 1)))
        yield from self._parquet.iter_batches(batch_size=at_once, row_groups=[group])

    def _damaged(self, error: Exception) -> SourceError:
        msg = f"{self._file.path}: not a whole Parquet file ({_one_line(error)}); write it again"
        return SourceError(msg)


def _check_packing(file: InputFile) -> None:
    if file.size == 0:
        msg = f"{file.path}: empty file; nothing to ingest"
        raise SourceError(msg)
    with file.path.open("rb") as stored:
        head = stored.read(4)
    if head != file.sample[:4]:
        msg = f"{file.path}: a Parquet file inside a packed file; unpack it (Parquet is packed already)"
        raise SourceError(msg)


class _Bad:
    """A cell that cannot be read: why, and what is known of it."""

    def __init__(self, why: str, kept: Any) -> None:
        self.why = why
        self.kept = kept


def _rows(batch: pa.RecordBatch, before: int, file: InputFile) -> Iterator[PlainRow]:
    names = batch.schema.names
    columns = [_values(column) for column in batch.columns]
    suspect = any(isinstance(cell, _Bad) for column in columns for cell in column)
    large = batch.nbytes > file.limits.row_bytes
    for number, cells in enumerate(zip(*columns, strict=True) if columns else (), before + 1):
        error = None
        fields = dict(zip(names, cells, strict=True))
        if suspect:
            for name, cell in fields.items():
                if isinstance(cell, _Bad):
                    fields[name] = cell.kept
                    error = ContractError("unreadable_cell", name, f"{name}: {cell.why}")
        if large and _size(cells) > file.limits.row_bytes:
            short = {name: str(cell)[:100] for name, cell in fields.items()}
            yield PlainRow(short, number, None, file.too_long(number))
        else:
            yield PlainRow(fields, number, None, error)


def _size(cells: tuple[Any, ...]) -> int:
    return sum(len(cell if isinstance(cell, str | bytes) else str(cell)) for cell in cells)


def _values(column: pa.Array) -> list[Any]:
    """The cells of a column as Python values; one that cannot be is a `_Bad`."""
    import pyarrow as pa  # noqa: PLC0415

    plain = _plain(column.type)
    try:
        return list((column if plain == column.type else column.cast(plain, safe=False)).to_pylist())
    except Exception:  # one cell out of range, not UTF-8, of a zone unknown here: find it
        return [_value(pa, column.slice(at, 1), plain) for at in range(len(column))]


def _value(pa: Any, cell: pa.Array, plain: pa.DataType) -> Any:
    try:
        return (cell if plain == cell.type else cell.cast(plain, safe=False)).to_pylist()[0]
    except UnicodeDecodeError as error:
        return _Bad(
            f"not valid UTF-8 ({error.object!r}); write text in UTF-8", {"base64": bytes(error.object)}
        )
    except Exception as error:  # as above
        try:
            kept: Any = str(cell.cast(pa.int64())[0].as_py())
        except Exception:
            kept = str(cell.type)
        return _Bad(f"{kept} as {cell.type} cannot be read ({_one_line(error)})", kept)


def _plain(found: pa.DataType) -> pa.DataType:
    """The type to read a column as: Python's times lack nanoseconds, and a zone may be unknown here."""
    import pyarrow as pa  # noqa: PLC0415

    match found:
        case pa.TimestampType():
            coarse = found.unit if found.unit in ("s", "ms") else "us"
            return pa.timestamp(coarse, tz="UTC" if found.tz else None)
        case pa.DurationType():
            return pa.duration("us") if found.unit == "ns" else found
        case pa.Time64Type():
            return pa.time64("us")
        case pa.DictionaryType():
            return found if _plain(found.value_type) == found.value_type else _plain(found.value_type)
        case pa.ListType() | pa.LargeListType() | pa.FixedSizeListType():
            inner = found.value_field
            made = pa.large_list if isinstance(found, pa.LargeListType) else pa.list_
            return found if _plain(inner.type) == inner.type else made(inner.with_type(_plain(inner.type)))
        case pa.MapType():
            key, value = _plain(found.key_type), _plain(found.item_type)
            return found if (key, value) == (found.key_type, found.item_type) else pa.map_(key, value)
        case pa.StructType():
            return pa.struct([field.with_type(_plain(field.type)) for field in found])
    return found


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
