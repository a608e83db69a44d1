"""Units of an experiment: counted once across workers, limited in number, and sampled fairly."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.decisions import exposure_units as module
from serving.decisions.exposure_units import SUFFIX, Tally, Units
from serving.decisions.sample_ratio import mismatched

EVEN = {"a": 1.0, "b": 1.0}


def arm_of(number: int) -> str:
    return "ab"[number % 2]


def seeing(*numbers: range) -> Units:
    """Make a worker that saw some units."""
    units = Units("even", EVEN)
    for some in numbers:
        for number in some:
            units.see(f"u{number}", arm_of(number))
    return units


@given(st.lists(st.tuples(st.sampled_from("uvwxyz"), st.sampled_from("ab")), max_size=30))
def test_each_unit_is_counted_once_under_the_first_arm_it_was_seen_in(seen: list[tuple[str, str]]) -> None:
    units = Units("even", EVEN)
    first: dict[str, str] = {}
    for unit, arm in seen:
        units.see(unit, arm)
        first.setdefault(unit, arm)
    assert units.tally() == Tally({arm: list(first.values()).count(arm) for arm in "ab"}, 0)


def test_a_unit_of_no_arm_takes_no_ones_place() -> None:
    units = Units("even", {"a": 1.0, "none": 0.0})
    units.see("u", "retired arm")
    units.see("u", "none")
    units.see("u", "a")
    assert units.tally().counts == {"a": 1}


def test_memory_is_bounded_and_the_sample_stays_fair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNITS", 1000)
    units = Units("even", EVEN)
    for number in range(20_000):
        units.see(f"u{number}", arm_of(number))
        if number % 1000 == 999:
            assert 400 < sum(units.tally().counts.values()) <= 1000
    counts, halvings = units.tally()
    assert halvings == 5
    assert not mismatched(counts, EVEN, halvings)


def test_a_unit_that_several_workers_saw_counts_once(tmp_path: Path) -> None:
    one, two = seeing(range(100)), seeing(range(50, 150))
    assert one.tally_of_all(tmp_path).counts == {"a": 50, "b": 50}, "the other shared nothing yet"
    two.share(tmp_path)
    assert one.tally_of_all(tmp_path) == two.tally_of_all(tmp_path) == Tally({"a": 75, "b": 75}, 0)
    assert seeing().tally_of_all(tmp_path).counts == {"a": 75, "b": 75}, "one that took a dead one's place"


def test_experiments_and_their_former_weights_are_kept_apart(tmp_path: Path) -> None:
    seeing(range(10)).share(tmp_path)
    for other in (Units("odd", EVEN), Units("even", {"a": 1.0, "b": 2.0})):
        assert other.tally_of_all(tmp_path).counts == {"a": 0, "b": 0}
    assert len(list(tmp_path.iterdir())) == 1, "who saw nothing writes nothing"


def test_only_what_is_new_is_written(tmp_path: Path) -> None:
    units = seeing(range(10))
    units.share(tmp_path)
    (file,) = tmp_path.iterdir()
    first = file.stat()
    units.share(tmp_path)
    units.see("u3", "b")
    units.share(tmp_path)
    assert file.stat() == first
    units.see("new", "a")
    units.share(tmp_path)
    assert (file.stat().st_ino, file.stat().st_size) == (first.st_ino, first.st_size + 8)


steps = st.lists(
    st.tuples(st.integers(0, 2), st.one_of(st.just("share"), st.integers(0, 200))), min_size=1, max_size=150
)


@given(steps)
def test_workers_that_thin_out_at_different_times_agree(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str | int]]
) -> None:
    folder = tmp_path_factory.mktemp("units")
    seen: set[int] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_UNITS", 10)
        workers = [Units("even", EVEN) for _ in range(3)]
        for worker, step in steps:
            if isinstance(step, int):
                workers[worker].see(f"u{step}", arm_of(step))
                seen.add(step)
            else:
                workers[worker].share(folder)
        for worker in workers:
            worker.share(folder)
        found = [worker.tally_of_all(folder) for worker in workers]
        patch.setattr(module, "MAX_UNITS", 1000)
        mask = 2 ** found[0].halvings - 1
        alone = Units("even", EVEN)
        alone._kept.mask = mask
        for number in seen:
            alone.see(f"u{number}", arm_of(number))
    assert found[0] == found[1] == found[2] == alone.tally()
    assert found[0].halvings == max(worker.tally().halvings for worker in workers)


def test_what_could_not_be_written_is_written_later(tmp_path: Path) -> None:
    units = seeing(range(10))
    with pytest.raises(OSError, match="no such folder"):
        units.share(tmp_path / "no such folder")
    units.share(tmp_path)
    (file,) = tmp_path.iterdir()
    file.unlink()
    file.mkdir()  # nothing can be added to it
    units.see("more", "a")
    with pytest.raises(OSError, match=file.name):
        units.share(tmp_path)
    file.rmdir()
    assert units.tally_of_all(tmp_path).counts == {"a": 6, "b": 5}
    assert seeing().tally_of_all(tmp_path).counts == {"a": 6, "b": 5}


def test_an_entry_that_is_just_being_written_does_not_count_yet(tmp_path: Path) -> None:
    units = seeing(range(10))
    units.share(tmp_path)
    (file,) = tmp_path.glob(f"*{SUFFIX}")
    file.write_bytes(file.read_bytes()[:-3])
    assert units.tally_of_all(tmp_path).counts == {"a": 5, "b": 4}


def test_rankings_go_on_while_units_are_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNITS", 3000)
    units, done = Units("even", EVEN), threading.Event()
    failed: list[BaseException] = []

    def share() -> None:
        try:
            while not done.is_set():
                units.tally_of_all(tmp_path)
        except BaseException as error:  # a thread's failure has to reach the test
            failed.append(error)

    thread = threading.Thread(target=share)
    thread.start()
    for number in range(20_000):
        units.see(f"u{number}", arm_of(number))
    done.set()
    thread.join(30)
    assert not thread.is_alive()
    assert failed == []
    assert units.tally_of_all(tmp_path) == units.tally()
    assert units.tally().halvings == 3
