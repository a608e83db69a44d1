from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import pytest

from feature_repo.errors import ContractError
from quality.checks.rejections import check_door, rejections
from quality.quarantine.store import Quarantine

DAY = date(2024, 6, 1)


@pytest.fixture
def quarantine(tmp_path: Path, clock: Callable[[], datetime]) -> Quarantine:
    found = Quarantine(tmp_path, clock)
    for n in range(6):
        error = ContractError("wrong_type", "position", "position: expected `int`, got `str`")
        found.put(b"{%d}" % n, "http", n, error)
    found.put(b"[]", "http", 9, ContractError("not_an_object", "", "a JSON array"))
    return found


def test_a_share_within_bounds_passes(quarantine: Quarantine) -> None:
    report = check_door(DAY, 1000, rejections(quarantine.entries())[DAY])
    assert (report.passed, report.failures, report.rows) == (True, (), 1007)


def test_an_upstream_change_of_type_is_named(quarantine: Quarantine) -> None:
    report = check_door(DAY, 93, rejections(quarantine.entries())[DAY])
    assert report.passed
    assert [r.message for r in report.failures] == [
        "table: 7 of 100 records rejected (0.07): 6 × wrong_type position, 1 × not_an_object; "
        "wanted a share of at most 0.05"
    ]


def test_other_days_and_replayed_records_do_not_count(quarantine: Quarantine) -> None:
    quarantine.mark_retried(list(quarantine.entries(code="wrong_type")))
    found = rejections(quarantine.entries())
    assert set(found) == {DAY}
    observed = check_door(DAY, 1, found[DAY]).results[0].observed
    assert observed == "1 of 2 records rejected (0.5): 1 × not_an_object"


def test_a_day_without_anything_passes() -> None:
    assert rejections([]) == {}
    assert check_door(DAY, 0, Counter()).failures == ()
