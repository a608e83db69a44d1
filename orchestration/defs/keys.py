"""Asset keys and partitions: the names in the UI's lineage from the event log to Feast's views."""

from datetime import date, timedelta

import dagster as dg

from feature_repo.group import FeatureGroup
from orchestration.runtime import Runtime

EVENT_LOG = dg.AssetKey(["log", "event_log"])
EVENTS = dg.AssetKey(["lake", "events"])
ITEMS = dg.AssetKey(["lake", "items"])
USERS = dg.AssetKey(["lake", "users"])
REGISTRY = dg.AssetKey(["feast", "registry"])
BLEND = dg.AssetKey(["models", "blend"])
API = dg.AssetKey(["serving", "ranking_api"])
PARITY = dg.AssetKey(["quality", "parity"])
TRAINING_SET = dg.AssetKey(["training", "training_set"])

RUNTIME = "runtime"
"""Name of the resource that holds the `Runtime`."""

AUTOMATIC, SENSOR = "headrace/automatic", "sensor"
"""Tag of runs that no person started, and its value for runs that the sensor started."""

_LATE_DAYS = 7


def features_key(group: FeatureGroup | str) -> dg.AssetKey:
    """Return the key of a group's offline builds."""
    return dg.AssetKey(["features", group if isinstance(group, str) else group.name])


def view_key(group: FeatureGroup) -> dg.AssetKey:
    """Return the key of a group's online Feast view."""
    return dg.AssetKey(["feast", group.view_name])


def service_key(service: str) -> dg.AssetKey:
    """Return the key of a published feature service."""
    return dg.AssetKey(["feast", service])


def daily_partitions(runtime: Runtime) -> dg.DailyPartitionsDefinition:
    """Define one partition per event day, including today.

    They begin a week before the first day that the lake holds when the definitions load, so a day that
    arrives late still has its partition. Ingesting much older data requires a reload of the code location,
    which the sensor requests.
    """
    today = runtime.now().date()
    first = min([today, *runtime.lake.days()[:1]]) - timedelta(days=_LATE_DAYS)
    return dg.DailyPartitionsDefinition(start_date=first.isoformat(), end_offset=1)


def days_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> list[date]:
    """Return the days of this run, ascending."""
    return sorted(date.fromisoformat(key) for key in context.partition_keys)
