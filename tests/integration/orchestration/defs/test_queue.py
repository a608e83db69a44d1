"""The queue under live traffic, through Dagster's daemon: the sensor never has more than one run waiting."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg
import pytest
from dagster._core.utils import make_new_run_id

from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from orchestration.defs.jobs import CHAIN, SENSED
from orchestration.processes.dagster_home import open_instance
from tests.support.dagster_daemon import running_daemon
from tests.support.offline import day_events, write_events
from tests.support.queue_location import HELD

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    # Dagster's own.
    pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning"),
]

WAITING = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]
FILES = 25
"""New files of events while one run is held: many ticks' worth, had each asked for a run."""


@dataclass
class Traffic:
    """A file of new events each time it is looked at, and the most runs of the sensor that ever waited."""

    home: Home
    instance: dg.DagsterInstance
    written: int = 0
    most_waiting: int = 0

    def goes_on(self) -> None:
        today = datetime.now(UTC).date()
        self.written += 1
        events = day_events(today, 3, offset=1000 + 3 * self.written)
        write_events(Lake(self.home.lake), today, events, f"live-{self.written}")
        self.most_waiting = max(self.most_waiting, len(self.waiting()))

    def waiting(self) -> list[dg.DagsterRun]:
        return list(self.instance.get_runs(dg.RunsFilter(job_name=CHAIN, statuses=WAITING, tags=SENSED)))

    def runs(self, *statuses: dg.DagsterRunStatus) -> int:
        return len(self.instance.get_runs(dg.RunsFilter(job_name=CHAIN, statuses=list(statuses))))

    def one_waits_behind_one_that_runs(self) -> bool:
        self.goes_on()
        running = self.runs(dg.DagsterRunStatus.STARTED) == 1
        queued = [run.status for run in self.waiting()] == [dg.DagsterRunStatus.QUEUED]
        return running and queued and self.written >= FILES

    def all_are_over(self) -> bool:
        """Traffic has stopped: the run held, the one by hand and the one that waited are done."""
        self.most_waiting = max(self.most_waiting, len(self.waiting()))
        return self.runs(dg.DagsterRunStatus.SUCCESS) >= 3


def test_live_traffic_leaves_one_run_waiting_and_a_persons_run_goes_first(home: Home) -> None:
    today = datetime.now(UTC).date()
    write_events(Lake(home.lake), today, day_events(today, 20))
    hold = home.root / HELD
    hold.touch()
    with open_instance(home) as instance:
        traffic = Traffic(home, instance)
        with running_daemon(
            home, {"HEADRACE_CHAIN_EVERY_S": "1"}, "-m", "tests.support.queue_location"
        ) as until:
            until(traffic.one_waits_behind_one_that_runs)
            [waiting] = traffic.waiting()
            # As a person does in the UI: the same job, queued behind what waits already.
            tags = {"dagster/partition": today.isoformat()}
            by_hand = instance.add_run(waiting._replace(run_id=make_new_run_id(), tags=tags))
            traffic.goes_on()
            hold.unlink()
            until(traffic.all_are_over)
        records = {r.dagster_run.run_id: r for r in instance.get_run_records()}
    assert {r.dagster_run.status for r in records.values()} == {dg.DagsterRunStatus.SUCCESS}
    assert traffic.most_waiting == 1
    mine, theirs = records[by_hand.run_id].start_time, records[waiting.run_id].start_time
    assert mine is not None
    assert theirs is not None
    assert mine < theirs
