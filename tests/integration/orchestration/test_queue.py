"""The queue under live traffic, through Dagster's daemon: the sensor never has more than one run waiting."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg
import pytest
from dagster._core.utils import make_new_run_id

from feature_repo.home import Home
from feature_repo.lake import Lake
from orchestration.defs.jobs import CHAIN, SENSED
from orchestration.instance import open_instance
from tests.dagster_daemon import running_daemon
from tests.offline import day_events, write_events

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings(
        "ignore:Function `AssetSelection.sources`:DeprecationWarning"
    ),  # Dagster's own
]

WAITING = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]
LEAST_RUNS = 3


@dataclass
class Traffic:
    """A file of new events each time it is looked at, and what the queue is like then."""

    home: Home
    instance: dg.DagsterInstance
    written: int = 0
    most_waiting: int = 0
    by_hand: dg.DagsterRun | None = None
    waited_then: set[str] = field(default_factory=set)

    def goes_on(self) -> None:
        today = datetime.now(UTC).date()
        self.written += 1
        events = day_events(today, 3, offset=1000 + 3 * self.written)
        write_events(Lake(self.home.lake), today, events, f"live-{self.written}")
        waiting = self.instance.get_runs(dg.RunsFilter(job_name=CHAIN, statuses=WAITING, tags=SENSED))
        self.most_waiting = max(self.most_waiting, len(waiting))
        if waiting and self.by_hand is None and self.ended():
            self.start_by_hand(waiting[0])

    def start_by_hand(self, like: dg.DagsterRun) -> None:
        """As a person does in the UI: the same job, queued behind what waits already."""
        tags = {"dagster/partition": like.tags["dagster/partition"]}
        run = like._replace(run_id=make_new_run_id(), tags=tags, run_op_concurrency=None)
        self.waited_then = {like.run_id}
        self.by_hand = self.instance.add_run(run)

    def ended(self) -> int:
        """How many runs of the sensor succeeded."""
        done = [dg.DagsterRunStatus.SUCCESS]
        return len(self.instance.get_runs(dg.RunsFilter(job_name=CHAIN, statuses=done, tags=SENSED)))

    def over(self) -> bool:
        self.goes_on()
        by_hand = self.by_hand and self.instance.get_run_by_id(self.by_hand.run_id)
        return bool(by_hand and by_hand.is_finished) and self.ended() >= LEAST_RUNS


def test_live_traffic_leaves_one_run_waiting_and_a_persons_run_goes_first(home: Home) -> None:
    today = datetime.now(UTC).date()
    write_events(Lake(home.lake), today, day_events(today, 20))
    with open_instance(home) as instance:
        traffic = Traffic(home, instance)
        with running_daemon(home, {"HEADRACE_CHAIN_EVERY_S": "1"}) as until:
            until(traffic.over)
        records = {r.dagster_run.run_id: r for r in instance.get_run_records()}
        failed = [
            r.dagster_run for r in records.values() if r.dagster_run.status == dg.DagsterRunStatus.FAILURE
        ]
    assert failed == []
    assert traffic.most_waiting == 1
    assert traffic.by_hand is not None
    started = records[traffic.by_hand.run_id].start_time
    [then] = [records[run].start_time for run in traffic.waited_then]
    assert started is not None
    assert then is None or started < then
