"""A flood of rejected records: each further one costs the same, and the folder has a largest size."""

from __future__ import annotations

import errno
import os
import resource
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pytest

from feature_repo.errors import ContractError, LakeError
from feature_repo.home import Home
from feature_repo.settings import Settings
from quality.quarantine import day_files as quarantine_days
from quality.quarantine.store import NOT_KEPT, Quarantine
from tests.conftest import NOW

ERROR = ContractError("not_json", "", "no JSON")
LINE = 400
"""About what a record of these tests takes in the file."""


def size(root: Path) -> int:
    return sum(path.stat().st_size for path in root.iterdir())


def put_many(held: Quarantine, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        held.put(b"x" * 200, "http", number, ERROR)


def test_each_line_is_read_once_by_each_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: Counter[str] = Counter()
    read_line = quarantine_days.id_of_line

    def counted(line: bytes) -> int | None:
        read["lines"] += 1
        return read_line(line)

    monkeypatch.setattr(quarantine_days, "id_of_line", counted)
    put_many(Quarantine(tmp_path, lambda: NOW), 300)
    assert read["lines"] == 0, "its own lines are known"
    Quarantine(tmp_path / "absent", lambda: NOW).warm()
    (tmp_path / "damaged" / ".lock").mkdir(parents=True)
    assert Quarantine(tmp_path / "damaged", lambda: NOW).warm().count() == 0, "holds nothing up"
    warm = Quarantine(tmp_path, lambda: NOW).warm()
    assert read["lines"] == 300
    warm.put(b"x" * 200, "http", 0, ERROR)
    assert read["lines"] == 300, "nothing is left to read for the first rejection"
    read.clear()
    stream, serving = (Quarantine(tmp_path, lambda: NOW) for _ in range(2))
    for number in range(300, 400, 2):
        put_many(stream, 1, number)
        put_many(serving, 1, number + 1)
    # Each reads the 300 once, and the 50 of the other.
    assert 2 * 300 < read["lines"] <= 2 * (300 + 50)
    assert stream.count() == 400


def test_a_full_day_keeps_its_first_records_and_counts_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = NOT_KEPT.labels("day")._value.get()
    held = Quarantine(tmp_path, lambda: NOW, day_bytes=10 * LINE)
    put_many(held, 50)
    kept = held.count()
    assert 5 < kept < 50
    assert [e.line for e in held.entries()] == list(range(kept))
    assert held.not_kept() == {NOW.date(): 50 - kept}
    assert NOT_KEPT.labels("day")._value.get() == before + 50 - kept
    assert size(tmp_path) <= 10 * LINE + 20
    assert len([r for r in caplog.records if "HEADRACE_QUARANTINE_DAY_MB" in r.message]) == 1
    assert not held.put(b"x" * 200, "http", 0, ERROR), "what is kept is still known"
    again = Quarantine(tmp_path, lambda: NOW + timedelta(days=1), day_bytes=10 * LINE)
    assert again.put(b"x" * 200, "http", 49, ERROR)
    assert again.count() == kept + 1, "the next day has room"


def test_a_record_larger_than_a_day_is_counted(tmp_path: Path) -> None:
    held = Quarantine(tmp_path, lambda: NOW, day_bytes=1000)
    assert held.put(b"x" * 2000, "f", 1, ERROR)
    assert held.put(b"y", "f", 2, ERROR)
    assert [e.raw for e in held.entries()] == [b"y"]
    assert held.not_kept() == {NOW.date(): 1}


def test_a_full_folder_removes_its_oldest_day_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = [NOW]
    held = Quarantine(tmp_path, lambda: now[0], day_bytes=10 * LINE, folder_bytes=35 * LINE)
    for day in range(8):
        now[0] = NOW + timedelta(days=day)
        put_many(held, 9, day * 10)
        assert size(tmp_path) <= 35 * LINE + 200
    days = sorted({e.first_seen.date() for e in held.entries()})
    assert 3 <= len(days) < 8
    assert days[-1] == now[0].date()
    gone = [NOW.date() + timedelta(days=n) for n in range(8 - len(days))]
    assert held.not_kept() == dict.fromkeys(gone, 9)
    assert "HEADRACE_QUARANTINE_MB" in caplog.text
    assert held.put(b"x" * 200, "http", 0, ERROR), "what was removed is new"


def test_counts_and_notes_go_with_their_days(tmp_path: Path) -> None:
    now = [NOW]
    held = Quarantine(tmp_path, lambda: now[0], day_bytes=3 * LINE)
    put_many(held, 9)
    held.mark_retried(list(held.entries()))
    now[0] = NOW + timedelta(days=100)
    held.put(b"new", "f", 1, ERROR)
    held.mark_retried(list(held.entries(pending=True)))
    held.prune(timedelta(days=90))
    assert held.not_kept() == {}
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "day=2024-09-09.jsonl", "retried.jsonl"]
    assert len((tmp_path / "retried.jsonl").read_text().splitlines()) == 1
    assert held.count() == 1
    assert held.count(pending=True) == 0


def test_a_write_that_fails_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Quarantine(tmp_path, lambda: NOW)
    held.put(b"first", "f", 1, ERROR)
    before = held._days.path(NOW.date()).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))
    try:
        with pytest.raises(LakeError, match=os.strerror(errno.EFBIG)):
            held.put(b"second", "f", 2, ERROR)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert held._days.path(NOW.date()).read_bytes() == before
    assert held.put(b"second", "f", 2, ERROR)
    assert [e.raw for e in held.entries()] == [b"first", b"second"]


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "day=notes.jsonl").write_text("mine\n")
    held = Quarantine(tmp_path, lambda: NOW)
    assert held.put(b"x", "f", 1, ERROR)
    assert held.count() == 1


@pytest.mark.parametrize("end", ["null", '"event"', '"item"', '"user"'])
def test_only_a_whole_line_has_an_id(tmp_path: Path, end: str) -> None:
    kind = None if end == "null" else end.strip('"')
    held = Quarantine(tmp_path, lambda: NOW)
    tricky = b'{"kind": ' + end.encode() + b"}\n"
    held.put(tricky, "f", 1, ERROR, kind=kind)  # type: ignore[arg-type]
    whole = held._days.path(date(2024, 6, 1)).read_bytes()
    assert quarantine_days.id_of_line(whole) == int(next(held.entries()).id, 16)
    for cut in range(len(whole) - 1):
        assert quarantine_days.id_of_line(whole[:cut] + b"\n") is None


def test_the_bounds_are_settings(home: Home) -> None:
    held = Quarantine.of(Settings(home=home.root, quarantine_day_mb=3, quarantine_mb=7), home)
    assert (held._day_bytes, held._folder_bytes) == (3 << 20, 7 << 20)
