"""Wide rows of requests on disk: numbered Parquet files, with a table that maps rows to files."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.group import EVENT_TIMESTAMP
from orchestration.training.reading import parquet


class Spool:
    """Rows in order of arrival, close in time, so that a part of the set needs few files.

    Attributes:
        index: the table ``request_id``, ``event_timestamp``, ``file``, ``digest`` of every row.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, name: str, folder: Path, schema: pa.Schema) -> None:
        self.index = f"{name}_index"
        self._con = con
        self._folder = folder / name
        self._folder.mkdir()
        self._count = 0
        con.execute(
            f"CREATE TABLE {self.index} "
            f"(request_id VARCHAR, {EVENT_TIMESTAMP} TIMESTAMPTZ, file INTEGER, digest UBIGINT)"
        )
        self.add(pa.RecordBatch.from_pylist([], schema))  # so that there is always a file to read

    def add(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        pq.write_table(pa.Table.from_batches([batch]), self._path(self._count))
        self._con.execute(
            f"INSERT INTO {self.index} SELECT request_id, {EVENT_TIMESTAMP}, {self._count}, hash(b) "
            f"FROM {parquet([self._path(self._count)])} b"
        )
        self._count += 1

    def of(self, requests: str) -> str:
        """Return a query for the rows whose requests are in a table."""
        found = self._con.execute(
            f"SELECT DISTINCT file FROM {self.index} WHERE request_id IN (SELECT request_id FROM {requests})"
        ).fetchall()
        files = [self._path(number) for number in sorted({0, *(file for (file,) in found)})]
        return f"SELECT * FROM {parquet(files)} WHERE request_id IN (SELECT request_id FROM {requests})"

    def digest(self) -> str:
        """Return a digest of the set of rows, independent of order and repetition."""
        rows = f"SELECT DISTINCT request_id, digest FROM {self.index}"
        return repr(self._con.execute(f"SELECT count(*), bit_xor(digest) FROM ({rows})").fetchall())

    def _path(self, number: int) -> str:
        return str(self._folder / f"{number}.parquet")
