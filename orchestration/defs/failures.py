"""The sensor that reports failed runs."""

import dagster as dg

from orchestration.monitoring.failed_runs import failure_of_run, send
from orchestration.runtime import Runtime
from quality.run_failures import add_failure

INTERVAL_S = 15


def failure_sensor(runtime: Runtime) -> dg.SensorDefinition:
    """Report each failed run: a log line, a count for `headrace status` and the metrics, a webhook."""

    @dg.run_failure_sensor(
        name="run_failures",
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Failed runs: logged, counted, and sent to HEADRACE_FAILURE_WEBHOOK if it is set.",
    )
    def tell(context: dg.RunFailureSensorContext) -> None:
        run = context.dagster_run
        logged = (entry.dagster_event for entry in context.instance.all_logs(run.run_id))
        failure = failure_of_run(run, (event for event in logged if event is not None), runtime.clock)
        if not add_failure(runtime.home.runs, failure):
            return
        context.log.error(failure.line)
        if url := runtime.settings.failure_webhook.get_secret_value():
            send(url, failure)

    return tell
