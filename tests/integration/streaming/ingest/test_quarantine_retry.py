"""Quarantine that comes back: replayed once after a fix, whatever format the record came in."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.contract.validation import Contract
from feature_repo.errors import LakeError
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.settings import Settings
from quality.quarantine.store import Quarantine
from streaming.ingest.event_door import EventDoor
from streaming.ingest.files import ingest
from streaming.ingest.lake_writer import LakeWriter
from streaming.ingest.quarantine_retry import RetryCounts, retry
from streaming.log import open_log

WINK: dict[str, Any] = {
    "record": "event",
    "event_id": "e1",
    "event_type": "wink",
    "event_time": "2024-05-01T10:00:00Z",
    "session_id": "s1",
    "item_id": "i1",
}


@pytest.fixture
def fixed(settings: Settings) -> Settings:
    """The settings after the fix: the type is registered."""
    return settings.model_copy(update={"event_weights": {"wink": 1.0}})


def lines(path: Path, *objects: Any) -> Path:
    path.write_text("".join((o if isinstance(o, str) else json.dumps(o)) + "\n" for o in objects))
    return path


def ids(home: Home) -> list[str]:
    return sorted(
        event_id
        for name in Lake(home.lake).files("event")
        for event_id in pq.read_table(name, columns=["event_id"]).column(0).to_pylist()
    )


def pending(settings: Settings, home: Home) -> int:
    return Quarantine(home.quarantine, settings.clock).count(pending=True)


def test_a_record_comes_back_once_after_the_fix(
    settings: Settings, fixed: Settings, home: Home, tmp_path: Path
) -> None:
    path = lines(tmp_path / "a.jsonl", WINK, {**WINK, "event_id": "e2"}, "[1]")
    ingest([path], "headrace", settings)
    assert retry(settings) == RetryCounts(failed=3)
    assert (ids(home), pending(settings, home)) == ([], 3)
    assert retry(fixed) == RetryCounts(replayed=2, failed=1)
    assert (ids(home), pending(settings, home)) == (["e1", "e2"], 1)
    assert retry(fixed) == RetryCounts(failed=1)
    assert ids(home) == ["e1", "e2"]
    entries = list(Quarantine(home.quarantine, settings.clock).entries())
    assert [e.retried is not None for e in entries] == [True, True, False]


def test_what_was_ingested_again_meanwhile_counts_once(
    settings: Settings, fixed: Settings, home: Home, tmp_path: Path
) -> None:
    path = lines(tmp_path / "a.jsonl", WINK)
    ingest([path], "headrace", settings)
    assert ingest([path], "headrace", fixed).accepted == 1
    assert retry(fixed) == RetryCounts(replayed=1)
    assert ids(home) == ["e1"]
    assert ingest([path], "headrace", fixed).duplicate == 1


def test_killed_before_it_is_marked_it_is_replayed_and_counts_once(
    settings: Settings, fixed: Settings, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    ingest([lines(tmp_path / "a.jsonl", WINK)], "headrace", settings)
    monkeypatch.setattr(Quarantine, "mark_retried", die)
    with pytest.raises(KeyboardInterrupt):
        retry(fixed)
    monkeypatch.undo()
    assert retry(fixed) == RetryCounts(replayed=1)
    assert ids(home) == ["e1"]


def test_killed_before_the_lake_is_written_the_next_sync_completes(
    settings: Settings, fixed: Settings, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise LakeError("disk full")

    ingest([lines(tmp_path / "a.jsonl", WINK)], "headrace", settings)
    monkeypatch.setattr(LakeWriter, "sync", fail)
    with pytest.raises(LakeError, match="disk full"):
        retry(fixed)
    monkeypatch.undo()
    ingest([lines(tmp_path / "b.jsonl", {**WINK, "event_id": "e2"})], "headrace", fixed)
    assert ids(home) == ["e1", "e2"]


def test_rows_of_tables_come_back_too(
    settings: Settings, fixed: Settings, home: Home, tmp_path: Path
) -> None:
    fields = {k: v for k, v in WINK.items() if k != "record"}
    (tmp_path / "a.csv").write_text(",".join(fields) + "\n" + ",".join(fields.values()) + "\n")
    pq.write_table(pa.Table.from_pylist([{**fields, "event_id": "e2"}]), tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        assert ingest([tmp_path / name], "headrace", settings).quarantined == 1
    assert retry(fixed) == RetryCounts(replayed=2)
    assert ids(home) == ["e1", "e2"]


def test_rows_come_back_as_what_their_file_said_they_are(
    settings: Settings, fixed: Settings, home: Home, tmp_path: Path
) -> None:
    """The bytes of a row alone tell neither its columns nor its kind."""
    fields = {k: v for k, v in WINK.items() if k != "record"}
    (tmp_path / "a.json").write_text(json.dumps([fields, {**fields, "event_id": "e2", "event_type": "view"}]))
    assert ingest([tmp_path / "a.json"], "headrace", settings).quarantined == 1
    early = settings.model_copy(update={"earliest_event_time": datetime(2005, 1, 1, tzinfo=UTC)})
    (tmp_path / "r.csv").write_text("userId;movieId;rating;timestamp\n7;9;4.0;978307200\n")
    assert ingest([tmp_path / "r.csv"], "movielens", early).quarantined == 1
    (tmp_path / "i.csv").write_text("item_id\tprice\tweight\tsku\ni\t-1\t240\t007\n")
    assert ingest([tmp_path / "i.csv"], "headrace", settings).quarantined == 1
    kept = [entry.raw for entry in Quarantine(home.quarantine, settings.clock).entries()]
    assert kept == [json.dumps(fields).encode(), b"7;9;4.0;978307200", b"i\t-1\t240\t007"]
    assert retry(fixed) == RetryCounts(replayed=2, failed=1)
    assert len(ids(home)) == 3


def test_rows_of_other_formats_are_read_by_their_format(
    settings: Settings, home: Home, tmp_path: Path
) -> None:
    event = {"event": "interaction", "id": "m1", "timestamp": "978307200000", "type": "click", "item": "1"}
    strict = Settings(home=home.root, earliest_event_time=datetime(2005, 1, 1, tzinfo=UTC))
    ingest([lines(tmp_path / "m.jsonl", event)], "metarank", strict)
    assert pending(settings, home) == 1
    assert retry(settings) == RetryCounts(replayed=1)
    assert ids(home) == ["m1"]


def test_a_non_record_is_skipped_and_reported(settings: Settings, home: Home, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("event_id,event_type,event_time,session_id\ne1,click\n")
    ingest([tmp_path / "a.csv"], "headrace", settings)
    assert retry(settings) == RetryCounts(skipped=1)
    assert pending(settings, home) == 1


def test_only_some_may_be_retried(settings: Settings, fixed: Settings, home: Home, tmp_path: Path) -> None:
    ingest([lines(tmp_path / "a.jsonl", WINK, {**WINK, "event_id": "e2"})], "headrace", settings)
    first, _ = Quarantine(home.quarantine, settings.clock).entries()
    assert retry(fixed, code="not_json") == RetryCounts()
    assert retry(fixed, prefix=first.id[:8]) == RetryCounts(replayed=1)
    assert retry(fixed, code="unknown_event_type") == RetryCounts(replayed=1)


def test_what_the_door_rejected_comes_back(
    settings: Settings, fixed: Settings, home: Home, clock: Callable[[], Any]
) -> None:
    log = open_log(settings, home)
    door = EventDoor(Contract(settings, clock), log, Quarantine(home.quarantine, clock))
    assert door.accept([WINK], "http").accepted == 0
    log.close()
    assert retry(fixed) == RetryCounts(replayed=1)
    assert ids(home) == ["e1"]


def test_a_change_of_type_upstream_is_quarantine_with_the_reason_never_a_null(
    settings: Settings, home: Home, tmp_path: Path
) -> None:
    changed = {**WINK, "event_type": "click", "position": "first"}
    assert ingest([lines(tmp_path / "a.jsonl", changed)], "headrace", settings).quarantined == 1
    (entry,) = Quarantine(home.quarantine, settings.clock).entries()
    assert (entry.code, entry.field) == ("wrong_type", "position")
    assert entry.message == "position: expected `int | null`, got `str`"
    assert ids(home) == []
