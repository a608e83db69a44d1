"""A batch of which only some can be written: what is said is what is there."""

from __future__ import annotations

import pytest
import redis

from feature_repo.errors import LogError
from feature_repo.home import Home
from streaming.log import EventLog, PartlyWrittenError, partition_of
from streaming.log.redis_streams import RedisLog
from streaming.log.segment_log import SegmentLog

RECORDS = [(f"k{n}", b"r%d" % n) for n in range(60)]
IN_SECOND = sum(partition_of(key, 3) == 1 for key, _ in RECORDS)


def held(log: EventLog) -> int:
    return sum(len(log.read(p, log.start(p), 1000).records) for p in (0, 2))


def test_segments(home: Home) -> None:
    log = SegmentLog(home.log / "events", partitions=3)
    log.publish([])
    (home.log / "events").mkdir(parents=True, exist_ok=True)
    (home.log / "events" / "p=0001").write_bytes(b"no folder")
    with pytest.raises(PartlyWrittenError) as caught:
        log.publish(RECORDS)
    assert (caught.value.written, caught.value.total) == (held(log), 60)
    assert f"{held(log)} of 60 records were written" in str(caught.value)
    alone = [(key, raw) for key, raw in RECORDS if partition_of(key, 3) == 1]
    with pytest.raises(LogError) as nothing:
        log.publish(alone)
    assert not isinstance(nothing.value, PartlyWrittenError)
    log.close()


def test_segments_that_were_written_but_not_forced(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    log = SegmentLog(home.log / "events", partitions=3, fsync="always")

    def fail(*_: object) -> None:
        msg = "cannot sync (Input/output error)"
        raise LogError(msg)

    monkeypatch.setattr("streaming.log.partition.Partition.force", fail)
    with pytest.raises(PartlyWrittenError) as caught:
        log.publish(RECORDS)
    assert caught.value.written == 60
    monkeypatch.undo()
    log.close()


def test_redis(redis_url: str) -> None:
    log = RedisLog(redis_url, "partly", partitions=3)
    raw = redis.Redis.from_url(redis_url)
    raw.set("headrace:log:partly:1", "no stream")
    with pytest.raises(PartlyWrittenError) as caught:
        log.publish(RECORDS)
    assert (caught.value.written, caught.value.total) == (60 - IN_SECOND, 60)
    assert held(log) == 60 - IN_SECOND
    alone = [(key, record) for key, record in RECORDS if partition_of(key, 3) == 1]
    with pytest.raises(LogError) as nothing:
        log.publish(alone)
    assert not isinstance(nothing.value, PartlyWrittenError)
    raw.delete(*[f"headrace:log:partly:{n}" for n in range(3)], "headrace:log:partly:partitions")
    raw.close()
    log.close()
