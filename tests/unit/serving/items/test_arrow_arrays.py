"""Arrow columns as Python objects and numpy arrays."""

from __future__ import annotations

import pyarrow as pa
import pytest

from serving.items import arrow_arrays as columns
from serving.items.arrow_arrays import texts_of


@pytest.mark.parametrize("count", [0, 1, 6, 7])
def test_texts_come_in_steps_and_whole(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "STEP", 3)
    texts = [f"i{n}" for n in range(count)]
    chunked = pa.chunked_array([texts[:2], texts[2:]], pa.string())
    assert list(texts_of(chunked)) == texts
