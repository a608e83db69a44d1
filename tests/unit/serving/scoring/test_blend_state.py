"""The gate's decision, for `headrace status` and the metrics."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from feature_repo.errors import BuildError
from serving.scoring.blend import Blend, Gate, save_blend
from serving.scoring.blend_state import BlendCollector, read_blend_state
from tests.support.blends import simple_blend

CLOSED = Gate(passed=False, reason="NDCG@10 -0.01 [-0.02, +0.00] against base: base serves", low=-0.02)


def fitted() -> Blend:
    gate = Gate(passed=True, reason="better", low=0.01)
    return Blend(
        version="2",
        kind="fitted",
        names=("base",),
        scales=(1.0,),
        weights=(1.0,),
        gate=gate,
        fitted_at="2024",
    )


def test_there_is_none_before_the_first_fit(tmp_path: Path) -> None:
    assert read_blend_state(tmp_path) is None


def test_it_agrees_with_the_blend_that_was_saved(tmp_path: Path) -> None:
    save_blend(tmp_path, simple_blend("base", CLOSED, "1", "2024-06-01T00:00:00+00:00"))
    state = read_blend_state(tmp_path)
    assert state is not None
    assert (state.version, state.kind, state.gate.passed) == ("1", "base", False)
    assert (state.gate.reason, state.gate.low) == (CLOSED.reason, CLOSED.low)


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    path = save_blend(tmp_path, fitted())
    path.write_text("{")
    with pytest.raises(BuildError, match=rf"{path.name}: not a readable blend"):
        read_blend_state(tmp_path)
    path.unlink()
    with pytest.raises(BuildError, match=rf"{path.name}: not a readable blend"):
        read_blend_state(tmp_path)


def test_metrics_follow_the_gate(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    registry.register(BlendCollector(tmp_path))
    value = registry.get_sample_value
    assert value("headrace_blend_gate_open") is None
    for blend, opened in ((fitted(), 1.0), (simple_blend("popularity", CLOSED, "3", "", "log_ctr"), 0.0)):
        path = save_blend(tmp_path, blend)
        assert value("headrace_blend_gate_open") == opened
        assert value("headrace_blend_serves", {"kind": blend.kind}) == 1.0
        assert value("headrace_blend_gate_low") == blend.gate.low
    path.write_text("{")
    assert value("headrace_blend_gate_open") is None


def test_reading_it_loads_no_scorer() -> None:
    code = "import sys, serving.scoring.blend_state; print('numba' in sys.modules, 'numpy' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]
