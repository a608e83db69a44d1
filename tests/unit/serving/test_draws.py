"""The compiled generator is numpy's, number for number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serving.draws import generator, uniform


@given(st.integers(0, 2**64 - 1))
@example(0)
@example(7)
@example(2**32 - 1)
@example(2**32)
@example(2**63)
@example(2**64 - 1)
def test_state_and_numbers_are_numpys(seed: int) -> None:
    mine, numpys = generator(seed & 0xFFFFFFFF, seed >> 32), np.random.PCG64(seed)
    high, low, increment_high, increment_low = (int(word) for word in mine)
    assert numpys.state["state"] == {
        "state": high << 64 | low,
        "inc": increment_high << 64 | increment_low,
    }
    drawn = [uniform(mine) for _ in range(40)]
    assert drawn == np.random.Generator(numpys).random(40).tolist()


def test_a_long_run_stays_numpys() -> None:
    mine, numpys = generator(12345, 678), np.random.Generator(np.random.PCG64(678 << 32 | 12345))
    drawn = np.array([uniform(mine) for _ in range(20_000)])
    assert drawn.tobytes() == numpys.random(20_000).tobytes()
    assert drawn.mean() == pytest.approx(0.5, abs=0.01)
