"""Recomputes feature rows offline as of the time they were served: from builds and with the fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import duckdb

from feature_repo.catalogue import catalogue_of
from feature_repo.clock_skew import no_later_sql, tolerance_of
from feature_repo.consent import permitted
from feature_repo.contract.validation import Event, Item, Record, User, from_arrow
from feature_repo.errors import LakeError
from feature_repo.group import CREATED_TIMESTAMP, FeatureGroup
from feature_repo.groups.session_profile import GROUP, Profile, SessionRules, step, touch_of, values
from feature_repo.lake.lake import Builds, Lake
from feature_repo.settings import Settings
from quality.parity import Late, Recomputed, Served, compare

Hash = Callable[[str], str]
_FILES = "read_parquet(?, union_by_name=true, hive_partitioning=false)"


class Builder:
    """Rows of batch groups, read from the build that was online.

    Args:
        hashed: the hash that decisions apply to ids; the identity for groups whose keys are not hashed.
    """

    def __init__(self, builds: Builds, group: FeatureGroup, hashed: Hash) -> None:
        self._builds = builds
        self._group = group
        self._hashed = hashed

    def recompute(self, served: Sequence[Served]) -> list[Recomputed]:
        """Return the build's row for each served one; `None` if the build is gone or has no such row.

        `Late` if the build was replaced after the row was served, because late events arrived.

        Raises:
            LakeError: a build cannot be read.
        """
        found: dict[tuple[datetime, str], Mapping[str, Any]] = {}
        for as_of in {row.event_time for row in served}:
            wanted = {row.key for row in served if row.event_time == as_of}
            found |= {(as_of, key): row for key, row in self._rows(as_of, wanted).items()}
        return [_as_served(row, found.get((row.event_time, row.key))) for row in served]

    def _rows(self, as_of: datetime, wanted: set[str]) -> dict[str, Mapping[str, Any]]:
        path = self._builds.path(self._group.name, as_of, self._group.version)
        if not path.exists():
            return {}
        key = self._group.entity.join_key
        keys = [row[key] for row in _query(f'SELECT "{key}" FROM {_FILES}', [str(path)])]
        names = {k: h for k in keys if (h := self._hashed(k)) in wanted}
        rows = _query(
            f'SELECT * FROM {_FILES} WHERE "{key}" IN (SELECT unnest(?))',
            [str(path), list(names)],
        )
        return {names[row[key]]: row for row in rows}


def _as_served(served: Served, row: Mapping[str, Any] | None) -> Recomputed:
    rebuilt = row is not None and served.time is not None and row[CREATED_TIMESTAMP] > served.time
    return Late if rebuilt else row


class Folder:
    """Session profiles, folded from the lake's events up to the moment a row was served.

    An event stamped ahead of its arrival counts at its arrival, as in the stream.
    """

    def __init__(self, lake: Lake, settings: Settings, hashed: Hash) -> None:
        self._lake = lake
        self._hashed = hashed
        self._weights = settings.weights
        self._rules = SessionRules.of(settings)
        self._tolerance = tolerance_of(settings)
        self._unsure: set[str] = set()  # sessions with an event stamped ahead of its arrival
        self._ahead = timedelta(seconds=settings.future_tolerance_s)
        items = [r for r in self._records("item") if isinstance(r, Item)]
        self._facts = catalogue_of(items)
        self._stated = {r.user_id: r.consent for r in self._records("user") if isinstance(r, User)}

    def recompute(self, served: Sequence[Served], day: date) -> list[Recomputed]:
        """Return the profile for each served row; `Late` if events arrived after it was served.

        Args:
            day: the day of the decisions; sessions may have begun the day before.
        """
        events = self._events({row.key for row in served}, day)
        return [self._known(row, self._row(row, events.get(row.key, []))) for row in served]

    def _known(self, served: Served, row: Recomputed) -> Recomputed:
        """Return the row; `Late` if it differs and an event of its session was stamped ahead of its arrival.

        The time at which such an event was counted is unknown: the stream had it before the lake.
        """
        if served.key not in self._unsure:
            return row
        compared = compare(GROUP, [(served, row)])
        same = row is not None and not any(f.differing for f in compared.features.values())
        return row if same else Late

    def _row(self, served: Served, events: Sequence[Event]) -> Recomputed:
        profile: Profile | None = None
        second = timedelta(seconds=1)
        chosen: Mapping[str, Any] | None = None
        for event in events:
            if event.event_time >= served.event_time + second:
                break
            consent = self._consent(event)
            facts = None if event.item_id is None else self._facts.get(event.item_id)
            profile = step(profile, touch_of(event, self._weights, consent), facts, self._rules)
            row = {**values(profile, self._rules)}
            if row["user_id"] is not None:
                row["user_id"] = self._hashed(row["user_id"])
            # The store keeps whole seconds: of the states within one, choose the one with as many events.
            if (
                row["event_count"] == served.values.get("event_count")
                and event.event_time >= served.event_time
            ):
                return row
            chosen = row
        count = served.values.get("event_count")
        if chosen is not None and isinstance(count, int) and chosen["event_count"] > count:
            return Late
        return chosen

    def _consent(self, event: Event) -> bool | None:
        stated = None if event.user_id is None else self._stated.get(event.user_id)
        return permitted(event.consent, stated, None)

    def _events(self, wanted: set[str], day: date) -> dict[str, list[Event]]:
        # Events stamped ahead are in the file of a later day.
        after = timedelta(days=1) - self._ahead // -timedelta(days=1) * timedelta(days=1)
        files = self._lake.files("event", day - timedelta(days=1), day + after)
        if not files or not wanted:
            return {}
        ids = _query(f"SELECT DISTINCT session_id AS id FROM {_FILES}", [files])
        names = {row["id"]: h for row in ids if (h := self._hashed(row["id"])) in wanted}
        counted = f"SELECT *, {no_later_sql(self._tolerance)} AS counted FROM {_FILES}"
        rows = _query(
            f"SELECT * FROM ({counted}) WHERE session_id IN (SELECT unnest(?)) ORDER BY counted, event_id",
            [files, list(names)],
        )
        found: dict[str, list[Event]] = {}
        for row in rows:
            if row["counted"] != row["event_time"]:
                self._unsure.add(names[row["session_id"]])
            row["event_time"] = row.pop("counted")
            event = from_arrow("event", row)
            assert isinstance(event, Event)
            found.setdefault(names[event.session_id], []).append(event)
        return found

    def _records(self, kind: str) -> list[Record]:
        """Return items or users, oldest record first, so that the newest record of an id wins."""
        known: Any = kind
        files = self._lake.files(known)
        if not files:
            return []
        rows = _query(
            f"SELECT * FROM {_FILES} ORDER BY ingested_at",
            [files],
        )
        return [from_arrow(known, row) for row in rows]


def _query(sql: str, parameters: list[Any]) -> list[dict[str, Any]]:
    con = duckdb.connect()
    try:
        con.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        result = con.execute(sql, parameters)
        columns = [column[0] for column in result.description or ()]
        return [dict(zip(columns, row, strict=True)) for row in result.fetchall()]
    except duckdb.Error as error:
        msg = f"{parameters[0]}: cannot be read ({str(error).splitlines()[0]})"
        raise LakeError(msg) from error
    finally:
        con.close()
