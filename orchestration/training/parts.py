"""Joins examples with their features in bounded parts: wide rows are never all in memory."""

import logging
from collections.abc import Iterator, Mapping
from datetime import datetime

import duckdb
import pyarrow as pa

from feature_repo.group import CREATED_TIMESTAMP, EVENT_TIMESTAMP, FeatureGroup
from feature_repo.lake.lake import Builds
from feature_repo.offline.point_in_time import FeatureTable, point_in_time_sql
from orchestration.training import assemble
from orchestration.training.examples import EXAMPLE_COLUMNS
from orchestration.training.reading import parquet
from orchestration.training.spool import Spool

PART_ROWS = 8_000
"""A row has about 15 kB of lists; each step of a part, and its sort, should fit in half a gigabyte."""
BATCH_ROWS = 2_000
_BUILD = "build_file"

logger = logging.getLogger(__name__)


class Parts:
    """Joins the table ``examples`` with the features of each group, in order of time.

    Args:
        logged: the served rows of each group that decisions log.
        folded: session rows, one for each event of a session.
    """

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        builds: Builds,
        groups: Mapping[str, FeatureGroup],
        logged: Mapping[str, Spool],
        folded: Spool,
    ) -> None:
        self._con = con
        self._files = {n: [str(p) for p in builds.history(n, g.version)] for n, g in groups.items()}
        self._groups = groups
        self._logged = logged
        self._folded = folded

    def rows(self, split: str) -> Iterator[pa.RecordBatch]:
        """Yield the set's rows by decision time, request and position, without embargoed rows.

        Args:
            split: SQL expression on ``decision_time`` that names the split, null within an embargo.
        """
        self._con.execute(
            f"CREATE TABLE kept AS SELECT *, {split} AS split FROM examples WHERE ({split}) IS NOT NULL"
        )
        for name in self._groups:
            self._find_builds(name)
        starts = self._con.execute(
            "SELECT min(decision_time) FROM (SELECT decision_time, "
            f"(sum(count(*)) OVER (ORDER BY decision_time) - 1) // {PART_ROWS} AS part "
            "FROM kept GROUP BY decision_time) GROUP BY part ORDER BY 1"
        ).fetchall()
        times = [start for (start,) in starts] or [None]
        for start, end in zip(times, [*times[1:], None], strict=True):
            yield from self._part(start, end)

    def _part(self, start: datetime | None, end: datetime | None) -> Iterator[pa.RecordBatch]:
        """Yield the rows between two times; split them in halves if memory does not suffice."""
        self._con.execute(
            "CREATE OR REPLACE TABLE part AS SELECT * FROM kept WHERE "
            "decision_time >= coalesce($1::TIMESTAMPTZ, decision_time) "
            "AND ($2::TIMESTAMPTZ IS NULL OR decision_time < $2::TIMESTAMPTZ)",
            [start, end],
        )
        try:
            self._join()
        except duckdb.OutOfMemoryException:
            middle = self._middle()
            if middle is None:
                raise
            logger.info("training set: examples from %s on did not fit in memory, retrying in halves", start)
            yield from self._part(start, middle)
            yield from self._part(middle, end)
            return
        reader = self._con.cursor().sql("SELECT * FROM ordered").to_arrow_reader(BATCH_ROWS)
        yield pa.RecordBatch.from_pylist([], reader.schema)  # gives the columns if a part has no rows
        yield from reader

    def _middle(self) -> datetime | None:
        """Return a time that halves the table ``part``; `None` if it has only one time."""
        [(middle,)] = self._con.execute(
            "SELECT quantile_disc(time, 0.5) FROM (SELECT DISTINCT decision_time AS time FROM part) "
            "WHERE time > (SELECT min(decision_time) FROM part)"
        ).fetchall()
        assert middle is None or isinstance(middle, datetime)
        return middle

    def _find_builds(self, name: str) -> None:
        """Find the builds that the examples read, by keys and times only, so that a part opens only a few."""
        group, files = self._groups[name], self._files[name]
        key = group.entity.join_key
        if not files or key not in EXAMPLE_COLUMNS:
            return
        self._con.execute(f"CREATE OR REPLACE TABLE keyed AS SELECT DISTINCT {key}, decision_time FROM kept")
        source = FeatureTable(
            source=parquet(files, filename=True),
            keys=((key, key),),
            features=(("filename", _BUILD),),
            event_time=EVENT_TIMESTAMP,
            created=CREATED_TIMESTAMP,
            ttl=group.ttl,
        )
        found = point_in_time_sql("keyed", [key, "decision_time"], "decision_time", [source])
        self._con.execute(
            f"CREATE TABLE builds_{name} AS SELECT DISTINCT decision_time, {_BUILD} FROM ({found})"
        )

    def _files_of(self, name: str) -> list[str]:
        """List the builds that the table ``part`` reads; all of a group whose keys the examples lack."""
        if not self._files[name] or self._groups[name].entity.join_key not in EXAMPLE_COLUMNS:
            return self._files[name]
        found = self._con.execute(
            f"SELECT DISTINCT {_BUILD} FROM builds_{name} SEMI JOIN part USING (decision_time) "
            f"WHERE {_BUILD} IS NOT NULL ORDER BY 1"
        ).fetchall()
        return [file for (file,) in found] or self._files[name][:1]

    def _join(self) -> None:
        """Create the table ``ordered`` from the table ``part``."""
        con = self._con
        for name, spool in self._logged.items():  # a decision written twice counts once
            once = f"SELECT DISTINCT ON (request_id) * FROM ({spool.of('part')}) ORDER BY ALL"
            con.execute(f"CREATE OR REPLACE TABLE logged_{name} AS {once}")
        # One row per request, as of its decision, because a repeat of the list has seen the list.
        con.execute(
            "CREATE OR REPLACE TABLE folded AS SELECT DISTINCT ON (request_id) f.* "
            f"FROM ({self._folded.of('part')}) f "
            "JOIN (SELECT DISTINCT request_id, decision_time FROM part) d USING (request_id) "
            f"WHERE f.{EVENT_TIMESTAMP} < d.decision_time ORDER BY request_id, f.{EVENT_TIMESTAMP} DESC"
        )
        table, columns = "part", [*EXAMPLE_COLUMNS, "split"]
        for number, (name, group) in enumerate(self._groups.items()):
            logged = f"logged_{name}" if name in self._logged else None
            if name == "segment_profile":
                segment = assemble.segment_sql(table, self._groups["user_profile"])
                con.execute(f"CREATE OR REPLACE VIEW segmented AS {segment}")
                table, columns = "segmented", [*columns, "segment"]
            if group.batch is None:
                query = assemble.folded_sql(table, columns, group, "folded", logged)
            else:
                files = self._files_of(name)
                query = assemble.joined_sql(table, columns, group, files, logged, key=group.entity.join_key)
            con.execute(f"CREATE OR REPLACE TABLE joined_{number} AS {query}")
            if number:  # each table is as wide as the set
                con.execute(f"DROP TABLE joined_{number - 1}")
            table = f"joined_{number}"
            columns = [row[0] for row in con.execute(f"DESCRIBE {table}").fetchall()]
        con.execute(
            f"CREATE OR REPLACE TABLE ordered AS SELECT * EXCLUDE (segment) FROM {table} "
            "ORDER BY decision_time, request_id, position"
        )
        con.execute(f"DROP TABLE {table}")
