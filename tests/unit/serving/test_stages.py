"""What single stages decide by themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from serving.context import Row
from serving.stages.ruling import bought_in

NOW = datetime(2024, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "bought"),
    [
        (None, set()),
        ({}, set()),
        ({"item_ids": ["a", "b"], "item_weights": [6.0, 1.0], "purchase_count": 1}, {"a"}),
        ({"item_ids": ["a", "b"], "item_weights": [6.0, 1.0], "purchase_count": 0}, set()),
        ({"item_ids": ["a"], "item_weights": [6.0]}, set()),
    ],
)
def test_what_a_session_bought(values: dict[str, Any] | None, bought: set[str]) -> None:
    assert bought_in(None if values is None else Row(values, NOW), 5.0) == bought
