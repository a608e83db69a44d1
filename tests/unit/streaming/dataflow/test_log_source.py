"""Reading a partition: batches by size and time, ticks, a failing log, stopping; on a clock of the tests."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta

import pytest

from feature_repo.errors import LogError
from streaming.dataflow import log_source as source_module
from streaming.dataflow.log_source import EventLogSource, LogPart, SourceRules, part_name
from streaming.log import Batch, Damage, Keyed, Position, PositionLostError
from streaming.sessions.messages import Chunk

RULES = SourceRules(batch_size=3, batch_s=0.005, tick_s=1.0)


class FakeLog:
    """A log in memory whose reads can be made to fail."""

    partitions = 2

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.oldest = "000"
        self.failures = 0
        self.reads = 0
        self.damaged: tuple[Damage, ...] = ()

    def publish(self, records: Sequence[Keyed]) -> None:
        self.records += [raw for _, raw in records]

    def read(self, partition: int, position: Position, limit: int) -> Batch:
        self.reads += 1
        if self.failures:
            self.failures -= 1
            message = "broker gone"
            raise LogError(message)
        if int(position) > len(self.records):
            raise PositionLostError("fake", position, self.end(partition))
        position = max(position, self.oldest)
        found = self.records[int(position) : int(position) + limit]
        damaged, self.damaged = self.damaged, ()
        return Batch(found, f"{int(position) + len(found):03d}", damaged)

    def start(self, partition: int) -> Position:
        return self.oldest

    def end(self, partition: int) -> Position:
        return f"{len(self.records):03d}"

    def trim(self, older_than: timedelta) -> int:
        return 0

    def close(self) -> None:
        pass


class Time:
    """A monotonic clock that moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def log() -> FakeLog:
    return FakeLog()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


def add(log: FakeLog, *texts: str) -> None:
    log.publish([("k", text.encode()) for text in texts])


def opened(log: FakeLog, time: Time, stop: threading.Event, rules: SourceRules = RULES) -> LogPart:
    """A part whose first tick is over."""
    part = LogPart(log, 0, "000", rules=rules, stop=stop, monotonic=time)
    assert [c.tick for c in part.next_batch()] == [True]
    return part


def records(chunks: list[Chunk]) -> list[list[bytes]]:
    return [c.records for c in chunks]


def test_after_a_quiet_moment_the_first_record_goes_at_once(
    log: FakeLog, time: Time, stop: threading.Event
) -> None:
    part = opened(log, time, stop)
    time.now += 0.5
    add(log, "a")
    assert records(part.next_batch()) == [[b"a"]]


def test_records_that_follow_closely_wait_for_company(
    log: FakeLog, time: Time, stop: threading.Event
) -> None:
    part = opened(log, time, stop)
    time.now += 0.5
    add(log, "a")
    part.next_batch()
    time.now += 0.004
    add(log, "b")
    assert part.next_batch() == []
    assert part.snapshot() == "001"
    time.now += 0.002
    assert records(part.next_batch()) == [[b"b"]]
    assert part.snapshot() == "002"


def test_a_full_batch_does_not_wait(log: FakeLog, time: Time, stop: threading.Event) -> None:
    part = opened(log, time, stop)
    time.now += 0.5
    add(log, "a", "b", "c", "d")
    assert records(part.next_batch()) == [[b"a", b"b", b"c"]]
    add(log, "e", "f")
    assert records(part.next_batch()) == [[b"d", b"e", b"f"]]


def test_chunks_grow_while_more_waits_and_are_small_again_at_the_end(
    log: FakeLog, time: Time, stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "CATCH_UP", 8)
    part = opened(log, time, stop)
    time.now += 0.5
    texts = [f"{n:03d}" for n in range(3 + 6 + 12 + 24 + 24 + 24 + 2)]
    add(log, *texts)
    sizes, read = list[int](), list[bytes]()
    while len(read) < len(texts):
        for chunk in part.next_batch():
            sizes.append(len(chunk.records))
            read += chunk.records
        time.now += 0.002
    assert sizes == [3, 6, 12, 24, 24, 24, 2]
    assert read == [text.encode() for text in texts]
    time.now += 0.5
    add(log, "a", "b", "c", "d")
    assert records(part.next_batch()) == [[b"a", b"b", b"c"]]


def test_an_idle_log_is_not_asked_all_the_time(log: FakeLog, time: Time, stop: threading.Event) -> None:
    part = opened(log, time, stop)
    asked = log.reads
    for _ in range(30):
        time.now += 0.0001
        assert part.next_batch() == []
    assert log.reads - asked <= 2


def test_ticks_come_without_records(log: FakeLog, time: Time, stop: threading.Event) -> None:
    part = opened(log, time, stop)
    time.now += 0.9
    assert part.next_batch() == []
    time.now += 0.2
    [chunk] = part.next_batch()
    assert (chunk.tick, chunk.records) == (True, [])
    assert chunk.idle_us == pytest.approx(1.1e6, abs=2)


def test_a_backlog_shows_as_time_behind(log: FakeLog, time: Time, stop: threading.Event) -> None:
    part = opened(log, time, stop)
    add(log, *"abcdefghi")
    time.now += 2
    [chunk] = part.next_batch()
    assert chunk.behind_s == 2.0
    time.now += 0.01
    part.next_batch()
    part.next_batch()
    time.now += 1
    [chunk] = part.next_batch()
    assert chunk.behind_s == 0.0


def test_a_failing_log_is_read_again_later_and_nothing_is_lost(
    log: FakeLog, time: Time, stop: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    part = opened(log, time, stop)
    add(log, "a")
    time.now += 0.5
    log.failures = 2
    assert part.next_batch() == []
    time.now += 0.1
    assert part.next_batch() == []  # still waiting
    time.now += 0.2
    assert part.next_batch() == []  # failed again
    time.now += 0.5
    assert records(part.next_batch()) == [[b"a"]]
    assert "broker gone; reading again in 0.2 s" in caplog.text


def test_damage_is_handed_on_even_without_records(log: FakeLog, time: Time, stop: threading.Event) -> None:
    part = opened(log, time, stop)
    time.now += 0.5
    log.damaged = (Damage("p0/0.seg", 5, b"x", "checksum"),)
    [chunk] = part.next_batch()
    assert [d.reason for d in chunk.damaged] == ["checksum"]


def test_stop_hands_on_what_was_read_and_ends(log: FakeLog, time: Time, stop: threading.Event) -> None:
    part = opened(log, time, stop)
    time.now += 0.001
    add(log, "a")
    part.next_batch()
    stop.set()
    time.now += 0.004
    assert [(c.tick, c.records) for c in part.next_batch()] == [(True, [b"a"])]
    assert part.snapshot() == "001"
    with pytest.raises(StopIteration):
        part.next_batch()


def test_to_end_reads_everything_then_ends(log: FakeLog, time: Time, stop: threading.Event) -> None:
    add(log, *"abcdefg")
    rules = SourceRules(3, 0.005, 1.0, to_end=True)
    part = LogPart(log, 0, "000", rules=rules, stop=stop, monotonic=time)
    found: list[bytes] = []
    for _ in range(5):
        time.now += 0.01
        found += [raw for chunk in part.next_batch() for raw in chunk.records]
        if len(found) == 7:
            break
    assert b"".join(found) == b"abcdefg"
    time.now += 0.01
    part.next_batch()
    with pytest.raises(StopIteration):
        part.next_batch()


def test_a_part_resumes_where_its_snapshot_says(log: FakeLog, time: Time, stop: threading.Event) -> None:
    add(log, *"abc")
    source = EventLogSource(log, RULES, stop, time)
    assert source.list_parts() == [part_name(0), part_name(1)] == ["0000", "0001"]
    assert records(source.build_part("step", "0001", "002").next_batch()) == [[b"c"]]
    assert records(source.build_part("step", "0001", None).next_batch()) == [[b"a", b"b", b"c"]]


@pytest.mark.parametrize(
    ("snapshot", "state", "first"),
    [("002", "001", b"b"), ("001", "002", b"b"), ("002", "", b"a"), (None, "002", b"a"), ("001", None, b"b")],
)
def test_reading_resumes_at_the_older_of_snapshot_and_state(
    log: FakeLog, time: Time, *, stop: threading.Event, snapshot: str | None, state: str | None, first: bytes
) -> None:
    """A power cut may take a shard's newest snapshot but not Bytewax's; state is never skipped ahead of."""
    add(log, *"abc")
    source = EventLogSource(log, RULES, stop, time, lambda partition: state)
    [chunk] = source.build_part("step", "0000", snapshot).next_batch()
    assert chunk.records[0] == first
    assert chunk.position == "003"


def test_a_log_that_was_replaced_is_read_from_its_start(
    log: FakeLog, time: Time, stop: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    add(log, *"ab")
    part = EventLogSource(log, RULES, stop, time).build_part("step", "0000", "007")
    assert records(part.next_batch()) == [[b"a", b"b"]]
    assert part.snapshot() == "002"
    assert "position 007 is beyond its end 002" in caplog.text
    assert "read from the start" in caplog.text


def test_retention_that_overtakes_the_reader_is_told(
    log: FakeLog, time: Time, stop: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    add(log, *"abcd")
    log.oldest = "002"
    part = EventLogSource(log, RULES, stop, time).build_part("step", "0000", "001")
    assert records(part.next_batch()) == [[b"c", b"d"]]
    assert "the log begins at 002, but the stream has read to 001 only" in caplog.text
    assert "HEADRACE_LOG_RETENTION_HOURS" in caplog.text
    caplog.clear()
    time.now += RULES.tick_s
    part.next_batch()
    assert caplog.text == ""


def test_the_first_records_of_an_empty_log_are_no_loss(
    log: FakeLog, time: Time, stop: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """A log may begin anywhere: positions of segments and of Redis are times."""
    for resumed in (None, "000"):
        part = EventLogSource(log, RULES, stop, time).build_part("step", "0000", resumed)
        part.next_batch()
        time.now += RULES.tick_s
        log.records, log.oldest = [b"-"] * 5 + [b"a"], "005"
        assert records(part.next_batch()) == [[b"a"]]
        log.records, log.oldest = [], "000"
    assert caplog.text == ""


def test_a_log_made_anew_under_a_reader_that_had_read_all_is_no_loss(
    log: FakeLog, time: Time, stop: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    part = opened(log, time, stop)
    add(log, *"ab")
    time.now += 0.5
    assert records(part.next_batch()) == [[b"a", b"b"]]
    log.records, log.oldest = [b"-"] * 50 + [b"c"], "050"
    time.now += RULES.tick_s
    assert records(part.next_batch()) == [[b"c"]]
    assert caplog.text == ""
