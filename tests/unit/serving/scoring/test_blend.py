"""The blend: contributions and files, which are never read partially."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from feature_repo.errors import BuildError
from serving.scoring.blend import (
    Blend,
    Gate,
    centred_signals,
    current_path,
    grouped,
    load_blend,
    save_blend,
)
from serving.scoring.contributions import CLIP, contributed
from serving.scoring.signal_groups import GROUPS
from serving.scoring.signal_matrix import SignalMatrix
from serving.scoring.signals import group_of
from tests.oracles.blend_oracle import standardize
from tests.support.blends import simple_blend

NAMES = ("base", "log_ctr", "log_odds:genre", "covisit")
GATE = Gate(passed=True, reason="above")


def blend(weights: tuple[float, ...] = (1.0, 0.5, -0.2, 2.0), version: str = "v1") -> Blend:
    return Blend(
        version=version, kind="fitted", names=NAMES, scales=(0.5, 1.0, 2.0, 0.1), weights=weights, gate=GATE
    )


matrices = hnp.arrays(
    np.float64,
    st.tuples(st.integers(0, 12), st.just(4)),
    elements=st.one_of(st.floats(-50, 50), st.just(float("nan"))),
)


@given(matrices)
def test_contributions_sum_to_the_score_and_are_finite(values: np.ndarray) -> None:
    values[:, 0] = np.nan_to_num(values[:, 0])
    matrix = SignalMatrix(NAMES, values)
    found, sums = blend().contributions(matrix)
    assert found.shape == values.shape
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), sums, atol=1e-12)
    assert blend().scores(matrix).tolist() == sums.tolist()
    by_group = grouped(NAMES, found)
    assert set(by_group) == set(GROUPS)
    np.testing.assert_allclose(sum(by_group.values()), found.sum(axis=1), atol=1e-9)
    assert (np.abs(found) <= CLIP * np.abs(blend().weights) + 1e-12).all()


@given(matrices)
def test_what_is_unknown_adds_nothing(values: np.ndarray) -> None:
    found, _ = blend().contributions(SignalMatrix(NAMES, values))
    assert (found[np.isnan(values)] == 0).all()


@given(hnp.arrays(np.float64, (5, 4), elements=st.floats(-3, 3)), st.floats(-5, 5))
def test_a_signal_equal_for_all_changes_nothing(values: np.ndarray, shift: float) -> None:
    moved = values.copy()
    moved[:, 1:] += shift
    before, after = (blend().contributions(SignalMatrix(NAMES, v))[0] for v in (values, moved))
    np.testing.assert_allclose(before, after, atol=1e-9)


def test_contributions_by_hand() -> None:
    values = np.array([[2.0, 1.0], [np.nan, 3.0], [100.0, 5.0]])
    scales, weights, centred = np.array([1.0, 2.0]), np.array([1.0, 3.0]), np.array([False, True])
    columns = np.array([0, 1])
    found, sums = contributed(values, columns, scales, weights, centred, True)
    none, same = contributed(values, columns, scales, weights, centred, False)
    assert (none.shape, same.tolist()) == ((0, 2), sums.tolist())
    assert found.tolist() == [[2.0, -3.0], [0.0, 0.0], [CLIP, 3.0]]
    assert sums.tolist() == [-1.0, 0.0, CLIP + 3.0]


@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.sampled_from([0, 1, 2, 7, 100, 2000]), st.just(4)),
        elements=st.one_of(st.floats(-50, 50), st.just(float("nan"))),
        fill=st.one_of(st.floats(-50, 50), st.just(float("nan"))),
    ),
    st.tuples(*[st.sampled_from([0.0, 1.3, -0.2])] * 4),
    st.dictionaries(st.sampled_from(GROUPS), st.floats(0, 2)),
)
def test_contributions_are_the_plain_formula(
    values: np.ndarray, weights: tuple[float, ...], factors: dict[str, float]
) -> None:
    by_group = np.array([factors.get(group_of(name), 1.0) for name in NAMES])
    scaled = standardize(values, np.array(blend().scales), centred_signals(NAMES))
    wanted = scaled * np.array(weights) * by_group
    found, sums = blend(weights).contributions(SignalMatrix(NAMES, values), tuple(factors.items()))
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(sums, wanted.sum(axis=1), rtol=1e-12, atol=1e-12)
    assert not np.signbit(found[found == 0]).any()
    assert sums.tolist() == [sum(row) for row in found.tolist()]  # from left to right, to the last bit


def test_columns_go_by_name_and_strange_ones_add_nothing() -> None:
    values = np.array([[0.0, 9.0, 1.0], [1.0, 5.0, 3.0]])
    found, _ = blend().contributions(SignalMatrix(("base", "touched", "log_ctr"), values))
    assert found[:, 0].tolist() == [0.0, 2.0]
    assert found[:, 1].tolist() == [-0.5, 0.5]
    assert (found[:, 2:] == 0).all()


def test_the_base_blend_is_the_base_order_and_popularity_breaks_ties_by_it() -> None:
    values = np.array([[1.0, -3.0], [0.5, -1.0], [0.0, -1.0]])
    matrix = SignalMatrix(("base", "log_ctr"), values)
    refused = Gate(passed=False, reason="no gain")
    base = simple_blend("base", refused, "v")
    assert base.scores(matrix).tolist() == [1.0, 0.5, 0.0]
    assert not base.gate.passed
    popular = simple_blend("popularity", refused, "v").scores(matrix)
    assert np.argsort(-popular).tolist() == [1, 2, 0]


def test_a_saved_blend_is_read_back_and_becomes_current(tmp_path: Path) -> None:
    models = tmp_path / "models"
    assert load_blend(models) is None
    save_blend(models, blend())
    first = current_path(models).read_text()
    save_blend(models, blend((0.0, 0.0, 0.0, 1.0), "v2"))
    assert current_path(models).read_text() != first
    found = load_blend(models)
    assert found is not None
    assert (found.version, found.weights, found.gate) == ("v2", (0.0, 0.0, 0.0, 1.0), GATE)
    assert sorted(p.name for p in models.iterdir()) == ["CURRENT", "blend-v1.json", "blend-v2.json"]
    figures = json.loads((models / "blend-v2.json").read_text())
    assert figures["gate"]["passed"] is True


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"version": 3}'], ids=["empty", "cut", "array", "wrong type"]
)
def test_a_malformed_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = save_blend(tmp_path, blend())
    path.write_bytes(content)
    with pytest.raises(BuildError, match=r"blend-v1\.json: not a readable blend .* fit again"):
        load_blend(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    save_blend(tmp_path, blend()).unlink()
    with pytest.raises(BuildError, match=r"blend-v1\.json: not a readable blend"):
        load_blend(tmp_path)


@pytest.mark.parametrize(("field", "value"), [("weights", [1.0]), ("scales", [0.0, 1.0, 1.0, 1.0])])
def test_weights_that_do_not_pair_up_are_refused(tmp_path: Path, field: str, value: list[float]) -> None:
    path = save_blend(tmp_path, blend())
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(BuildError, match="must pair up; fit again"):
        load_blend(tmp_path)


def test_an_unwritable_folder_is_named_and_the_last_blend_stays(tmp_path: Path) -> None:
    blocked = tmp_path / "models"
    blocked.write_text("a file, not a folder")
    with pytest.raises(BuildError, match=r"models/blend-v1\.json: cannot be written .* keeps serving"):
        save_blend(blocked, blend())


def test_blends_are_compared_by_identity_so_that_they_can_be_cached() -> None:
    assert blend() != blend()
    assert not dataclasses.is_dataclass(blend())


def test_a_reader_sees_whole_blends_while_one_writes(tmp_path: Path) -> None:
    save_blend(tmp_path, blend(version="v0"))
    stop = threading.Event()
    failures: list[Exception] = []
    seen: set[str] = set()

    def read() -> None:
        while not stop.is_set():
            try:
                found = load_blend(tmp_path)
            except Exception as error:
                failures.append(error)
                return
            seen.add("" if found is None else found.version)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(200):
        save_blend(tmp_path, blend(version=f"v{number}"))
    stop.set()
    reader.join()
    assert not failures
    assert seen <= {f"v{number}" for number in range(200)}
    assert seen


def test_what_a_crash_left_behind_is_not_read(tmp_path: Path) -> None:
    save_blend(tmp_path, blend())
    (tmp_path / ".CURRENT.tmp").write_bytes(b"blend-v9")
    (tmp_path / ".blend-v9.json.tmp").write_bytes(b"{")
    found = load_blend(tmp_path)
    assert found is not None
    assert found.version == "v1"
    save_blend(tmp_path, blend(version="v2"))
    assert current_path(tmp_path).read_text() == "blend-v2.json"


@pytest.mark.parametrize("weight", [1e10, -1e308])
def test_weights_that_could_overflow_are_refused(tmp_path: Path, weight: float) -> None:
    save_blend(tmp_path, blend((0.5, weight, 0.5, 0.5)))
    with pytest.raises(BuildError, match=rf"blend-v1\.json: weight of {NAMES[1]}: over ±1e\+09"):
        load_blend(tmp_path)


@given(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4))
def test_weights_survive_the_file_exactly(weights: list[float]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save_blend(Path(folder), blend(tuple(weights)))  # type: ignore[arg-type]
        found = load_blend(Path(folder))
    assert found is not None
    assert list(found.weights) == weights


def test_a_current_of_damaged_bytes_is_named(tmp_path: Path) -> None:
    (tmp_path / "CURRENT").write_bytes(b"blend-\xff.json")
    with pytest.raises(BuildError, match="not a readable blend"):
        load_blend(tmp_path)
