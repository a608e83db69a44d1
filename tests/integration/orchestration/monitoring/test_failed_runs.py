"""A run that fails is seen: one line, one count, one webhook call, whatever failed."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import dagster as dg
import pytest
from pydantic import SecretStr, ValidationError

from feature_repo.group import Expectation, FeatureGroup
from feature_repo.home import Home
from feature_repo.settings import Settings
from orchestration.defs.assembly import build_definitions
from orchestration.defs.failures import failure_sensor
from orchestration.defs.jobs import CHAIN
from orchestration.monitoring.failed_runs import TRIES, send
from orchestration.monitoring.status import ranking_section, runs_section
from orchestration.runtime import Runtime
from quality.run_failures import RunFailure, add_failure, read_failures
from serving.scoring.blend import Gate, save_blend
from tests.support.blends import simple_blend
from tests.support.offline import click_group, three_days

DAY = date(2024, 5, 30)
NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
FAILURE = RunFailure("0123456789", CHAIN, "2024-05-30", "features__clicks", "no space left", NOW)


class Hook(HTTPServer):
    """A webhook that answers with the statuses it is given, the last one for ever."""

    def __init__(self) -> None:
        self.statuses = [200]
        self.bodies: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/secret-token"


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        statuses = self.server.statuses
        self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def runtime(settings: Settings, home: Home, hook: Hook) -> Runtime:
    settings = settings.model_copy(update={"failure_webhook": SecretStr(hook.url)})
    return three_days(settings, home, DAY, NOW)


@pytest.fixture
def told(runtime: Runtime) -> Iterator[Callable[[FeatureGroup], RunFailure]]:
    """Run the chain, which fails, and let the sensor tell of it, twice."""
    with dg.DagsterInstance.ephemeral() as instance:

        def tell(group: FeatureGroup) -> RunFailure:
            job = build_definitions(runtime, (group,)).resolve_job_def(CHAIN)
            result = job.execute_in_process(
                instance=instance, raise_on_error=False, partition_key=DAY.isoformat()
            )
            assert not result.success
            for _ in range(2):
                context = dg.build_run_status_sensor_context(
                    "run_failures", result.get_run_failure_event(), instance, result.dagster_run
                ).for_run_failure()
                failure_sensor(runtime)(context)
            found = read_failures(runtime.home.runs)
            assert found.totals == {CHAIN: 1}
            return found.recent[0]

        yield tell


def test_a_failing_check_is_reported_with_asset_and_finding(
    told: Callable[[FeatureGroup], RunFailure], hook: Hook
) -> None:
    strict = click_group(expectations=(Expectation("row_count_between", minimum=100),))
    failure = told(strict)
    assert (failure.job, failure.partition, failure.step) == (CHAIN, "2024-05-30", "check of features/clicks")
    assert "5 rows" in failure.error
    [body] = hook.bodies
    assert body["text"] == failure.line
    assert (body["run"], body["partition"]) == (failure.run, "2024-05-30")


def test_a_failing_step_is_reported_with_its_error(
    told: Callable[[FeatureGroup], RunFailure], runtime: Runtime
) -> None:
    (runtime.lake.events_of(DAY) / "part-9.parquet").write_bytes(b"PAR1 no parquet")
    failure = told(click_group())
    assert failure.step == "lake__events"
    assert "part-9.parquet" in failure.error


def test_a_webhook_is_tried_again(hook: Hook) -> None:
    hook.statuses = [503, 200]
    assert send(hook.url, FAILURE, wait_s=0)
    assert len(hook.bodies) == 2


def test_a_webhook_that_never_answers_is_logged_without_its_secret(
    hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    hook.statuses = [500]
    with caplog.at_level(logging.WARNING):
        assert not send(hook.url, FAILURE, wait_s=0)
    assert len(hook.bodies) == TRIES
    assert "HEADRACE_FAILURE_WEBHOOK: 127.0.0.1: HTTPStatusError" in caplog.text
    assert "secret-token" not in "".join(
        r.getMessage() for r in caplog.records if r.name.startswith("orchest")
    )


def test_an_invalid_address_is_refused_at_start() -> None:
    with pytest.raises(ValidationError, match=r"HEADRACE_FAILURE_WEBHOOK: write the full URL"):
        Settings(failure_webhook=SecretStr("hooks.example.org/x"))


def test_status_shows_failures_and_is_unhealthy_for_an_hour(runtime: Runtime) -> None:
    none = runs_section(runtime.settings, runtime.home)
    assert (none.title, none.rows, none.healthy) == ("failed runs: 0", (), True)
    now = runtime.settings.clock()
    add_failure(runtime.home.runs, RunFailure("a" * 32, CHAIN, "2024-05-30", "s", "old", NOW))
    old = runs_section(runtime.settings, runtime.home)
    assert (old.title, old.healthy, old.note) == ("failed runs: 1", True, "")
    add_failure(runtime.home.runs, RunFailure("b" * 32, CHAIN, "2024-05-30", "s", "new", now))
    new = runs_section(runtime.settings, runtime.home)
    assert [row[4] for row in new.rows] == ["new", "old"]
    assert not new.healthy
    assert "within the hour" in new.note


def test_status_says_what_serves_and_that_the_gate_is_closed(runtime: Runtime) -> None:
    before = ranking_section(runtime.settings, runtime.home)
    assert (before.rows, before.healthy) == ((), True)
    assert "no blend was fitted yet" in before.note
    closed = Gate(passed=False, reason="12 lists with an engagement; a fit needs 300: the base order serves")
    save_blend(runtime.home.models, simple_blend("base", closed, "1", "2024-06-01T00:00:00+00:00"))
    after = ranking_section(runtime.settings, runtime.home)
    assert after.rows == (("base", "closed", "2024-06-01T00:00", closed.reason),)
    assert after.note == "the gate is closed: base serves, not the fitted blend"
