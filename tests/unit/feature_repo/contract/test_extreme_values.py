"""Whatever a record holds that the contract accepts, the builds of everybody are made, of finite numbers."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from feature_repo.contract.validation import Contract, Record
from feature_repo.group import BatchParams
from feature_repo.settings import Settings
from tests.support.batch import build_all, rows_of

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
LARGEST = 1.7976931348623157e308
NUMBERS = (LARGEST, -LARGEST, 5e-324, -0.0, 2.0**53, 1e19, -1e19, 2.5)
TEXTS = ("c", ":", "x" * 256, "\0", "a:b", "\u0345", "12345678901234567890")
BIRTHS = ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", None)


def parsed(*records: dict[str, Any]) -> list[Record]:
    contract = Contract(Settings(), lambda: NOW)
    return [contract.parse(record) for record in records]


def items() -> list[Record]:
    return parsed(
        *(
            {
                "record": "item", "item_id": f"i{n}", "price": abs(number), "created_at": BIRTHS[n % 3],
                "categories": [TEXTS[n % 7], TEXTS[(n + 1) % 7]],
                "attributes": {
                    # A number for one item is text for another, and shares its name with a field.
                    "size": number if n % 2 else f"{number}", "SIZE": "XL", "": number, "price": number,
                    "created_year": number, "category": "other", "\0": ["", "\0"], "n:m": "x",
                },
            }
            for n, number in enumerate(NUMBERS)
        )
    )  # fmt: skip


def users() -> list[Record]:
    declared: list[Any] = [*NUMBERS, *TEXTS, ["", "x"], [], "x" * 10_000]
    return parsed(
        *(
            {"record": "user", "user_id": f"u{n}", "attributes": {"segment": value}}
            for n, value in enumerate(declared)
        )
    )


def events() -> list[Record]:
    shown = [{"item_id": f"i{n}", "score": number} for n, number in enumerate(NUMBERS)] * 3
    of: dict[str, Any] = {"record": "event", "session_id": "s", "position": 1_000_000}
    made: list[dict[str, Any]] = [
        {
            **of,
            "event_type": "click",
            "event_time": "1990-01-01T00:00:00Z",
            "item_id": "i0",
            "event_id": "old",
        }
    ]
    for n in range(64):
        who = {**of, "user_id": f"u{n % 8}", "event_time": (NOW - timedelta(minutes=n)).isoformat()}
        kind = ("click", "purchase", "view")[n % 3]
        made.append({**who, "event_id": f"e{n}", "event_type": kind, "item_id": f"i{n // 8}"})
        made.append({**who, "event_id": f"m{n}", "event_type": "impression", "items": shown})
    return parsed(*made)


def test_every_build_is_made_of_finite_numbers() -> None:
    built = build_all(events(), items(), users(), BatchParams.of(Settings(), NOW))
    for name, table in built.items():
        assert table.num_rows >= len(NUMBERS), name
        for column in table.column_names:
            for value in table[column].to_pylist():
                for number in value if isinstance(value, list) else [value]:
                    assert not isinstance(number, float) or math.isfinite(number), (name, column)


@pytest.mark.parametrize(
    ("code", "segment"),
    [
        ("12345678901234567890", "12345678901234567890"),
        (12345678901234567000.0, "1.2345678901234567e+19"),
        (1e300, "1e+300"),
        (-3.0, "-3"),
    ],
)
def test_a_code_for_a_segment_keeps_nobody_from_a_profile(code: Any, segment: str) -> None:
    declared = parsed(
        {"record": "user", "user_id": "u1", "attributes": {"segment": code}},
        {"record": "user", "user_id": "u2", "attributes": {"segment": "gold"}},
    )
    built = build_all(events()[:3], items(), declared, BatchParams.of(Settings(), NOW))
    profiles = rows_of(built["user_profile"], "user_id")
    assert {user: row["segment"] for user, row in profiles.items() if user != "u0"} == {
        "u1": segment,
        "u2": "gold",
    }
