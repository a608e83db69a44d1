"""The sensor that reports the state of the event log and the stream's views; it starts no run."""

from collections.abc import Callable, Iterator

import dagster as dg
import msgspec

from feature_repo.errors import HeadraceError
from feature_repo.groups import stream_groups
from orchestration.defs.keys import EVENT_LOG, view_key
from orchestration.lineage.observing import Observation, observe_log, observe_stream
from orchestration.runtime import Runtime

INTERVAL_S = 300


def observation_sensor(runtime: Runtime) -> dg.SensorDefinition:
    """Define the sensor: it observes each asset that changed since the last observation."""

    @dg.sensor(
        name="observations",
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reports rows, lag and newest event of the event log and of the stream's views.",
    )
    def observe(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        seen: dict[str, str] = msgspec.json.decode(context.cursor or "{}", type=dict[str, str])
        events = []
        for key, found in _observations(runtime, context):
            name = key.to_user_string()
            if seen.get(name) != found.state:
                seen[name] = found.state
                events.append(dg.AssetObservation(key, metadata=found.figures))
        cursor = msgspec.json.encode(seen).decode()
        reason = None if events else "nothing changed"
        return dg.SensorResult(asset_events=events, skip_reason=reason, cursor=cursor)

    return observe


def _observations(
    runtime: Runtime, context: dg.SensorEvaluationContext
) -> Iterator[tuple[dg.AssetKey, Observation]]:
    """Collect the observations; log those that fail without hiding the others."""
    views = [view_key(group) for group in stream_groups().values()]
    looks: list[tuple[list[dg.AssetKey], Callable[[Runtime], Observation]]] = [
        ([EVENT_LOG], observe_log),
        (views, observe_stream),
    ]
    for keys, look in looks:
        try:
            found = look(runtime)
        except (HeadraceError, OSError) as error:
            context.log.warning("%s: %s", ", ".join(key.to_user_string() for key in keys), error)
            continue
        yield from ((key, found) for key in keys)
