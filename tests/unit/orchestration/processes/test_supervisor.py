"""What ends is started again, later each time; what is slow holds up nothing; clocks are handed in."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from orchestration.processes.children import Child, Children, ProcessError
from orchestration.processes.supervisor import Restarts, Supervisor, bound_log


class FakeChild(Child):
    """A process that ends when told so, and takes notes."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, ["true"], folder / f"{name}.log")
        self.starts = 0
        self.ended_with: int | None = None
        self.left = False
        self.signals: list[int] = []

    def start(self) -> Child:
        self.starts += 1
        self.ended_with = None
        return self

    @property
    def code(self) -> int | None:
        return self.ended_with

    def signal(self, number: int) -> None:
        self.signals.append(number)

    def gone(self) -> bool:
        return not self.left


class Scene:
    """A supervisor of three, its clock and what it said."""

    def __init__(self, folder: Path, **restarts: Any) -> None:
        self.now = 0.0
        self.said: list[tuple[str, str]] = []
        self.stop = threading.Event()
        self.crew = Supervisor(
            Children(),
            lambda name, what, ready=False: self.said.append((name, what)),
            self.stop,
            Restarts(**restarts),
            monotonic=lambda: self.now,
        )
        self.parts = {name: FakeChild(name, folder) for name in ("serving", "stream", "dagster")}
        for child in self.parts.values():
            self.crew.start(child)

    def at(self, now: float) -> None:
        self.now = now
        self.crew.tend()


def test_the_wait_doubles_up_to_its_bound() -> None:
    waits = [Restarts(first_s=1, longest_s=60).wait_s(n) for n in range(1, 9)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


def test_one_that_ends_is_started_again_and_the_others_are_left_alone(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    stream = scene.parts["stream"]
    stream.ended_with = 1
    scene.at(10)
    assert (stream.starts, scene.said[0][0]) == (1, "stream")
    assert scene.said[0][1].startswith("restarts in 1 s; stream ended with code 1; the last lines of ")
    scene.at(10.9)
    assert stream.starts == 1
    scene.at(11)
    assert stream.starts == 2
    assert scene.said[1:] == [("stream", "restarted")]
    assert [scene.parts[n].starts for n in ("serving", "dagster")] == [1, 1]
    assert scene.parts["serving"].signals == []


def test_what_is_left_of_its_group_ends_before_it_starts_again(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    dagster = scene.parts["dagster"]
    dagster.ended_with, dagster.left = -9, True
    scene.at(1)
    scene.at(3)
    assert (dagster.signals, dagster.starts) == ([15, 9], 1)
    dagster.left = False
    scene.at(3.1)
    assert dagster.starts == 2


def test_failures_in_a_row_wait_longer_until_it_ran_steadily(tmp_path: Path) -> None:
    scene = Scene(tmp_path, steady_s=100)
    stream = scene.parts["stream"]
    for wait in (1, 2, 4):
        stream.ended_with = 2
        scene.at(scene.now)
        assert scene.said[-1][1].startswith(f"restarts in {wait} s")
        scene.at(scene.now + wait)
    scene.at(scene.now + 100)
    stream.ended_with = 2
    scene.at(scene.now)
    assert scene.said[-1][1].startswith("restarts in 1 s")


def test_one_that_never_runs_is_given_up_and_all_of_them_end_it(tmp_path: Path) -> None:
    scene = Scene(tmp_path, most=2)

    def fail(name: str) -> None:
        for _ in range(2):
            scene.parts[name].ended_with = 2
            scene.at(scene.now)
            scene.at(scene.now + 60)

    fail("stream")
    assert scene.said[-1] == ("stream", scene.said[-1][1])
    assert scene.said[-1][1].startswith("given up after 2 consecutive failures; stream ended with code 2")
    assert scene.parts["stream"].starts == 2
    fail("dagster")
    with pytest.raises(ProcessError, match="ended with code 2"):
        fail("serving")


def test_a_slow_starter_is_reported_and_polled_again(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    answers = iter([False, False])

    def slow() -> bool:
        scene.now += 100
        return next(answers)

    scene.crew.wait_for("dagster", slow, lambda: pytest.fail("not ready"), 120)
    assert scene.said == [("dagster", "not ready after 120 s; it is still starting, the others keep running")]
    done = threading.Event()

    def ready() -> bool:
        scene.now += 10
        return True

    def end() -> None:
        done.set()
        scene.stop.set()

    scene.crew._pending[0].ready = ready
    scene.crew._pending[0].done = end
    scene.crew.monotonic = iter(range(0, 1000, 10)).__next__
    scene.crew.run()
    assert done.is_set()
    assert scene.crew._pending == []


def test_once_asked_to_stop_nothing_starts(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.stop.set()
    late = FakeChild("late", tmp_path)
    scene.crew.start(late)
    scene.crew.wait_for("late", lambda: pytest.fail("asked"), lambda: None, 1)
    scene.crew.run()
    assert late.starts == 0


def test_a_log_that_grows_is_set_aside_and_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("of an earlier start\n")
    child = Child("a", [sys.executable, "-c", "print('first')"], log).start()
    assert child._process is not None
    child._process.wait()
    assert (tmp_path / "a.log.1").read_text() == "of an earlier start\n"
    assert log.read_text() == "first\n"
    with log.open("ab") as writer:
        bound_log(log, 5)
        writer.write(b"second\n")
    assert log.read_bytes() == b"second\n", "no hole where the first was"
    assert (tmp_path / "a.log.1").read_text() == "first\n"
    bound_log(log, 1000)
    assert log.read_bytes() == b"second\n"
    bound_log(tmp_path / "absent.log", 1)
