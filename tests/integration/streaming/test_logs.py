"""The contract of every event log; each implementation passes the same tests."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from feature_repo.errors import LogError
from feature_repo.home import Home
from feature_repo.settings import Settings
from streaming.log import EventLog, open_log, partition_of
from tests.support.stream_support import EVENT_LOGS

Open = Callable[[], EventLog]


@pytest.fixture(params=EVENT_LOGS)
def log_settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    changed: dict[str, object] = {"event_log": request.param, "log_partitions": 3}
    if request.param == "redis":
        changed["redis_url"] = SecretStr(request.getfixturevalue("redis_url"))
    elif request.param == "kafka":
        settings = request.getfixturevalue("kafka_settings")
    return settings.model_copy(update=changed)


@pytest.fixture
def reopen(log_settings: Settings, home: Home) -> Iterator[Open]:
    opened: list[EventLog] = []

    def opener() -> EventLog:
        opened.append(open_log(log_settings, home))
        return opened[-1]

    yield opener
    for log in opened:
        log.close()


@pytest.fixture
def log(reopen: Open) -> EventLog:
    return reopen()


def read_all(log: EventLog, partition: int, position: str | None = None, limit: int = 7) -> list[bytes]:
    at, found = position or log.start(partition), []
    while (batch := log.read(partition, at, limit)).position != at:
        found += batch.records
        at = batch.position
    return found


def test_a_new_log_is_empty(log: EventLog) -> None:
    assert log.partitions == 3
    for partition in range(3):
        batch = log.read(partition, log.start(partition), 10)
        assert (batch.records, batch.damaged) == ([], ())
        assert log.start(partition) == log.end(partition)


def test_records_of_a_key_come_back_in_order_in_one_partition(log: EventLog) -> None:
    records = [(f"s{n % 5}", b"%d" % n) for n in range(100)]
    log.publish(records[:60])
    log.publish(records[60:])
    found = {p: read_all(log, p) for p in range(3)}
    for partition, values in found.items():
        assert values == [v for k, v in records if partition_of(k, 3) == partition]
    assert sum(map(len, found.values())) == 100


def test_reading_goes_on_from_a_position(log: EventLog) -> None:
    log.publish([("k", b"%d" % n) for n in range(10)])
    partition = partition_of("k", 3)
    first = log.read(partition, log.start(partition), 4)
    assert first.records == [b"0", b"1", b"2", b"3"]
    again = log.read(partition, first.position, 100)
    assert again.records == [b"%d" % n for n in range(4, 10)]
    assert log.read(partition, first.position, 100) == again
    assert again.position == log.end(partition)
    assert log.read(partition, again.position, 100).records == []


def test_positions_compare_in_log_order(log: EventLog) -> None:
    partition = partition_of("k", 3)
    positions = [log.start(partition)]
    for n in range(12):
        log.publish([("k", b"%d" % n)])
        positions.append(log.end(partition))
    assert positions == sorted(set(positions))
    for n, position in enumerate(positions[:-1]):
        assert log.read(partition, position, 1).records == [b"%d" % n]


def test_what_was_published_survives_reopening(log: EventLog, reopen: Open) -> None:
    log.publish([("k", b"1")])
    partition = partition_of("k", 3)
    end = log.end(partition)
    log.close()
    other = reopen()
    assert read_all(other, partition) == [b"1"]
    assert other.end(partition) == end
    other.publish([("k", b"2")])
    assert read_all(other, partition, end) == [b"2"]


def test_a_reader_opened_before_sees_what_comes_after(log: EventLog, reopen: Open) -> None:
    reader = reopen()
    partition = partition_of("k", 3)
    at = reader.end(partition)
    for n in range(5):
        log.publish([("k", b"%d" % n)])
        assert read_all(reader, partition, at) == [b"%d" % n]
        at = reader.end(partition)


def test_the_number_of_partitions_is_fixed(log: EventLog, log_settings: Settings, home: Home) -> None:
    log.publish([("k", b"1")])
    with pytest.raises(LogError, match=r"has 3 partitions; HEADRACE_LOG_PARTITIONS=5 does not fit"):
        open_log(log_settings.model_copy(update={"log_partitions": 5}), home)


def test_topics_are_separate_logs(log: EventLog, log_settings: Settings, home: Home) -> None:
    log.publish([("k", b"1")])
    other = open_log(log_settings, home, "other")
    partition = partition_of("k", 3)
    assert other.start(partition) == other.end(partition)
    other.publish([("k", b"2")])
    assert read_all(other, partition) == [b"2"]
    assert read_all(log, partition) == [b"1"]
    other.close()


def test_a_position_of_another_sort_is_refused(log: EventLog) -> None:
    with pytest.raises(LogError, match="'here' is not a position of a"):
        log.read(0, "here", 1)


def test_trim_removes_what_is_old_and_a_reader_behind_goes_on(log: EventLog) -> None:
    partition = partition_of("k", 3)
    first = log.start(partition)
    log.publish([("k", b"%d" % n) for n in range(10)])
    end = log.end(partition)
    assert log.trim(timedelta(hours=1)) == 0
    assert len(read_all(log, partition, first)) == 10
    deadline = time.monotonic() + 20
    while log.start(partition) != end and time.monotonic() < deadline:
        log.trim(timedelta(0))
    assert (log.start(partition), log.end(partition)) == (end, end)
    log.publish([("k", b"new")])
    assert read_all(log, partition, first) == [b"new"]
    assert read_all(log, partition, end) == [b"new"]


def test_nothing_published_is_nothing(log: EventLog) -> None:
    log.publish([])
    assert all(log.start(p) == log.end(p) for p in range(3))


def _publish(settings: Settings, root: Path, writer: int) -> None:
    log = open_log(settings, Home(root))
    for n in range(20):
        log.publish([(f"w{writer}", b"%d:%d:%d" % (writer, n, m)) for m in range(5)])
    log.close()


def test_many_processes_write_at_once(log: EventLog, log_settings: Settings, home: Home) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_publish, args=(log_settings, home.root, w)) for w in range(3)]
    for process in writers:
        process.start()
    for process in writers:
        process.join(120)
        assert process.exitcode == 0
    found = [value for p in range(3) for value in read_all(log, p, limit=1000)]
    assert len(found) == 300
    for writer in range(3):
        of_writer = [v for v in found if v.startswith(b"%d:" % writer)]
        assert of_writer == [b"%d:%d:%d" % (writer, n, m) for n in range(20) for m in range(5)]
