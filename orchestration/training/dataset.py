"""Makes a training set: examples, features as of each decision, splits, card; written aside and renamed."""

import logging
import shutil
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from feature_repo.clock import Clock
from feature_repo.errors import BuildError
from feature_repo.group import EVENT_TIMESTAMP, FeatureGroup
from feature_repo.groups import all_groups
from feature_repo.groups.session_profile import SessionRules
from feature_repo.home import Home
from feature_repo.lake import Builds, Lake, unreadable
from feature_repo.offline.point_in_time import instant, text
from feature_repo.settings import Settings
from orchestration.build import write_aside
from orchestration.fingerprint import fingerprint
from orchestration.training import assemble
from orchestration.training.card import Card, describe
from orchestration.training.examples import EXAMPLE_COLUMNS, examples_sql, shown_sql
from orchestration.training.logged import LOGGED_AS, logged_rows, row_schema
from orchestration.training.reading import ROWS, events_by_session, items_named, parquet, users_who_stated
from orchestration.training.sessions import session_rows
from orchestration.training.spec import GROUPS, TrainingSpec
from orchestration.training.split import Split
from serving.decision import Decision

logger = logging.getLogger(__name__)


def training_folder(home: Home) -> Path:
    """Where the training set lies: ``data.parquet``, ``card.json``, ``card.md``."""
    return home.root / "training"


class TrainingSet:
    """One making of a training set, in a scratch folder of its own.

    Args:
        decisions: records of what was served; empty where nothing was logged.
        clock: the present, for the card.
    """

    def __init__(
        self,
        spec: TrainingSpec,
        settings: Settings,
        home: Home,
        clock: Clock,
        decisions: Iterable[Decision] = (),
    ) -> None:
        self._spec = spec
        self._settings = settings
        self._lake = Lake(home.lake)
        self._builds = Builds(home.features)
        self._target = training_folder(home)
        self._scratch = self._target / f".{uuid.uuid4().hex}.tmp"
        self._clock = clock
        self._decisions = decisions
        self._groups = {name: all_groups()[name] for name in GROUPS}
        # What came of a list is known when its window is over; before, a row would say "no" too early.
        self._over = f"event_time <= {instant(clock() - spec.attribution)}"

    def make(self) -> Card:
        """Write the set and its card.

        Raises:
            BuildError: the days hold no impression, or the disk or a build fails; the set before stays.
            LakeError: a file of the lake is damaged; names it.
        """
        files = self._event_files(self._spec.attribution)
        if bad := unreadable(files):
            raise bad
        self._scratch.mkdir(parents=True)
        try:
            with duckdb.connect() as con:
                self._configure(con)
                card = self._make(con, files)
            card.save(self._scratch)
            for name in ("data.parquet", "card.json", "card.md"):
                (self._scratch / name).replace(self._target / name)
        except (duckdb.Error, OSError, pa.ArrowInvalid) as error:
            text_ = str(error).strip().splitlines()[0]
            msg = f"training set {self._spec.first} … {self._spec.last}: {text_}; the set before stays"
            raise BuildError(msg) from error
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)
        logger.info("training set: %s", dict(card.rows))
        return card

    def _configure(self, con: duckdb.DuckDBPyConnection) -> None:
        con.execute(f"SET memory_limit = {text(self._settings.duckdb_memory)}")
        con.execute(f"SET threads = {self._settings.duckdb_threads}")
        con.execute(f"SET temp_directory = {text(str(self._scratch / 'spill'))}")
        con.execute("SET TimeZone = 'UTC'")

    def _make(self, con: duckdb.DuckDBPyConnection, files: list[str]) -> Card:
        con.execute(f"CREATE VIEW events AS SELECT * FROM {parquet(files)}")
        last = self._spec.last + timedelta(days=1)
        days = f"event_time >= DATE '{self._spec.first}' AND event_time < DATE '{last}'"
        con.execute(f"CREATE VIEW of_days AS SELECT * FROM events WHERE {days}")
        con.execute(f"CREATE TABLE shown AS {shown_sql(f'(SELECT * FROM of_days WHERE {self._over})')}")
        con.execute(f"CREATE TABLE examples AS {examples_sql('shown', 'events', self._spec.attribution)}")
        self._write_logged(con)
        self._write_folded(con)
        table, columns = self._joined(con)
        split = self._split(con)
        query = (
            f"SELECT {', '.join(EXAMPLE_COLUMNS)}, {split.sql('decision_time')} AS split, "
            f"* EXCLUDE ({', '.join(EXAMPLE_COLUMNS)}, segment) FROM {table}"
        )
        con.execute(f"CREATE VIEW labelled AS {query}")
        ordered = (
            "SELECT * FROM labelled WHERE split IS NOT NULL ORDER BY decision_time, request_id, position"
        )
        target = text(str(self._scratch / "data.parquet"))
        con.execute(f"COPY ({ordered}) TO {target} (FORMAT parquet, COMPRESSION zstd)")
        return self._card(con, split, len(columns), files)

    def _joined(self, con: duckdb.DuckDBPyConnection) -> tuple[str, list[str]]:
        """Tables are made one group after the other, so that each may spill and none is computed twice."""
        table, columns = "examples", list(EXAMPLE_COLUMNS)
        for number, (name, group) in enumerate(self._groups.items()):
            logged = f"logged_{name}" if name in LOGGED_AS else None
            if name == "segment_profile":
                con.execute(
                    f"CREATE VIEW segmented AS {assemble.segment_sql(table, self._groups['user_profile'])}"
                )
                table, columns = "segmented", [*columns, "segment"]
            if group.batch is None:
                query = assemble.folded_sql(table, columns, group, "folded", logged)
            else:
                builds = [str(path) for path in self._builds.history(name, group.version)]
                key = group.entity.join_key
                query = assemble.joined_sql(table, columns, group, builds, logged, key=key)
            con.execute(f"CREATE TABLE joined_{number} AS {query}")
            table = f"joined_{number}"
            columns = [row[0] for row in con.execute(f"DESCRIBE {table}").fetchall()]
        return table, columns

    def _write_logged(self, con: duckdb.DuckDBPyConnection) -> None:
        groups = {name: self._groups[name] for name in LOGGED_AS}
        for name, group in groups.items():
            empty = row_schema(group).empty_table()
            con.register("empty", empty)
            con.execute(f"CREATE TABLE logged_{name} AS SELECT * FROM empty")
            con.unregister("empty")
        for group, batch in logged_rows(self._decisions, groups):
            con.register("batch", pa.Table.from_batches([batch]))
            con.execute(f"INSERT INTO logged_{group.name} SELECT * FROM batch")
            con.unregister("batch")
        for name in groups:  # a decision written twice counts once
            once = f"SELECT DISTINCT ON (request_id) * FROM logged_{name} ORDER BY ALL"
            con.execute(f"CREATE OR REPLACE TABLE logged_{name} AS {once}")

    def _write_folded(self, con: duckdb.DuckDBPyConnection) -> None:
        group = self._groups["session_profile"]
        path = self._scratch / "folded.parquet"
        write_aside(path, row_schema(group), self._folded(con, group))
        # One row per request, as of its decision: a repeat of the list has seen the list.
        con.execute(
            f"CREATE TABLE folded AS SELECT DISTINCT ON (request_id) f.* FROM {parquet([str(path)])} f "
            "JOIN (SELECT DISTINCT request_id, decision_time FROM shown) d USING (request_id) "
            f"WHERE f.{EVENT_TIMESTAMP} < d.decision_time ORDER BY request_id, f.{EVENT_TIMESTAMP} DESC"
        )

    def _folded(self, con: duckdb.DuckDBPyConnection, group: FeatureGroup) -> Iterator[pa.RecordBatch]:
        schema = row_schema(group)
        rows: list[dict[str, Any]] = []
        items = items_named(con, self._lake.files("item"))
        users = users_who_stated(con, self._lake.files("user"))
        found = session_rows(events_by_session(con), items, users, self._settings)
        for request, time, values in found:
            rows.append({"request_id": request, EVENT_TIMESTAMP: time, **values})
            if len(rows) >= ROWS:
                yield pa.RecordBatch.from_pylist(rows, schema)
                rows = []
        yield pa.RecordBatch.from_pylist(rows, schema)

    def _split(self, con: duckdb.DuckDBPyConnection) -> Split:
        con.execute("CREATE TABLE decided AS SELECT DISTINCT request_id, decision_time FROM examples")
        [(count,)] = con.execute("SELECT count(*) FROM decided").fetchall()
        if not count:
            msg = (
                f"training set {self._spec.first} … {self._spec.last}: these days hold no impression; "
                "choose days on which lists were shown"
            )
            raise BuildError(msg)

        def time_of(number: int) -> datetime:
            query = f"SELECT decision_time FROM decided ORDER BY decision_time LIMIT 1 OFFSET {number}"
            [(time,)] = con.execute(query).fetchall()
            assert isinstance(time, datetime)
            return time

        return Split.at(count, time_of, self._spec.shares, self._spec.embargo)

    def _event_files(self, after: timedelta) -> list[str]:
        # Sessions may have begun the day before; labels may come after the last decision.
        start = self._spec.first - timedelta(days=1)
        end = self._spec.last + timedelta(days=1) + timedelta(days=-(-after // timedelta(days=1)))
        files = self._lake.files("event", start, end)
        if not files:
            msg = f"training set {self._spec.first} … {self._spec.last}: no event of these days in the lake"
            raise BuildError(msg)
        return files

    def _card(self, con: duckdb.DuckDBPyConnection, split: Split, columns: int, files: list[str]) -> Card:
        builds = [p for n, g in self._groups.items() for p in self._builds.history(n, g.version)]
        pending = f"event_type = 'impression' AND NOT ({self._over})"
        [(unfinished,)] = con.execute(f"SELECT count(*) FROM of_days WHERE {pending}").fetchall()
        records = [*self._lake.files("item"), *self._lake.files("user")]
        facts = describe(con, {name: assemble.column(g, "source") for name, g in self._groups.items()})
        return Card(
            created=self._clock(),
            spec=self._spec,
            inputs=fingerprint(
                [*files, *builds, *records], repr(self._spec), str(unfinished), *self._rules(con)
            ),
            validation_from=split.validation_from,
            test_from=split.test_from,
            columns=columns,
            unfinished=unfinished,
            **facts,
        )

    def _rules(self, con: duckdb.DuckDBPyConnection) -> list[str]:
        """What else the rows depend on: the settings of the fold, and the decisions that were logged."""
        settings = self._settings
        said = [repr(sorted(settings.weights.items())), repr(SessionRules.of(settings))]
        said += [repr(settings.session_ttl_s), repr(settings.consent_default)]
        for name in LOGGED_AS:
            said += [repr(con.execute(f"SELECT count(*), bit_xor(hash(l)) FROM logged_{name} l").fetchall())]
        return said
