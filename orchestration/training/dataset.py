"""Builds a training set (examples, features as of each decision, splits, card) and renames it into place."""

import logging
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from feature_repo.clock import Clock
from feature_repo.clock_skew import counted_sql, no_later_sql, tolerance_of
from feature_repo.consent import permitted_sql, stated_sql
from feature_repo.errors import BuildError
from feature_repo.group import EVENT_TIMESTAMP, FeatureGroup
from feature_repo.groups import all_groups
from feature_repo.groups.session_profile import SessionRules
from feature_repo.home import Home
from feature_repo.lake.lake import Builds, Lake, unreadable
from feature_repo.offline.point_in_time import instant, text
from feature_repo.settings import Settings
from orchestration.builds.build import write_aside
from orchestration.builds.fingerprint import fingerprint
from orchestration.training import assemble
from orchestration.training.card import Card, describe
from orchestration.training.examples import EXAMPLE_COLUMNS, examples_sql, shown_sql
from orchestration.training.logged import logged_rows, row_schema
from orchestration.training.parts import Parts
from orchestration.training.reading import ROWS, events_by_session, items_named, parquet, users_who_stated
from orchestration.training.sessions import session_rows
from orchestration.training.spec import GROUPS, TrainingSpec
from orchestration.training.split import Split
from orchestration.training.spool import Spool
from serving.decisions.record import Decision

logger = logging.getLogger(__name__)


def training_folder(home: Home) -> Path:
    """Return the folder of the training set: ``data.parquet``, ``card.json``, ``card.md``."""
    return home.root / "training"


class TrainingSet:
    """One build of a training set, in its own scratch folder.

    Args:
        decisions: records of what was served; may be empty.
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
        self._tolerance = tolerance_of(settings)
        self._decisions = decisions
        self._groups = {name: all_groups()[name] for name in GROUPS}
        # A list's outcome is known only when its window is over; before that, a "no" would be premature.
        self._over = f"event_time <= {instant(clock() - spec.attribution)}"

    def make(self) -> Card:
        """Write the set and its card.

        Raises:
            BuildError: the days have no impression, or the disk or a build fails; the previous set stays.
            LakeError: a file of the lake is damaged; names the file.
        """
        after = self._spec.attribution
        files = self._event_files(after)
        # Events stamped ahead of their arrival are in the file of a later day.
        ahead = timedelta(seconds=self._settings.future_tolerance_s)
        later = self._lake.files("event", self._end(after), self._end(after + ahead))
        if bad := unreadable([*files, *later]):
            raise bad
        self._scratch.mkdir(parents=True)
        try:
            with duckdb.connect() as con:
                self._configure(con)
                card = self._make(con, [*files, *self._ahead(con, later)])
            card.save(self._scratch)
            for name in ("data.parquet", "card.json", "card.md"):
                (self._scratch / name).replace(self._target / name)
        except (duckdb.Error, OSError, pa.ArrowInvalid) as error:
            said = str(error).strip().splitlines()[0]
            if isinstance(error, duckdb.OutOfMemoryException):
                said += "; raise HEADRACE_DUCKDB_MEMORY"
            msg = f"training set {self._spec.first} … {self._spec.last}: {said}; the previous set stays"
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
        con.execute(f"CREATE VIEW stamped AS SELECT * FROM {parquet(files)}")
        con.execute(f"CREATE VIEW events AS {counted_sql('stamped', self._tolerance)}")
        last = self._spec.last + timedelta(days=1)
        days = f"event_time >= DATE '{self._spec.first}' AND event_time < DATE '{last}'"
        self._judge(con)
        con.execute(f"CREATE VIEW of_days AS SELECT * FROM judged WHERE {days}")
        over = f"(SELECT * FROM of_days WHERE permitted AND {self._over})"
        con.execute(f"CREATE TABLE shown AS {shown_sql(over)}")
        allowed = "(SELECT * FROM judged WHERE permitted)"
        examples = examples_sql("shown", allowed, self._spec.attribution, self._tolerance)
        con.execute(f"CREATE TABLE examples AS {examples}")
        split = self._split(con)
        logged, folded = self._spool_logged(con), self._spool_folded(con)
        parts = Parts(con, self._builds, self._groups, logged, folded)
        rows = parts.rows(split.sql("decision_time"))
        first = next(rows)
        target = self._scratch / "data.parquet"
        write_aside(target, first.schema, (batch for batch in rows if batch.num_rows))
        embargoed = (
            f"SELECT {', '.join(EXAMPLE_COLUMNS)}, {split.sql('decision_time')} AS split FROM examples"
        )
        con.execute(
            f"CREATE VIEW labelled AS SELECT * FROM {parquet([str(target)])} "
            f"UNION ALL BY NAME SELECT * FROM ({embargoed}) WHERE split IS NULL"
        )
        digests = [spool.digest() for spool in logged.values()]
        return self._card(con, split, len(first.schema), files, digests)

    def _judge(self, con: duckdb.DuckDBPyConnection) -> None:
        """Create the view ``judged``: the events, and whether today's statements permit each.

        The fold of sessions reads ``events``, where a denial ends a session.
        """
        stated = "SELECT NULL::VARCHAR AS user_id, NULL::BOOLEAN AS stated WHERE false"
        if files := self._lake.files("user"):
            stated = stated_sql(f"{parquet(files)} SEMI JOIN stamped USING (user_id)")
        con.execute(f"CREATE TABLE stated AS {stated}")
        rule = permitted_sql("e.consent", "s.stated", self._settings.consent_default)
        con.execute(
            f"CREATE VIEW judged AS SELECT e.*, {rule} AS permitted "
            "FROM events e LEFT JOIN stated s ON e.user_id = s.user_id"
        )

    def _spool_logged(self, con: duckdb.DuckDBPyConnection) -> dict[str, Spool]:
        groups = {name: group for name, group in self._groups.items() if group.ranked_as}
        spools = {n: Spool(con, f"logged_{n}", self._scratch, row_schema(g)) for n, g in groups.items()}
        for group, batch in logged_rows(self._decisions, groups):
            spools[group.name].add(batch)
        return spools

    def _spool_folded(self, con: duckdb.DuckDBPyConnection) -> Spool:
        group = self._groups["session_profile"]
        spool = Spool(con, "folded", self._scratch, row_schema(group))
        for batch in self._folded(con, group):
            spool.add(batch)
        return spool

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
            lists, _ = self._unpermitted(con)
            why = f" but {lists:,} of people who do not permit personalization" if lists else ""
            msg = (
                f"training set {self._spec.first} … {self._spec.last}: these days have no impression{why}; "
                "choose days on which lists were shown"
            )
            raise BuildError(msg)

        def time_of(number: int) -> datetime:
            query = f"SELECT decision_time FROM decided ORDER BY decision_time LIMIT 1 OFFSET {number}"
            [(time,)] = con.execute(query).fetchall()
            assert isinstance(time, datetime)
            return time

        return Split.at(count, time_of, self._spec.shares, self._spec.embargo)

    def _unpermitted(self, con: duckdb.DuckDBPyConnection) -> tuple[int, int]:
        """Count the lists and the other events of the days that are not permitted."""
        shown = "event_type = 'impression'"
        counts = f"count(*) FILTER ({shown}), count(*) FILTER (NOT ({shown}))"
        [(lists, others)] = con.execute(f"SELECT {counts} FROM of_days WHERE NOT permitted").fetchall()
        return lists, others

    def _event_files(self, after: timedelta) -> list[str]:
        # Sessions may have begun the day before; labels may arrive after the last decision.
        start = self._spec.first - timedelta(days=1)
        end = self._end(after)
        files = self._lake.files("event", start, end)
        if not files:
            msg = f"training set {self._spec.first} … {self._spec.last}: no event of these days in the lake"
            raise BuildError(msg)
        return files

    def _end(self, after: timedelta) -> date:
        return self._spec.last + timedelta(days=1) + timedelta(days=-(-after // timedelta(days=1)))

    def _ahead(self, con: duckdb.DuckDBPyConnection, files: list[str]) -> list[str]:
        """List the files with an event stamped ahead of its arrival."""
        if not files:
            return []
        ahead = f"event_time <> {no_later_sql(self._tolerance)}"
        query = f"SELECT DISTINCT filename FROM {parquet(files, filename=True)} WHERE {ahead} ORDER BY 1"
        return [name for (name,) in con.execute(query).fetchall()]

    def _card(
        self,
        con: duckdb.DuckDBPyConnection,
        split: Split,
        columns: int,
        files: list[str],
        logged: Sequence[str],
    ) -> Card:
        builds = [p for n, g in self._groups.items() for p in self._builds.history(n, g.version)]
        pending = f"event_type = 'impression' AND permitted AND NOT ({self._over})"
        [(unfinished,)] = con.execute(f"SELECT count(*) FROM of_days WHERE {pending}").fetchall()
        unpermitted, unpermitted_events = self._unpermitted(con)
        records = [*self._lake.files("item"), *self._lake.files("user")]
        facts = describe(con, {name: assemble.column(g, "source") for name, g in self._groups.items()})
        return Card(
            created=self._clock(),
            spec=self._spec,
            inputs=fingerprint(
                [*files, *builds, *records], repr(self._spec), str(unfinished), *self._rules(), *logged
            ),
            validation_from=split.validation_from,
            test_from=split.test_from,
            columns=columns,
            unfinished=unfinished,
            unpermitted=unpermitted,
            unpermitted_events=unpermitted_events,
            **facts,
        )

    def _rules(self) -> list[str]:
        """List what else the rows depend on: the settings of the fold."""
        settings = self._settings
        said = [repr(sorted(settings.weights.items())), repr(SessionRules.of(settings))]
        return [
            *said,
            repr(settings.session_ttl_s),
            repr(settings.consent_default),
            repr(settings.clock_skew_s),
        ]
