"""Records are found by the time in their id, or else from the newest back; marks only narrow the search."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.home import Home
from serving.client.request_id import made_at, new_request_id
from serving.decisions.lookup import DecisionFinder, TooFarBackError
from serving.decisions.record import Decision, encode_decision
from serving.decisions.time_marks import AFTER, BEFORE, Marks, marks_of
from streaming.log import Batch, Position, PositionLostError
from tests.support.decisions import decision as blank

T0 = datetime(2024, 6, 1, 12, tzinfo=UTC)


def decision(request_id: str, query: str = "") -> Decision:
    return blank(request_id, T0, query=query)


class CountingLog:
    """One partition in a list; positions are indices. Counts what is read."""

    partitions = 1

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.read_records = 0
        self.first = 0

    def add(self, request_id: str, query: str = "") -> None:
        self.records.append(encode_decision(decision(request_id, query)))

    def read(self, partition: int, position: Position, limit: int) -> Batch:
        at = int(position)
        if at > len(self.records):
            raise PositionLostError("here", position, self.end(0))
        batch = self.records[at : at + limit]
        self.read_records += len(batch)
        return Batch(batch, f"{at + len(batch):020d}")

    def start(self, partition: int) -> Position:
        return f"{self.first:020d}"

    def end(self, partition: int) -> Position:
        return f"{len(self.records):020d}"


class Clock:
    """Says what it is set to."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime:
        return self.now


def id_at(time: datetime, tail: int = 0) -> str:
    return f"{int(time.timestamp() * 1000):012x}{tail:012x}"


@pytest.fixture
def log() -> CountingLog:
    return CountingLog()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def marks(tmp_path: Path, clock: Clock) -> Marks:
    return Marks(tmp_path / "decisions", clock, timedelta(days=7), every_s=-1.0)


def fill(log: CountingLog, marks: Marks, clock: Clock, minutes: int, each: int) -> dict[str, datetime]:
    """A mark and `each` records a minute; ids with their times."""
    made = {}
    for minute in range(minutes):
        clock.now = T0 + timedelta(minutes=minute)
        marks.note(log)  # type: ignore[arg-type]
        for n in range(each):
            request_id = id_at(clock.now, minute * each + n)
            made[request_id] = clock.now
            log.add(request_id)
    return made


def finder(log: CountingLog, marks: Marks, most: int | None = None) -> DecisionFinder:
    return DecisionFinder(log, marks, most)  # type: ignore[arg-type]


def test_an_id_of_ours_is_found_among_those_of_its_time(log: CountingLog, marks: Marks, clock: Clock) -> None:
    made = fill(log, marks, clock, minutes=200, each=100)
    for request_id in list(made)[:: len(made) // 40]:
        log.read_records = 0
        found = finder(log, marks).find(request_id)
        assert found is not None
        assert found.request_id == request_id
        span = BEFORE + AFTER + timedelta(minutes=2)
        assert log.read_records <= span / timedelta(minutes=1) * 100 + 256, "of 20,000"


def test_an_id_without_a_time_is_found_from_the_newest_back(
    log: CountingLog, marks: Marks, clock: Clock
) -> None:
    fill(log, marks, clock, minutes=100, each=20)
    log.records[-30] = encode_decision(decision("late"))
    log.records[5] = encode_decision(decision("early"))
    found = finder(log, marks).find("late")
    assert found is not None
    assert log.read_records < 600
    assert finder(log, marks).find("early") is not None
    assert finder(log, marks).find("never") is None


@pytest.mark.parametrize("of_ours", [True, False])
def test_all_records_of_an_id_are_found(log: CountingLog, marks: Marks, clock: Clock, of_ours: bool) -> None:
    fill(log, marks, clock, minutes=30, each=20)
    name = id_at(T0 + timedelta(minutes=15), 999) if of_ours else "again"
    for place, query in ((300, "first"), (301, "second"), (320, "third")):
        log.records[place] = encode_decision(decision(name, query))
    assert [found.query for found in finder(log, marks).find_all(name)] == ["third", "second", "first"]
    newest = finder(log, marks).find(name)
    assert newest is not None
    assert newest.query == "third"
    assert finder(log, marks).find_all("never") == []


def test_the_search_for_further_records_is_bounded(log: CountingLog, marks: Marks, clock: Clock) -> None:
    fill(log, marks, clock, minutes=100, each=20)
    for place, query in ((1990, "new"), (5, "old")):
        log.records[place] = encode_decision(decision("again", query))
    found = finder(log, marks).find_all("again", further=500)
    assert [one.query for one in found] == ["new"]
    assert log.read_records < 1200
    assert [one.query for one in finder(log, marks, most=600).find_all("again")] == ["new", "old"]


def test_of_two_records_of_one_id_the_newest(log: CountingLog, marks: Marks, clock: Clock) -> None:
    for minute, query in enumerate(["first", "second", "third"]):
        clock.now = T0 + timedelta(minutes=minute)
        marks.note(log)  # type: ignore[arg-type]
        log.add("r", query)
        log.add("r", f"{query} again")
    found = finder(log, marks).find("r")
    assert found is not None
    assert found.query == "third again"


def test_more_than_may_be_read_is_said(log: CountingLog, marks: Marks, clock: Clock) -> None:
    fill(log, marks, clock, minutes=50, each=100)
    with pytest.raises(TooFarBackError, match="'never' among the newest records; `headrace replay` reads"):
        finder(log, marks, most=1000).find("never")
    assert log.read_records <= 1000 + 2 * 256
    request_id = id_at(T0 + timedelta(minutes=1), 100)
    assert finder(log, marks, most=0).find(request_id) is not None, "an id with its time needs no limit"


def test_without_marks_the_whole_log_is_read(log: CountingLog, tmp_path: Path, clock: Clock) -> None:
    for n in range(1000):
        log.add(f"r{n}")
    assert finder(log, Marks(tmp_path / "none", clock, timedelta(days=7))).find("r3") is not None


def test_marks_of_a_log_that_was_replaced_do_not_mislead(
    log: CountingLog, marks: Marks, clock: Clock
) -> None:
    fill(log, marks, clock, minutes=30, each=10)
    log.records.clear()
    log.add("r")
    assert finder(log, marks).find("r") is not None
    clock.now += timedelta(minutes=1)
    marks.note(log)  # type: ignore[arg-type]
    log.add(id_at(clock.now))
    assert finder(log, marks).find(id_at(clock.now)) is not None


def test_records_that_were_removed_are_not_read(log: CountingLog, marks: Marks, clock: Clock) -> None:
    made = list(fill(log, marks, clock, minutes=10, each=10))
    log.first = 50
    assert finder(log, marks).find(made[0]) is None
    assert finder(log, marks).find(made[60]) is not None


@pytest.mark.parametrize(
    "line", ["", "x", "1717243200.000", "1717243200.0 \xff", "nan nan", "1717 .", "x y ."]
)
def test_lines_that_cannot_be_read_are_passed_over(
    log: CountingLog, marks: Marks, clock: Clock, tmp_path: Path, line: str
) -> None:
    made = fill(log, marks, clock, minutes=5, each=5)
    [path] = (tmp_path / "decisions").iterdir()
    path.write_bytes(line.encode() + path.read_bytes() + f"\n{line}".encode())
    assert all(finder(log, marks).find(request_id) is not None for request_id in made)


def test_a_folder_that_cannot_be_written_costs_nothing_else(log: CountingLog, tmp_path: Path) -> None:
    (tmp_path / "decisions").touch()
    marks = Marks(tmp_path / "decisions", Clock(), timedelta(days=7))
    marks.note(log)  # type: ignore[arg-type]
    log.add("r")
    assert finder(log, marks).find("r") is not None


def test_marks_go_with_the_records_they_mark(
    log: CountingLog, marks: Marks, clock: Clock, tmp_path: Path
) -> None:
    for day in range(20):
        clock.now = T0 + timedelta(days=day)
        marks.note(log)  # type: ignore[arg-type]
    kept = sorted(p.stem for p in (tmp_path / "decisions").iterdir())
    assert kept == [f"{T0 + timedelta(days=day):%Y%m%d}" for day in range(11, 20)]


def test_marks_are_made_now_and_then_only(log: CountingLog, clock: Clock, tmp_path: Path) -> None:
    marks = Marks(tmp_path / "decisions", clock, timedelta(days=7), every_s=3600.0)
    for _ in range(5):
        marks.note(log)  # type: ignore[arg-type]
    [path] = (tmp_path / "decisions").iterdir()
    assert len(path.read_text().split()) == 3, "a time, a position, the end"


def ids() -> Iterator[str]:
    while True:
        yield new_request_id()


def test_ids_tell_their_time_and_differ() -> None:
    before = datetime.now(UTC)
    made = [request_id for request_id, _ in zip(ids(), range(10_000), strict=False)]
    after = datetime.now(UTC)
    assert len(set(made)) == len(made)
    for request_id in (made[0], made[-1]):
        time = made_at(request_id)
        assert time is not None
        assert before - timedelta(milliseconds=1) <= time <= after


@given(st.text(max_size=30) | st.from_regex(r"[0-9a-f]{24}", fullmatch=True))
def test_any_text_tells_a_time_or_none(text: str) -> None:
    made = made_at(text)
    assert made is None or (len(text) == 24 and 2020 <= made.year < 2200)


@pytest.mark.parametrize("other", ["r1", "65a1b2c3d4e5f60718293a4b", "f" * 24, "0" * 24, ""])
def test_ids_of_others_tell_no_time(other: str) -> None:
    assert made_at(other) is None


def test_marks_of_a_home_lead_nowhere_before_the_first(home: Home) -> None:
    marks = marks_of(home.decisions, 168.0)
    assert list(marks.newest_first(0)) == [(None, None)]
    assert marks.around(T0, 0) == (None, None)
