"""All of Dagster's nouns put together, from the event log to Feast's views."""

import warnings
from collections.abc import Sequence

import dagster as dg

from feature_repo.group import FeatureGroup
from feature_repo.groups import batch_groups, stream_groups
from orchestration.defs import (
    failures,
    groups,
    jobs,
    keys,
    lake,
    models,
    online,
    quality,
    schedules,
    sensors,
    training,
)
from orchestration.runtime import Runtime


def build_definitions(runtime: Runtime, batch: Sequence[FeatureGroup] | None = None) -> dg.Definitions:
    """Assets, checks, jobs, schedule and sensor, derived from the declared groups.

    Args:
        batch: the batch groups; by default every declared one.
    """
    with warnings.catch_warnings():
        # Partitioned checks and backfill policies; pinned by the lock.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        warnings.simplefilter("ignore", dg.BetaWarning)
        return _definitions(runtime, tuple(batch_groups().values()) if batch is None else batch)


def _definitions(runtime: Runtime, batch: Sequence[FeatureGroup]) -> dg.Definitions:
    partitions = keys.daily_partitions(runtime)
    chain, days, retention = jobs.chain_job(), jobs.lake_job(), jobs.retention_job(batch)
    return dg.Definitions(
        assets=[
            lake.event_log(),
            lake.events_asset(partitions),
            *lake.record_assets(),
            *(groups.group_asset(group, partitions) for group in batch),
            online.registry_asset(),
            *(online.view_asset(group, partitions) for group in batch),
            *(online.stream_spec(group) for group in stream_groups().values()),
            models.blend_asset(batch),
            quality.parity_asset(partitions),
            training.training_asset(batch),
        ],
        asset_checks=[
            lake.events_check(partitions),
            quality.behaviour_check(partitions),
            *(groups.group_check(group, partitions) for group in batch),
            *(quality.drift_check(group, partitions) for group in batch),
            *(quality.read_back_check(group, partitions) for group in batch),
            training.training_check(),
        ],
        jobs=[chain, days, jobs.training_job(), retention],
        schedules=[
            schedules.hourly(chain, runtime, batch),
            quality.parity_schedule(runtime),
            schedules.nightly(retention),
        ],
        sensors=[
            sensors.lake_sensor([chain, days], partitions, runtime, batch),
            failures.failure_sensor(runtime),
        ],
        resources={keys.RUNTIME: runtime},
        executor=dg.in_process_executor,
    )
