"""A backfill of a range of days: history for every day, the newest online, and a repeat changes nothing."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from typer.testing import CliRunner

from feature_repo.errors import BuildError
from feature_repo.home import Home
from feature_repo.settings import Settings
from orchestration.cli import app
from orchestration.defs.run_chain import ChainResult, days_between, run_chain
from orchestration.runtime import Runtime
from tests.support.offline import click_group, day_events, write_events

DAY = date(2024, 5, 30)
NOW = datetime(2024, 6, 3, 12, tzinfo=UTC)


@pytest.fixture
def runtime(settings: Settings, home: Home) -> Runtime:
    found = Runtime(settings, home, lambda: NOW, lambda *_: frozenset())
    for n in range(4):
        day = DAY + timedelta(days=n)
        write_events(found.lake, day, day_events(day, 20))
    return found


def test_a_range_becomes_history_and_only_the_newest_goes_online(
    settings: Settings, runtime: Runtime
) -> None:
    days = days_between(DAY + timedelta(days=1), DAY + timedelta(days=2))
    result = run_chain(settings, days, runtime, [click_group()])
    assert result.days == tuple(days)
    found = [path.parent.name for path in runtime.builds.history("clicks")]
    assert found == ["as_of=20240601T000000Z", "as_of=20240602T000000Z"]
    current = runtime.builds.current("clicks")
    assert current is not None
    assert current.as_of == datetime(2024, 6, 2, tzinfo=UTC)
    # An older day afterwards adds history and leaves what is online.
    run_chain(settings, [DAY], runtime, [click_group()])
    assert runtime.builds.current("clicks") == current
    assert len(runtime.builds.history("clicks")) == 3


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [(DAY, DAY, [DAY]), (DAY, DAY + timedelta(days=2), [DAY + timedelta(days=n) for n in range(3)])],
)
def test_days_between_include_both_ends(first: date, last: date, expected: list[date]) -> None:
    assert days_between(first, last) == expected


def test_a_range_backwards_is_refused() -> None:
    with pytest.raises(BuildError, match="--to 2024-05-29 is before --from 2024-05-30; swap them"):
        days_between(DAY, DAY - timedelta(days=1))


def test_the_command_builds_a_range(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def chain(settings: Settings, days: list[date] | None) -> ChainResult:
        asked.append(days)
        return ChainResult({"user_profile": 5}, 1.5, tuple(days or [DAY]))

    monkeypatch.setattr("orchestration.defs.run_chain.run_chain", chain)
    monkeypatch.setenv("HEADRACE_HOME", str(runtime.home.root))
    done = CliRunner().invoke(app, ["build", "--from", "2024-05-30", "--to", "2024-05-31"])
    assert done.exit_code == 0, done.output
    assert "user_profile" in done.output
    assert CliRunner().invoke(app, ["build"]).exit_code == 0
    assert asked == [[DAY, DAY + timedelta(days=1)], None]
