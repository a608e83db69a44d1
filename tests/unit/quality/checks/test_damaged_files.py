"""Files of quality that a disk or a hand has damaged: named, with what to do, whatever is in them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_repo.errors import LakeError
from feature_repo.group import FeatureGroup
from feature_repo.groups import all_groups
from orchestration.materialize.checkpoint import PREFIX, read_checkpoint
from quality.checks.figures import load_figures
from quality.checks.proposals import accepted
from quality.checks.training_set import check_training_set
from quality.drift.samples import Sampler
from quality.gate.build_gate import Gate, GateState
from quality.quarantine.store import Quarantine
from tests.conftest import NOW

GROUP: FeatureGroup = all_groups()["user_profile"]
DAMAGED = [b"", b"{", b"[]", b"\xff\xfe\x00", b'{"group": "\xff"}', b"null", b'{"group": 3}']


def gate_state(root: Path, raw: bytes) -> tuple[Path, Callable[[], Any]]:
    path = root / "gate" / "g.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(raw)
    return path, lambda: Gate(root, lambda: NOW).state("g")


def drift_figures(root: Path, raw: bytes) -> tuple[Path, Callable[[], Any]]:
    path = root / "drift" / "g.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(raw)
    return path, lambda: load_figures(root, "drift")


def accepted_bounds(root: Path, raw: bytes) -> tuple[Path, Callable[[], Any]]:
    path = root / "accepted" / f"{GROUP.view_name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(raw)
    return path, lambda: accepted(root, GROUP)


@pytest.mark.parametrize("raw", DAMAGED, ids=repr)
@pytest.mark.parametrize(
    ("file", "advice"),
    [
        (gate_state, "remove it; the next check writes it again"),
        (drift_figures, "remove it; the next run writes it again"),
        (accepted_bounds, "fix the line or remove the file"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(
    tmp_path: Path, file: Callable[..., Any], advice: str, raw: bytes
) -> None:
    path, read = file(tmp_path, raw)
    with pytest.raises(LakeError) as caught:
        read()
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert advice in message
    what = message.removeprefix(f"{path}: ").removesuffix(advice)
    assert re.search(r"malformed|truncated|[Ee]xpected|missing|decode", what), "says what was found"


@given(st.binary(max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_no_bytes_at_all_are_a_crash(tmp_path: Path, raw: bytes) -> None:
    for file in (gate_state, drift_figures, accepted_bounds):
        _, read = file(tmp_path, raw)
        with pytest.raises(LakeError):
            read()


@given(st.binary(max_size=30) | st.sampled_from(DAMAGED))
def test_arbitrary_bytes_are_not_a_checkpoint(raw: bytes) -> None:
    """Materialization then starts over: it never ends in the error of a note."""

    class Store:
        def marks(self, prefix: str) -> dict[str, bytes]:
            return {PREFIX + GROUP.view_name: raw}

    assert read_checkpoint(GROUP, Store()) is None  # type: ignore[arg-type]


def test_a_group_never_checked_has_an_empty_state(tmp_path: Path) -> None:
    assert Gate(tmp_path, lambda: NOW).state("g") == GateState("g")
    assert load_figures(tmp_path, "drift") == []
    assert accepted(tmp_path, GROUP) == ()


def test_a_quarantine_that_cannot_be_written_says_where_and_why(tmp_path: Path) -> None:
    from feature_repo.errors import ContractError

    (tmp_path / "q").write_text("a file where the folder belongs")
    held = Quarantine(tmp_path / "q", lambda: NOW)
    with pytest.raises(LakeError) as caught:
        held.put(b"{", "a.jsonl", 1, ContractError("not_json", "", "no JSON"))
    assert str(caught.value) == (
        f"quarantine {tmp_path / 'q' / 'day=2024-06-01.jsonl'}: cannot write (File exists); "
        "point HEADRACE_HOME elsewhere"
    )


def test_a_build_that_cannot_be_sampled_is_named_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    path.write_bytes(b"PAR1 cut")
    with Sampler(GROUP) as sampler, pytest.raises(LakeError) as caught:
        sampler.samples(GROUP.features, [path], 10, 10)
    message = str(caught.value)
    assert message.startswith(f"{path}: cannot be sampled (")
    assert "data.parquet" in message.split("(", 1)[1]
    assert "\n" not in message


def test_a_training_set_that_cannot_be_read_is_named_in_one_line(tmp_path: Path) -> None:
    for raw in (b"PAR1 cut", None):
        path = tmp_path / ("cut.parquet" if raw else "absent.parquet")
        if raw:
            path.write_bytes(raw)
        with pytest.raises(LakeError) as caught:
            check_training_set(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: not a readable training set (")
        assert message.endswith("); rebuild it")
        assert "\n" not in message
        assert len(message) > len(f"{path}: not a readable training set (); rebuild it")
