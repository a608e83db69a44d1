"""Exposed units in the metrics: of all workers and running experiments, each unit once."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serving.control.experiments import Arm, Experiment
from serving.control.flags import Flags
from serving.decisions.exposures import Exposures
from serving.decisions.sample_ratio import mismatched
from serving.monitoring.metrics import MULTIPROCESS, WORKERS_FOLDER, Metrics

EVEN = Experiment(name="even", arms={"a": Arm(), "b": Arm()})
FLAGS = Flags(experiments=[EVEN], holdout=0.0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That of several workers."""
    shared = tmp_path / WORKERS_FOLDER
    shared.mkdir()
    monkeypatch.setenv(MULTIPROCESS, str(shared))
    return shared


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker."""
    monkeypatch.delenv(MULTIPROCESS, raising=False)


def answered(user: str, arm: str = "a", flags: Flags = FLAGS, **more: Any) -> Any:
    """What is noted of an answer."""
    request = SimpleNamespace(**{"user_id": user, "session_id": None, "overrides": {}, **more})
    arms = {"holdout": "in"} if arm == "in" else {"even": arm}
    return SimpleNamespace(request=request, model=SimpleNamespace(flags=flags), completed=["arm"], arms=arms)


def worker(**users: range) -> Exposures:
    """A worker that saw users in arms."""
    made = Exposures()
    for arm, numbers in users.items():
        for number in numbers:
            made.see(answered(f"u{number}", arm))
    return made


def shown(exposures: Exposures, flags: Flags = FLAGS) -> dict[str, float]:
    """Samples about experiments in a scrape of one worker."""
    metrics = Metrics()
    exposures.show(metrics, flags)
    lines = metrics.render().decode().splitlines()
    found = [line for line in lines if re.match("headrace_(experiment_units|sample_ratio_mismatch){", line)]
    assert len(set(found)) == len(found)
    return {sample.partition("_")[2]: float(value) for sample, value in (line.split() for line in found)}


def units(a: int, b: int, mismatch: bool) -> dict[str, float]:
    return {
        'experiment_units{arm="a",experiment="even"}': a,
        'experiment_units{arm="b",experiment="even"}': b,
        'sample_ratio_mismatch{experiment="even"}': mismatch,
    }


def test_units_of_all_workers_are_shown_by_whichever_is_asked(folder: Path) -> None:
    one, two = worker(a=range(60), b=range(100, 150)), worker(a=range(40, 90), b=range(140, 160))
    two.share(Metrics())
    expected = units(90, 60, mismatch=False)
    assert shown(one) == expected
    assert shown(two) == expected
    assert shown(Exposures()) == expected, "one that has not answered yet"


def test_a_skew_that_no_worker_sees_alone_is_seen(folder: Path) -> None:
    one, two = worker(a=range(130), b=range(500, 580)), worker(a=range(200, 330), b=range(600, 680))
    assert shown(one) == units(130, 80, mismatch=False)
    two.share(Metrics())
    assert shown(one) == units(260, 160, mismatch=True)


def test_the_same_units_at_two_workers_are_no_skew(folder: Path) -> None:
    """285 of 500 happens; 570 of 1000 would not."""
    one, two = (worker(a=range(285), b=range(285, 500)) for _ in range(2))
    two.share(Metrics())
    assert shown(one) == units(285, 215, mismatch=False)
    assert mismatched({"a": 570, "b": 430}, {"a": 1.0, "b": 1.0})


def test_one_worker_shares_nothing_and_shows_its_own(
    alone: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = worker(a=range(30), b=range(40, 60))
    one.share(Metrics())
    assert shown(one) == units(30, 20, mismatch=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("alone")
def test_what_is_off_is_shown_no_more() -> None:
    one = worker(a=range(60))
    assert shown(one) == units(60, 0, mismatch=True)
    assert shown(one, Flags(holdout=0.0)) == {}


@pytest.mark.usefixtures("alone")
def test_other_arms_start_over() -> None:
    one = worker(a=range(60))
    other = Experiment(name="even", arms={"a": Arm(weight=3.0), "b": Arm()})
    flags = Flags(experiments=[other], holdout=0.0)
    assert shown(one, flags) == units(0, 0, mismatch=False)
    one.see(answered("u1", "a", flags))
    assert shown(one, flags) == units(1, 0, mismatch=False)


@pytest.mark.usefixtures("alone")
def test_a_holdout_of_everyone_is_no_mismatch() -> None:
    flags = Flags(holdout=1.0)
    one = Exposures()
    for number in range(300):
        one.see(answered(f"u{number}", "in", flags))
    assert shown(one, flags) == {
        'experiment_units{arm="in",experiment="holdout"}': 300.0,
        'sample_ratio_mismatch{experiment="holdout"}': 0.0,
    }


@pytest.mark.usefixtures("alone")
def test_what_does_not_count_is_not_counted() -> None:
    one = Exposures()
    one.see(answered("u1", overrides={"even": "a"}))
    one.see(answered(None))  # type: ignore[arg-type]
    late = answered("u2")
    late.completed = []
    one.see(late)
    assert shown(one) == units(0, 0, mismatch=False)


def test_where_the_folder_is_gone_a_worker_shows_its_own(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = worker(a=range(5), b=range(10, 15))
    folder.rename(folder.parent / "elsewhere")
    metrics = Metrics()
    one.show(metrics, FLAGS)
    assert metrics.experiments.figures["even"].units == {"a": 5, "b": 5}
    assert "exposed units are those of one worker only" in caplog.text
