"""`headrace status` on what is full, and on a home that ran with something else."""

from __future__ import annotations

from datetime import UTC, datetime

from feature_repo.errors import ContractError
from feature_repo.home import Home
from feature_repo.run_mode import Mode, write_mode
from feature_repo.settings import Settings
from orchestration.monitoring.status import quarantine_section, sections
from quality.quarantine.store import Quarantine

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
ERROR = ContractError("not_json", "", "no JSON")


def test_the_quarantine_is_empty_filled_or_full(settings: Settings, home: Home) -> None:
    assert quarantine_section(settings, home).note == "empty"
    held = Quarantine(home.quarantine, lambda: NOW, day_bytes=2_000_000)
    held.put(b"x" * 1_500_000, "f", 1, ERROR)
    section = quarantine_section(settings, home)
    assert section.rows == (("1.4 MiB", "256 MiB", "0"),)
    assert section.note == "`headrace quarantine list` says why"
    for line in range(2, 5):
        held.put(b"x" * 1_500_000, "f", line, ERROR)
    section = quarantine_section(settings, home)
    assert section.rows == (("1.4 MiB", "256 MiB", "3"),)
    assert section.note == "full on 2024-06-01: records rejected that day were counted but not kept"


def test_a_home_that_ran_with_something_else_says_so(settings: Settings, home: Home) -> None:
    write_mode(home, Mode("redis", "redis"))
    stream = sections(settings, home)[0]
    assert not stream.healthy
    assert "last ran with redis and redis, the settings say segments and sqlite" in stream.note
