"""`headrace materialize`: an empty store is filled again, and errors say what to do."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from typer.testing import CliRunner

from feature_repo.errors import BuildError
from feature_repo.groups import batch_groups
from feature_repo.home import Home
from feature_repo.lake.lake import Builds, Lake
from feature_repo.online import open_store
from feature_repo.settings import Settings
from orchestration.builds.build import build_group, end_of
from orchestration.cli import app
from tests.support.offline import day_events, write_events

DAY = date(2024, 5, 30)
NOW = datetime(2024, 6, 1, tzinfo=UTC)


def test_current_builds_go_online_again(
    settings: Settings, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_events(Lake(home.lake), DAY, day_events(DAY, 30))
    group = batch_groups()["user_profile"]
    build = build_group(group, settings, home, end_of(DAY), lambda: NOW)
    Builds(home.features).promote(group.name, build)
    monkeypatch.setenv("HEADRACE_HOME", str(home.root))
    done = CliRunner().invoke(app, ["materialize", "user_profile"])
    assert done.exit_code == 0, done.output
    store = open_store(settings, home)
    [row] = store.read([(group, "u1")])
    store.close()
    assert row is not None
    assert row.event_time == end_of(DAY)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing built yet; `headrace build`"),
        (["nobody"], "nobody: not a batch group; the batch groups are"),
    ],
)
def test_impossible_requests_are_explained(
    arguments: list[str], message: str, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(home.root))
    done = CliRunner().invoke(app, ["materialize", *arguments])
    assert isinstance(done.exception, BuildError)
    assert message in str(done.exception)
