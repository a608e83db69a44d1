"""`headrace quality` on builds in a home of its own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner, Result

from feature_repo.contract.validation import Contract, to_arrow
from feature_repo.errors import BuildError
from feature_repo.group import DType
from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.lake.lake import Build, Builds, Lake
from feature_repo.settings import Settings
from orchestration.cli import app
from quality.checks.results import CheckReport
from quality.gate.build_gate import Gate

DAY = datetime(2024, 6, 1, tzinfo=UTC)
GROUP = all_groups()["item_neighbours"]
_VALUES: dict[DType, Any] = {DType.STRINGS: ["a"], DType.FLOAT64S: [2.0], DType.INT64: 3}


def write(home: Home, as_of: datetime, rows: int = 10, **change: Any) -> None:
    values = {f.name: _VALUES[f.dtype] for f in GROUP.features} | change
    times = {"event_timestamp": as_of, "created_timestamp": as_of}
    table = pa.Table.from_pylist(
        [{"item_id": f"i{n}", **values, **times} for n in range(rows)], schema=GROUP.arrow_schema
    )
    builds = Builds(home.features)
    path = builds.write(GROUP.name, as_of, table)
    builds.promote(GROUP.name, Build(path, as_of, as_of, rows))


@pytest.fixture
def run(home: Home, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("HEADRACE_HOME", str(home.root))
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: CliRunner().invoke(app, ["quality", *words])


def test_check_reports_groups_and_the_newest_day(
    home: Home, settings: Settings, clock: Callable[[], datetime], run: Callable[..., Result]
) -> None:
    write(home, DAY)
    contract = Contract(settings, clock)
    event = contract.parse(
        {"event_id": "e", "event_type": "view", "event_time": DAY, "session_id": "s", "item_id": "i"}, "event"
    )
    folder = Lake(home.lake).events_of(DAY.date())
    folder.mkdir(parents=True)
    import pyarrow.parquet as pq

    pq.write_table(to_arrow("event", [event], DAY), folder / "part-0.parquet")
    result = run("check")
    assert result.exit_code == 0, result.output
    assert "events 2024-06-01: 1 rows" in result.output
    assert "warn: user_id: 1 of 1 rows null (1); wanted a value in at least one row" in result.output
    assert "item_neighbours: 10 rows" in result.output
    assert Path(home.docs / "index.html").exists()
    assert run("check", "--strict").exit_code == 1


def test_check_fails_where_something_blocks(home: Home, run: Callable[..., Result]) -> None:
    write(home, DAY, neighbour_counts=[1.0, 2.0])
    result = run("check", "item_neighbours")
    assert result.exit_code == 1
    assert (
        "block: neighbour_ids,neighbour_counts: 10 of 10 rows with lists of different lengths"
        in result.output
    )


def test_bounds_are_proposed_accepted_and_then_judged(home: Home, run: Callable[..., Result]) -> None:
    for n in range(3):
        write(home, DAY + timedelta(days=n), session_count=3 + n)
    proposed = run("propose", "item_neighbours")
    assert proposed.exit_code == 0, proposed.output
    assert "warn: session_count: values 2 … 6 (3 … 5 in 3 builds)" in proposed.output
    write(home, DAY + timedelta(days=4), session_count=50)
    assert "session_count" not in run("check", "item_neighbours").output
    accepted = run("accept", "item_neighbours", "--column", "session_count").output
    assert "item_neighbours: 2 rules apply from the next check on" in accepted
    checked = run("check", "item_neighbours")
    assert "warn: session_count: 10 of 10 rows outside (1), e.g. 50, 50, 50, 50, 50; wanted values 2 … 6" in (
        checked.output
    )


def test_a_loss_of_rows_is_accepted_by_command(
    home: Home, clock: Callable[[], datetime], run: Callable[..., Result]
) -> None:
    gate = Gate(home.quality, clock)
    for days, rows in ((0, 10), (1, 2)):
        gate.judge(GROUP.view_name, DAY + timedelta(days=days), CheckReport(GROUP.name, (), rows))
    assert not gate.state(GROUP.view_name).open
    result = run("accept-rows", GROUP.name, "--reason", "fewer items are sold")
    assert result.exit_code == 0, result.output
    assert "item_neighbours: 2 rows instead of 10 accepted; run `headrace build` again" in result.output
    loss = gate.state(GROUP.view_name).accepted
    assert loss is not None
    assert (loss.reason, bool(loss.who)) == ("fewer items are sold", True)
    assert gate.judge(GROUP.view_name, DAY + timedelta(days=1), CheckReport(GROUP.name, (), 2)).passed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("check", "nose"), "nose: no such feature group; there are item_neighbours, item_profile"),
        (("check",), "no builds to check; run the chain first"),
        (("propose", "item_profile"), "item_profile: 0 builds with rows; bounds need 3"),
        (
            ("accept", "item_profile"),
            "item_profile: nothing is proposed; run `headrace quality propose item_profile`",
        ),
        (
            ("accept-rows", "item_profile", "--reason", "x"),
            "item_profile: no build is held back for a loss of rows; see `headrace status`",
        ),
    ],
)
def test_impossible_requests_are_explained(
    run: Callable[..., Result], words: tuple[str, ...], message: str
) -> None:
    result = run(*words)
    assert isinstance(result.exception, BuildError)
    assert message in str(result.exception)
