"""Files that change under a running server: swapped whole, the last good one kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from feature_repo.clock import wall_clock
from serving.control.reloading import Watched, Watcher, stamp_of
from serving.control.rule_store import RuleStore


def watched(path: Path, failures: list[str]) -> Watched[int | None]:
    def load() -> int | None:
        return int(path.read_text()) if path.exists() else None

    return Watched("number", lambda: stamp_of(path), load, None, failures.append)


def write(path: Path, text: str) -> None:
    aside = path.with_suffix(".tmp")
    aside.write_text(text)
    aside.replace(path)


def test_a_change_is_loaded_once(tmp_path: Path) -> None:
    path, failures = tmp_path / "n", list[str]()
    value = watched(path, failures)
    assert value.refresh()
    assert value.value is None
    write(path, "1")
    assert value.refresh()
    assert value.value == 1
    assert not value.refresh()
    write(path, "2")
    assert value.refresh()
    assert (value.value, failures) == (2, [])


def test_a_file_that_cannot_be_read_leaves_the_last_good_value(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, failures = tmp_path / "n", list[str]()
    value = watched(path, failures)
    write(path, "1")
    value.refresh()
    write(path, "one")
    assert not value.refresh()
    assert (value.value, failures) == (1, ["number"])
    assert "the last good one stays" in caplog.text
    assert not value.refresh()
    assert failures == ["number"], "the same broken file is reported once"
    write(path, "3")
    value.refresh()
    assert value.value == 3


def of_kept(path: Path, kept: Callable[[], int | None]) -> tuple[Watched[int | None], list[str]]:
    failures = list[str]()
    load = lambda: int(path.read_text())  # noqa: E731
    return Watched("n", lambda: stamp_of(path), load, 0, failures.append, last_good=kept), failures


def test_a_start_on_a_broken_file_takes_what_stood_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, asked = tmp_path / "n", list[int]()
    path.write_text("seven")

    def kept() -> int:
        asked.append(6)
        return 6

    value, failures = of_kept(path, kept)
    assert value.refresh(), "swapped"
    assert (value.value, failures) == (6, ["n"]), "it serves, and the alert rises all the same"
    assert "n cannot be loaded; the last good one stays: " in caplog.text
    write(path, "7")
    assert value.refresh()
    write(path, "eight")
    assert not value.refresh()
    assert (value.value, asked, failures) == (7, [6], ["n", "n"]), "what was loaded here is newer"


@pytest.mark.parametrize("reading", ["nothing", "a failure"])
def test_a_start_on_a_broken_file_where_nothing_good_is_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, reading: str
) -> None:
    path = tmp_path / "n"
    path.write_text("seven")

    def kept() -> int | None:
        if reading == "nothing":
            return None
        raise OSError(5, "Input/output error")

    value, failures = of_kept(path, kept)
    assert not value.refresh()
    assert (value.value, failures) == (0, ["n"])
    assert "n cannot be loaded; no good one is known, so none is held: " in caplog.text
    assert "the last good one stays" not in caplog.text, "there is none"
    assert ("before this start cannot be read ([Errno 5]" in caplog.text) == (reading == "a failure")


def test_a_watcher_goes_on_after_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()
    calls = []

    def refresh() -> None:
        calls.append(1)
        if len(calls) == 1:
            msg = "once"
            raise OSError(msg)
        done.set()

    watcher = Watcher([refresh], 0.005, "test")
    watcher.start()
    assert done.wait(5)
    watcher.stop()
    assert "trying again" in caplog.text
    before = len(calls)
    watcher.stop()
    assert len(calls) == before


def test_a_watcher_that_never_started_stops_and_never_begins() -> None:
    calls: list[int] = []
    watcher = Watcher([lambda: calls.append(1)], 0.0, "idle")
    watcher.stop()
    watcher.start()
    watcher.stop()
    assert calls == []
    assert not [thread for thread in threading.enumerate() if thread.name == "watch-idle"]


def test_a_stamp_tells_missing_from_present(tmp_path: Path) -> None:
    path = tmp_path / "x"
    missing = stamp_of(path)
    path.touch()
    assert stamp_of(path) != missing


def test_what_we_say_ourselves_is_one_line_and_a_defect_has_its_trace(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "rules.json").write_text("{")
    load_broken = Watched("rules", lambda: 1, RuleStore(tmp_path, wall_clock).load, None)
    assert not load_broken.refresh()
    assert "rules.json: rules: not valid JSON" in caplog.text
    assert "Traceback" not in caplog.text
    assert not watched_defect().refresh()
    assert "ZeroDivisionError" in caplog.text


def watched_defect() -> Watched[float | None]:
    return Watched("number", lambda: 1, lambda: 1 / 0, None)
