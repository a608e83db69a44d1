"""Rejected records are kept byte for byte, once, with their reason."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.errors import ContractError, LakeError
from quality.quarantine.store import QUARANTINED, Quarantine

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
ERROR = ContractError("missing_field", "item_id", "item_id: a click must name the item acted on")


@pytest.fixture
def quarantine(tmp_path: Path, clock: Callable[[], datetime]) -> Quarantine:
    return Quarantine(tmp_path / "q", clock)


def test_a_rejection_is_kept_with_its_reason(quarantine: Quarantine) -> None:
    assert quarantine.put(b'{"a": 1}', "events.jsonl", 7, ERROR, fmt="metarank", kind="event")
    (entry,) = quarantine.entries()
    assert (entry.raw, entry.source, entry.line) == (b'{"a": 1}', "events.jsonl", 7)
    assert (entry.code, entry.field, entry.message) == ("missing_field", "item_id", str(ERROR))
    assert (entry.first_seen, entry.format, entry.kind, entry.retried) == (NOW, "metarank", "event", None)


@settings(deadline=None)
@given(raw=st.binary(max_size=40))
def test_any_bytes_come_back(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    quarantine = Quarantine(tmp_path_factory.mktemp("q"), lambda: NOW)
    quarantine.put(raw, "f", 1, ERROR)
    assert [e.raw for e in quarantine.entries()] == [raw]


def test_the_same_rejection_again_adds_nothing(quarantine: Quarantine, tmp_path: Path) -> None:
    assert quarantine.put(b"x", "f", 1, ERROR)
    assert not quarantine.put(b"x", "f", 1, ERROR)
    assert quarantine.put(b"x", "f", 2, ERROR)
    assert quarantine.put(b"y", "f", 1, ERROR)
    again = Quarantine(tmp_path / "q", lambda: NOW + timedelta(days=1))
    assert not again.put(b"x", "f", 1, ERROR)
    assert again.count() == 3


def test_what_another_process_put_is_known(quarantine: Quarantine, tmp_path: Path) -> None:
    other = Quarantine(tmp_path / "q", lambda: NOW)
    assert quarantine.put(b"x", "f", 1, ERROR)
    assert other.put(b"y", "f", 2, ERROR)
    assert not quarantine.put(b"y", "f", 2, ERROR)
    assert not other.put(b"x", "f", 1, ERROR)


def test_a_line_cut_by_a_crash_hides_no_other(quarantine: Quarantine, tmp_path: Path) -> None:
    quarantine.put(b"x", "f", 1, ERROR)
    with (tmp_path / "q" / "day=2024-06-01.jsonl").open("ab") as file:
        file.write(b'{"id": "12')
    again = Quarantine(tmp_path / "q", lambda: NOW)
    assert again.put(b"y", "f", 2, ERROR)
    assert [e.raw for e in again.entries()] == [b"x", b"y"]


def test_it_lists_by_reason_and_finds_by_id(quarantine: Quarantine) -> None:
    quarantine.put(b"x", "f", 1, ERROR)
    quarantine.put(b"y", "f", 2, ContractError("not_json", "", "no"))
    assert [e.raw for e in quarantine.entries(code="not_json")] == [b"y"]
    assert quarantine.reasons() == {"missing_field": 1, "not_json": 1}
    (first, second) = quarantine.entries()
    assert quarantine.find(first.id[:8]) == first
    assert quarantine.find("") is None
    assert quarantine.find("zz") is None
    assert second.id != first.id


def test_a_replayed_record_is_kept_and_no_longer_pending(quarantine: Quarantine) -> None:
    quarantine.put(b"x", "f", 1, ERROR)
    (entry,) = quarantine.entries()
    quarantine.mark_retried([entry])
    assert quarantine.count() == 1
    assert quarantine.count(pending=True) == 0
    (entry,) = quarantine.entries()
    assert entry.retried == NOW


def test_prune_removes_whole_old_days(tmp_path: Path) -> None:
    now = [NOW - timedelta(days=10)]
    quarantine = Quarantine(tmp_path, lambda: now[0])
    quarantine.put(b"old", "f", 1, ERROR)
    now[0] = NOW
    quarantine.put(b"new", "f", 2, ERROR)
    assert quarantine.prune(timedelta(days=7)) == 1
    assert [e.raw for e in quarantine.entries()] == [b"new"]
    assert quarantine.put(b"old", "f", 1, ERROR)


def test_each_rejection_counts_in_the_metric_once(quarantine: Quarantine) -> None:
    metric = QUARANTINED.labels("only_here")
    before = metric._value.get()
    for _ in range(3):
        quarantine.put(b"x", "f", 1, ContractError("only_here", "", "no"))
    assert metric._value.get() == before + 1


def test_a_quarantine_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    quarantine = Quarantine(tmp_path / "file", lambda: NOW)
    with pytest.raises(LakeError, match=r"quarantine .*cannot write .*point HEADRACE_HOME"):
        quarantine.put(b"x", "f", 1, ERROR)
