"""The segment log: what is its own beside the contract of all logs (integration, `test_logs.py`)."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.errors import LogError
from streaming.log import Batch, PositionLostError, partition_of
from streaming.log.partition import Partition
from streaming.log.segment_frames import HEADER_BYTES, frame
from streaming.log.segment_log import SegmentLog


def everything(partition: Partition, limit: int = 1000) -> Batch:
    position, records, damaged = partition.start(), [], []
    while True:
        batch = partition.read(position, limit)
        records += batch.records
        damaged += batch.damaged
        if batch.position == position:
            return Batch(records, position, tuple(damaged))
        position = batch.position


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.seg"))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=5), max_size=12),
    st.integers(60, 400),
    st.integers(1, 7),
)
def test_it_reads_what_a_list_would_hold(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[bytes]], size: int, limit: int
) -> None:
    partition = Partition(tmp_path_factory.mktemp("p"), size)
    oracle: list[bytes] = []
    for batch in batches:
        partition.append(batch)
        oracle += batch
    read = everything(partition, limit)
    assert read.records == oracle
    assert read.position == partition.end()
    partition.close()


def test_positions_are_of_one_width_and_ascend_across_segments(tmp_path: Path) -> None:
    partition = Partition(tmp_path, segment_bytes=64)
    positions = []
    for n in range(30):
        partition.append([b"record %d" % n])
        positions.append(partition.end())
    assert len(segments(tmp_path)) > 3
    assert positions == sorted(set(positions))
    assert {len(p) for p in positions} == {20}


def test_a_reader_sees_another_process_s_records_and_its_new_segments(tmp_path: Path) -> None:
    writer, reader = Partition(tmp_path, 64), Partition(tmp_path, 64)
    position = reader.start()
    for n in range(40):
        writer.append([b"record %d" % n])
        batch = reader.read(position, 10)
        assert batch.records == [b"record %d" % n]
        position = batch.position
    assert reader.read(position, 10) == Batch([], position)


def test_two_writers_take_turns(tmp_path: Path) -> None:
    one, two = Partition(tmp_path, 100), Partition(tmp_path, 100)
    for n in range(20):
        (one if n % 2 else two).append([b"%d" % n])
    assert everything(one).records == [b"%d" % n for n in range(20)]


def test_a_torn_tail_is_cut_off_by_the_next_writer(tmp_path: Path) -> None:
    first = Partition(tmp_path, 1 << 20)
    first.append([b"whole"])
    first.close()
    (segment,) = segments(tmp_path)
    torn = frame([b"never acknowledged"])[:-4]
    with segment.open("ab") as file:
        file.write(torn)

    reader = Partition(tmp_path, 1 << 20)
    assert everything(reader).records == [b"whole"]  # it waits before the torn record
    writer = Partition(tmp_path, 1 << 20)
    writer.append([b"next"])
    read = everything(reader)
    assert (read.records, read.damaged) == ([b"whole", b"next"], ())
    assert segment.read_bytes() == frame([b"whole", b"next"])


def test_a_writer_that_is_open_already_cuts_off_what_another_left_torn(tmp_path: Path) -> None:
    writer = Partition(tmp_path, 1 << 20)
    writer.append([b"one"])
    with segments(tmp_path)[0].open("ab") as file:
        file.write(frame([b"by another"]) + frame([b"torn"])[:5])
    writer.append([b"two"])
    assert everything(writer).records == [b"one", b"by another", b"two"]


def test_zeros_after_a_power_cut_are_cut_off(tmp_path: Path) -> None:
    Partition(tmp_path, 1 << 20).append([b"whole"])
    with segments(tmp_path)[0].open("ab") as file:
        file.write(bytes(64))
    writer = Partition(tmp_path, 1 << 20)
    writer.append([b"next"])
    assert everything(writer).records == [b"whole", b"next"]


def test_a_flipped_byte_is_reported_with_file_and_offset_and_the_rest_is_read(tmp_path: Path) -> None:
    partition = Partition(tmp_path, 1 << 20)
    partition.append([b"first", b"second", b"third"])
    (segment,) = segments(tmp_path)
    offset = len(frame([b"first"]))
    content = bytearray(segment.read_bytes())
    content[offset + HEADER_BYTES] ^= 0x20
    segment.write_bytes(bytes(content))

    read = everything(Partition(tmp_path, 1 << 20))
    assert read.records == [b"first", b"third"]
    (damage,) = read.damaged
    assert (damage.source, damage.offset, damage.reason) == (str(segment), offset, "checksum does not match")
    assert damage.raw[HEADER_BYTES:] == b"Second"


def test_a_segment_cut_in_the_middle_of_a_record_is_reported_and_the_next_segment_is_read(
    tmp_path: Path,
) -> None:
    partition = Partition(tmp_path, segment_bytes=40)
    partition.append([b"first", b"second"])
    partition.append([b"third"])
    old, new = segments(tmp_path)
    os.truncate(old, old.stat().st_size - 3)

    read = everything(Partition(tmp_path, 40))
    assert read.records == [b"first", b"third"]
    (damage,) = read.damaged
    assert (damage.source, damage.reason) == (str(old), "record cut short")
    assert damage.raw[HEADER_BYTES:] == b"sec"
    assert new.exists()


def test_a_record_larger_than_a_read_is_read(tmp_path: Path) -> None:
    partition = Partition(tmp_path, 1 << 20)
    large = os.urandom(3 << 20)
    partition.append([b"small", large, b"after"])
    assert everything(partition).records == [b"small", large, b"after"]


def test_a_record_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    partition = Partition(tmp_path, 1 << 20)
    with pytest.raises(LogError, match=r"a record of 16777217 bytes; at most 16777216"):
        partition.append([bytes((16 << 20) + 1)])


def test_trim_removes_old_segments_and_a_reader_behind_goes_on_from_the_oldest(tmp_path: Path) -> None:
    partition = Partition(tmp_path, segment_bytes=40)
    start = partition.start()
    for n in range(6):
        partition.append([b"record number %d" % n])
    old = segments(tmp_path)[:3]
    for path in old:
        os.utime(path, (time.time() - 7200,) * 2)
    assert partition.trim(timedelta(hours=1)) == 3
    assert not any(p.exists() for p in old)
    assert partition.start() > start
    read = partition.read(start, 100)
    assert read.records == [b"record number %d" % n for n in range(3, 6)]


def test_trim_of_everything_keeps_positions_ascending(tmp_path: Path) -> None:
    partition = Partition(tmp_path, 1 << 20)
    partition.append([b"old"])
    end = partition.end()
    os.utime(segments(tmp_path)[0], (time.time() - 7200,) * 2)
    assert partition.trim(timedelta(hours=1)) == 1
    assert (partition.start(), partition.end()) == (end, end)
    partition.append([b"new"])
    assert partition.read(end, 10).records == [b"new"]


def test_a_full_disk_is_a_clear_error_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition = Partition(tmp_path, 1 << 20)
    partition.append([b"acknowledged"])
    real = os.pwrite

    def full(fd: int, data: bytes, offset: int) -> int:
        real(fd, bytes(data)[:7], offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(LogError, match=r"cannot write; disk full: free space, or point HEADRACE_HOME"):
        partition.append([b"refused"])
    monkeypatch.undo()
    assert segments(tmp_path)[0].read_bytes() == frame([b"acknowledged"])
    partition.append([b"later"])
    assert everything(partition).records == [b"acknowledged", b"later"]


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    log = SegmentLog(tmp_path / "file" / "log", 2)
    with pytest.raises(LogError, match=r"event log .*: cannot write; Not a directory; point HEADRACE_HOME"):
        log.publish([("k", b"v")])


def test_the_number_of_partitions_is_fixed(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path, 2)
    log.publish([("k", b"v")])
    log.close()
    with pytest.raises(LogError, match=r"has 2 partitions; HEADRACE_LOG_PARTITIONS=3 does not fit"):
        SegmentLog(tmp_path, 3)


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_a_damaged_log_json_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "log.json").write_text(content)
    with pytest.raises(LogError, match=r"log\.json: unreadable .*as many as the log was made with"):
        SegmentLog(tmp_path, 2)


def test_a_full_disk_leaves_the_whole_records_a_reader_may_have_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = Partition(tmp_path, 1 << 20), Partition(tmp_path, 1 << 20)
    real = os.pwrite

    def full(fd: int, data: bytes, offset: int) -> int:
        real(fd, bytes(data)[: len(frame([b"one"])) + 5], offset)
        assert reader.read(reader.start(), 10).records == [b"one"]
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(LogError, match="disk full"):
        writer.append([b"one", b"two"])
    monkeypatch.undo()
    writer.append([b"one", b"two"])  # the publisher tries again; readers drop what repeats
    assert everything(reader).records == [b"one", b"one", b"two"]


def test_a_failing_disk_in_the_background_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    log = SegmentLog(tmp_path, 1, "interval")
    log.publish([("k", b"v")])
    log._force_all()
    assert "cannot sync; Input/output error" in caplog.text
    with pytest.raises(LogError, match="cannot sync; Input/output error"):
        log.close()
    monkeypatch.undo()
    log.close()


def test_a_log_that_was_deleted_is_noticed_by_a_reader_ahead_of_it(tmp_path: Path) -> None:
    partition = Partition(tmp_path, 1 << 20)
    partition.append([b"record"] * 10)
    end = partition.end()
    partition.close()
    segments(tmp_path)[0].unlink()
    with pytest.raises(
        PositionLostError, match=rf"position {end} is beyond its end 0{{20}}; the log was replaced"
    ):
        Partition(tmp_path, 1 << 20).read(end, 1)
    again = Partition(tmp_path, 1 << 20)
    again.append([b"new"] * 100)  # longer than the one before: the old position lies within its length
    assert again.start() > end
    assert again.read(end, 1000).records == [b"new"] * 100


def test_after_a_power_cut_new_records_are_beyond_every_position(tmp_path: Path) -> None:
    """The file system lost the tail; a reader had seen it, and no writer may use its offsets again."""
    before = Partition(tmp_path, 1 << 20, boot=lambda: b"first")
    before.append([b"a", b"b", b"c"])
    position = before.end()
    before.close()
    with segments(tmp_path)[0].open("r+b") as file:
        file.truncate(len(frame([b"a"])) + 5)
    after = Partition(tmp_path, 1 << 20, boot=lambda: b"second")
    after.append([b"d"] * 50)
    assert after.start() < position < after.end()
    read = after.read(position, 1000)
    assert (read.records, read.damaged) == ([b"d"] * 50, ())
    assert after.read(after.start(), 1000).records == [b"a"] + [b"d"] * 50
    after.append([b"e"])
    assert len(segments(tmp_path)) == 2
    again = Partition(tmp_path, 1 << 20, boot=lambda: b"second")
    again.append([b"f"])
    assert len(segments(tmp_path)) == 2
    assert again.read(read.position, 10).records == [b"e", b"f"]


def test_a_full_disk_after_a_power_cut_does_not_make_it_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Partition(tmp_path, 1 << 20, boot=lambda: b"first")
    before.append([b"a"] * 3)
    position = before.end()
    os.truncate(segments(tmp_path)[0], len(frame([b"a"])))

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    after = Partition(tmp_path, 1 << 20, boot=lambda: b"second")
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(LogError, match="disk full"):
        after.append([b"b"])
    monkeypatch.undo()
    after.append([b"b"] * 9)
    assert after.read(position, 100).records == [b"b"] * 9


def test_where_the_system_does_not_tell_its_boots_segments_go_on(tmp_path: Path) -> None:
    for n in range(3):
        partition = Partition(tmp_path, 1 << 20, boot=lambda: b"")
        partition.append([b"%d" % n])
        partition.close()
    assert len(segments(tmp_path)) == 1


def test_a_log_deleted_under_writers_and_readers_goes_on_in_the_new_one(tmp_path: Path) -> None:
    """Two writers with old handles and one that comes new: all hold one lock, nothing lands in the void."""
    folder = tmp_path / "log"
    logs = [SegmentLog(folder, 1, "always") for _ in range(3)]
    for n, log in enumerate(logs[:2]):
        log.publish([("k", b"old %d" % n)])
    position = logs[0].read(0, logs[0].start(0), 10).position
    shutil.rmtree(folder)
    wanted = []
    for n, log in enumerate([logs[2], *logs]):
        log.publish([("k", b"new %d" % n)])
        wanted.append(b"new %d" % n)
    assert json.loads((folder / "log.json").read_text()) == {"partitions": 1}
    assert logs[0].read(0, position, 10).records == wanted
    assert logs[1].read(0, logs[1].start(0), 10).records == wanted
    for log in logs:
        log.close()


def test_a_missing_log_json_is_named(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path, 2)
    log.publish([("k", b"v")])
    log.close()
    (tmp_path / "log.json").unlink()
    with pytest.raises(LogError, match=r'log\.json: missing, .* it should hold \{"partitions": 2\}'):
        SegmentLog(tmp_path, 2)
    (tmp_path / "log.json").write_text("")  # as a power cut leaves a file that was not forced to the disk
    with pytest.raises(LogError, match=r'log\.json: unreadable .* it should hold \{"partitions": 2\}'):
        SegmentLog(tmp_path, 2)


def test_what_a_log_is_made_of_is_on_the_disk_before_its_first_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    real_sync, real_write = os.fsync, os.pwrite

    def sync(fd: int) -> None:
        steps.append(str(Path(os.readlink(f"/proc/self/fd/{fd}")).relative_to(tmp_path)))
        real_sync(fd)

    def write(fd: int, data: bytes, offset: int) -> int:
        steps.append("written")
        return real_write(fd, data, offset)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "pwrite", write)
    log = SegmentLog(tmp_path / "log" / "events", 1)
    log.publish([("k", b"v")])
    log.close()
    *made, folder, record = steps
    made = [re.sub(r"json\..*\.tmp$", "json.tmp", step) for step in made]
    assert made == [".", "log", "log/events/.log.json.tmp", "log/events", "log/events"]
    assert (folder, record) == ("log/events/p=0000", "written")


def test_a_foreign_position_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="'1-0' is not a position of a segment log"):
        Partition(tmp_path, 100).read("1-0", 1)


@pytest.mark.parametrize(("policy", "forced"), [("always", True), ("never", False)])
def test_the_fsync_policy_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, forced: bool
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(os, "fdatasync", calls.append)
    log = SegmentLog(tmp_path, 1, policy)  # type: ignore[arg-type]
    log.publish([("k", b"v")])
    assert bool(calls) is forced
    log.close()


def test_interval_forces_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(os, "fdatasync", calls.append)
    monkeypatch.setattr("streaming.log.segment_log.FSYNC_EVERY_S", 0.01)
    log = SegmentLog(tmp_path, 1, "interval")
    log.publish([("k", b"v")])
    deadline = time.monotonic() + 10
    while not calls and time.monotonic() < deadline:
        time.sleep(0.005)
    assert calls
    log.close()


def test_a_partition_is_a_function_of_the_key_alone() -> None:
    # Written out: a log on disk outlives the process, so another one must find the same.
    assert [partition_of(k, 4) for k in ("a", "b", "s1", "é")] == [3, 3, 1, 0]
    assert {partition_of(f"s{n}", 4) for n in range(100)} == {0, 1, 2, 3}
