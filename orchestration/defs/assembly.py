"""Assembles all Dagster definitions, from the event log to Feast's views."""

import warnings
from collections.abc import Sequence

import dagster as dg

from feature_repo.group import FeatureGroup
from feature_repo.groups import batch_groups, stream_groups
from orchestration.defs import (
    consumers,
    failures,
    groups,
    jobs,
    keys,
    lake,
    models,
    observations,
    online,
    quality,
    schedules,
    sensors,
    training,
)
from orchestration.runtime import Runtime


def build_definitions(runtime: Runtime, batch: Sequence[FeatureGroup] | None = None) -> dg.Definitions:
    """Derive assets, checks, jobs, schedules and sensors from the declared groups.

    Args:
        batch: the batch groups; default: every declared one.
    """
    with warnings.catch_warnings():
        # Silence beta warnings: partitioned checks and backfill policies are pinned by the lock.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        warnings.simplefilter("ignore", dg.BetaWarning)
        return _definitions(runtime, tuple(batch_groups().values()) if batch is None else batch)


def _definitions(runtime: Runtime, batch: Sequence[FeatureGroup]) -> dg.Definitions:
    settings, streamed = runtime.settings, list(stream_groups().values())
    partitions = keys.daily_partitions(runtime)
    chain, days, retention = jobs.chain_job(), jobs.lake_job(), jobs.retention_job(batch)
    return dg.Definitions(
        assets=[
            lake.event_log(settings),
            lake.events_asset(partitions, settings),
            *lake.record_assets(settings),
            *(groups.group_asset(group, partitions, settings) for group in batch),
            online.registry_asset(settings),
            *(online.view_asset(group, partitions, settings) for group in batch),
            *(online.stream_spec(group, settings) for group in streamed),
            models.blend_asset(batch, settings),
            quality.parity_asset(partitions, settings),
            training.training_asset(batch, settings),
            *consumers.service_specs([*batch, *streamed], settings),
            consumers.api_spec(settings),
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
            observations.observation_sensor(runtime),
        ],
        resources={keys.RUNTIME: runtime},
        executor=dg.in_process_executor,
    )
