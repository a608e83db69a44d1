"""Damaged recovery files do not keep the stream down: they are set aside, and the result is exact."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from bytewax.recovery import init_db_dir
from pydantic import SecretStr

from feature_repo.home import Home
from feature_repo.settings import Settings
from streaming.dataflow.log_source import EventLogSource, SourceRules
from streaming.dataflow.recovery_files import RECOVERY_PARTITIONS
from streaming.log import before, open_log
from streaming.sessions.messages import Chunk
from tests.support.stream_process import heartbeats, kill, start
from tests.support.stream_support import EVENT_LOGS, event, expected, publish, session_values, stream_to_end

EVENTS = [event(n, n * 7 % 400, f"s{n % 9}", item_id=f"i{n % 5}") for n in range(400)]
SESSIONS = [f"s{n}" for n in range(9)]


def flip(place: int) -> Callable[[Path], None]:
    def damage(recovery: Path) -> None:
        for file in recovery.glob("*.sqlite3"):
            content = bytearray(file.read_bytes())
            content[place] ^= 0x10
            file.write_bytes(bytes(content))

    return damage


def empty(recovery: Path) -> None:
    (recovery / "part-1.sqlite3").write_bytes(b"")


def cut(recovery: Path) -> None:
    file = recovery / "part-2.sqlite3"
    file.write_bytes(file.read_bytes()[:5000])


def garbage(recovery: Path) -> None:
    (recovery / "part-0.sqlite3").write_bytes(b"\xa5" * 8192)


def one_missing(recovery: Path) -> None:
    (recovery / "part-3.sqlite3").unlink()


def all_missing(recovery: Path) -> None:
    for file in recovery.iterdir():
        file.unlink()


def swapped(recovery: Path) -> None:
    one, other = recovery / "part-0.sqlite3", recovery / "part-1.sqlite3"
    aside = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(aside)


def a_position_of_another_kind(recovery: Path) -> None:
    """A flipped bit that SQLite does not notice."""
    for file in recovery.glob("*.sqlite3"):
        content = file.read_bytes()
        file.write_bytes(content.replace(b"\x8c\x140", b"\x8c\x14p"))


KINDS = [
    flip(0),
    flip(18),
    empty,
    cut,
    garbage,
    one_missing,
    all_missing,
    swapped,
    a_position_of_another_kind,
]
NAMES = ["header", "version", *(kind.__name__ for kind in KINDS[2:])]


def settings_of(request: pytest.FixtureRequest, settings: Settings, log: str) -> Settings:
    if log == "kafka":
        kafka: Settings = request.getfixturevalue("kafka_settings")
        return kafka
    changed: dict[str, object] = {"event_log": log, "log_partitions": 2}
    if log == "redis":
        changed["redis_url"] = SecretStr(request.getfixturevalue("own_redis").url)
    return settings.model_copy(update=changed)


def in_portions(settings: Settings, count: int) -> None:
    """Several runs, so that the shards' files know a position to resume from."""
    for first in range(0, count, 50):
        publish(settings, EVENTS[first : first + 50])
        stream_to_end(settings)


def check(settings: Settings, home: Home, read_before: int) -> None:
    """All is exact, the damaged files are kept, and what was read again was counted."""
    assert session_values(settings, SESSIONS) == expected(EVENTS, settings).sessions
    (aside,) = home.stream.glob("recovery-damaged-*")
    assert aside.is_dir()
    counts = [h.counts for h in heartbeats(settings)]
    read, replayed = sum(c.read for c in counts), sum(c.replayed for c in counts)
    assert read - replayed == len(EVENTS) - read_before
    assert replayed < read_before, "not from the start of the log"
    assert sum(c.folded for c in counts) == len(EVENTS) - read_before, "no event counts twice"


@pytest.mark.parametrize("damage", KINDS, ids=NAMES)
def test_every_kind_of_damage(
    damage: Callable[[Path], None], settings: Settings, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    small = settings.model_copy(update={"log_partitions": 2})
    in_portions(small, 300)
    damage(home.stream / "recovery")
    publish(small, EVENTS[300:])
    stream_to_end(small)
    check(small, home, 300)
    assert "recovery files damaged (" in caplog.text
    stream_to_end(small)  # and the new files are whole
    assert len(list(home.stream.glob("recovery-damaged-*"))) == 1


@pytest.mark.parametrize("log", EVENT_LOGS)
def test_over_every_log(log: str, request: pytest.FixtureRequest, settings: Settings, home: Home) -> None:
    chosen = settings_of(request, settings, log)
    in_portions(chosen, 300)
    one_missing(home.stream / "recovery")
    publish(chosen, EVENTS[300:])
    stream_to_end(chosen)
    check(chosen, home, 300)


@pytest.mark.parametrize("workers", [1, 2])
def test_files_that_are_whole_but_do_not_belong_together(
    workers: int, settings: Settings, home: Home, tmp_path: Path
) -> None:
    """Only Bytewax can tell, when it resumes; the stream then sets them aside and begins again by itself."""
    small = settings.model_copy(update={"log_partitions": 2})
    in_portions(small, 300)
    other = tmp_path / "other"
    other.mkdir()
    init_db_dir(other, RECOVERY_PARTITIONS)
    for number in (1, 2):
        shutil.copy(other / f"part-{number}.sqlite3", home.stream / "recovery")
    publish(small, EVENTS[300:])
    said = tmp_path / "said"
    process = start(small, "--to-end", "--workers", str(workers), said=said)
    try:
        assert process.wait(120) == 0, said.read_text()
    finally:
        kill(process)
    check(small, home, 300)
    assert "recovery files damaged" in said.read_text()
    assert "Traceback" not in said.read_text()


def test_how_many_records_lie_before_a_position() -> None:
    assert before("00000000000000000007", [3, 5, 7, 9]) == 2
    assert before("00000000000000000010-00000000000000000002", [b"9-5", b"10-2", b"10-10"]) == 2
    assert before("anything", []) == 0


def test_reading_begins_where_the_store_is_sure_to_be_and_repeats_are_counted(
    settings: Settings, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    publish(settings.model_copy(update={"log_partitions": 1}), EVENTS[:50])
    log = open_log(settings.model_copy(update={"log_partitions": 1}), home)
    at = [log.read(0, log.start(0), n).position for n in range(51)]
    stop = threading.Event()
    source = EventLogSource(
        log,
        SourceRules(7, 0.0, 1000.0, to_end=True),
        stop,
        time.monotonic,
        state_position=lambda partition: at[30],
        resume_position=lambda partition: at[10],
        from_state=lambda: True,
    )
    for snapshot, replayed in ((None, 20), (at[20], 10), (at[2], 20), (at[50], 0), ("garbage", 0), ("", 20)):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            part = source.build_part("log", "0000", snapshot)
            chunks: list[Chunk] = []
            with suppress(StopIteration):
                while True:
                    chunks += part.next_batch()
        assert sum(chunk.replayed for chunk in chunks) == replayed, snapshot
        assert sum(len(chunk.records) for chunk in chunks) == 20 + replayed
        told = f"partition 0: {replayed} records read again that its state holds"
        assert (told in caplog.text) == bool(replayed)
    log.close()
