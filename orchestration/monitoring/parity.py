"""Online/offline parity of a day: recomputes the feature rows of sampled decisions and compares them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date

import msgspec

from feature_repo.errors import ContractError
from feature_repo.group import FeatureGroup
from feature_repo.groups import all_groups
from feature_repo.groups.segment_profile import EVERYONE
from feature_repo.home import Home
from feature_repo.lake.lake import Builds, Lake
from feature_repo.settings import Settings, with_registered
from orchestration.monitoring.recompute import Builder, Folder
from quality.checks.figures import Figures, failing_features, save_figures
from quality.checks.results import CheckReport
from quality.parity import GroupParity, Served, compare, parity_report, sampled_by_hash
from quality.quarantine.store import Quarantine
from serving.decisions.hashing import hashed
from serving.decisions.record import TOPIC, Decision, UsedRow, decode_decision
from streaming.log import open_log, where
from streaming.log.protocol import EventLog

USER, SEGMENT, SESSION = "user_profile", "segment_profile", "session_profile"
_READ = 1000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ParityRun:
    """Results for a day: `decisions` counts the sample; `measured` holds the counts by group."""

    report: CheckReport
    measured: Mapping[str, GroupParity]
    decisions: int


def run_parity(settings: Settings, home: Home, day: date) -> ParityRun:
    """Compare a hash sample of the day's decisions with offline values, and save the figures.

    Raises:
        LogError: the decisions cannot be read.
        LakeError: events or builds cannot be read.
    """
    settings = with_registered(settings)
    log, quarantine = open_log(settings, home, TOPIC), Quarantine.of(settings, home)
    try:
        decisions = [
            decision
            for decision in decisions_of(log, day, quarantine=quarantine)
            if sampled_by_hash(decision.request_id, settings.parity_sample)
        ]
    finally:
        log.close()
    rows: dict[str, list[Served]] = {}
    for decision in decisions:
        for row in served_rows(decision):
            rows.setdefault(row.group, []).append(row)
    measured = _measure(settings, home, day, rows)
    report = parity_report(measured, settings.parity_budget)
    for name, parity in measured.items():
        failing = [r for r in report.failures if r.column.partition(".")[0] == name]
        kept = failing_features(CheckReport(name, tuple(failing)))
        save_figures(home.quality, "parity", Figures(name, settings.clock(), parity.figures(), kept))
    return ParityRun(report, measured, len(decisions))


def _measure(
    settings: Settings, home: Home, day: date, rows: Mapping[str, list[Served]]
) -> dict[str, GroupParity]:
    groups, builds = all_groups(), Builds(home.features)
    salt = settings.id_salt.get_secret_value()
    found = {}
    for name, served in rows.items():
        group: FeatureGroup = groups[name]
        if name == SESSION:
            offline = Folder(Lake(home.lake), settings, lambda i: hashed(i, salt)).recompute(served, day)
        elif name == SEGMENT:
            offline = Builder(builds, group, str).recompute(served)
        else:
            offline = Builder(builds, group, lambda i: hashed(i, salt)).recompute(served)
        found[name] = compare(group, zip(served, offline, strict=True))
    return found


def decisions_of(
    log: EventLog, first: date, last: date | None = None, quarantine: Quarantine | None = None
) -> Iterator[Decision]:
    """Yield every decision of a day, or of the days up to `last`, that is still in the log, in one pass.

    Records that are not decisions are counted, logged, and quarantined if a quarantine is given.
    """
    strange = 0
    for partition in range(log.partitions):
        position = log.start(partition)
        while True:
            batch = log.read(partition, position, _READ)
            if not batch.records and batch.position == position:
                break
            position = batch.position
            strange += len(batch.damaged)
            places = batch.places or (None,) * len(batch.records)
            for raw, place in zip(batch.records, places, strict=True):
                try:
                    decision = decode_decision(raw)
                    day = decision.time.astimezone(UTC).date()
                except (msgspec.MsgspecError, OverflowError) as error:
                    strange += 1
                    if quarantine is not None:
                        reason = ContractError("not_a_record", "", f"not a decision: {error}")
                        quarantine.put(raw, *where(partition, place, "log of decisions"), reason)
                    continue
                if first <= day <= (last or first):
                    yield decision
    if strange:
        logger.warning("%d records of %s are not decisions and were skipped", strange, TOPIC)


def served_rows(decision: Decision) -> Iterator[Served]:
    """Yield the feature rows that a decision used, by group and (hashed) key."""
    features = decision.features
    user = features.get("user")
    if user is not None and decision.user is not None:
        yield _served(USER, decision.user, user, decision)
    session = features.get("session")
    if session is not None and decision.session is not None:
        yield _served(SESSION, decision.session, session, decision)
    segment = features.get("segment")
    if segment is not None:
        named = None if user is None else user.values.get("segment")
        # The copy may be the overall row, used when the segment's own row could not be read.
        if not segment.cached:
            yield _served(SEGMENT, str(named or EVERYONE), segment, decision)


def _served(group: str, key: str, row: UsedRow, decision: Decision) -> Served:
    event_time = row.event_time.replace(microsecond=0)
    return Served(group, key, row.values, event_time, decision.request_id, decision.time)
