"""Jobs: the whole chain for one day, and the lake alone for many days."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TypeAlias

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from feature_repo.group import FeatureGroup
from orchestration.defs.keys import AUTOMATIC, EVENTS, PARITY, RUNTIME, SENSOR, TRAINING_SET
from orchestration.runtime import Runtime

Job: TypeAlias = UnresolvedAssetJobDefinition
"""What `define_asset_job` returns; Dagster exports no public name for it."""

CHAIN, LAKE, TRAINING = "feature_chain", "lake_days", "training_set"
RETENTION = "retention"
BEHIND, AHEAD = {"dagster/priority": "-10"}, {"dagster/priority": "10"}
"""A run started by a person (priority 0) precedes the sensor's runs. The hourly run comes first; otherwise a
backfill of a year would delay it for hours."""
SENSED, SCHEDULED = {AUTOMATIC: SENSOR}, {AUTOMATIC: "schedule"}


def chain_job() -> Job:
    """Define the job from events to Feast views and the blend, with every check, for one day."""
    return dg.define_asset_job(
        CHAIN,
        selection=dg.AssetSelection.all() - dg.AssetSelection.assets(PARITY, TRAINING_SET),
        description="Log → lake → checks → features → checks → Feast, and the blend.",
    )


def training_job() -> Job:
    """Define the job for the training set of the configured days, with its leakage check."""
    return dg.define_asset_job(
        TRAINING,
        selection=dg.AssetSelection.assets(TRAINING_SET),
        description="Decisions, labels, features as of each decision; splits, card, leakage check.",
    )


def lake_job() -> Job:
    """Define the job for the events of a range of days, in one run."""
    return dg.define_asset_job(
        LAKE,
        selection=dg.AssetSelection.assets(EVENTS),
        description="The lake's contents, for a range of days in one run.",
    )


def retention_job(batch: Sequence[FeatureGroup]) -> dg.JobDefinition:
    """Define retention of the log, lake, builds, blends, pages, quarantine, runs and scratch files."""

    @dg.op(required_resource_keys={RUNTIME}, description="Removes data past its retention.")
    def remove(context: dg.OpExecutionContext) -> None:
        from orchestration.builds.lake_sync import prune_lake, trim_decisions, trim_log  # noqa: PLC0415
        from orchestration.builds.retention import retain  # noqa: PLC0415 - numba and SQLAlchemy take seconds to load
        from orchestration.builds.run_retention import prune_runs  # noqa: PLC0415

        runtime: Runtime = context.resources.runtime
        removed = asdict(retain(batch, runtime.home, runtime.clock))
        removed["lake_days"] = prune_lake(runtime.settings, runtime.home)
        removed["log"] = trim_log(runtime.settings, runtime.home)
        removed["decisions"] = trim_decisions(runtime.settings, runtime.home)
        removed["dagster_runs"] = prune_runs(context.instance, runtime.home, runtime.clock())
        context.log.info("removed: %s", removed)
        context.add_output_metadata(removed)

    @dg.job(name=RETENTION, description="Removes data past its retention.")
    def retention() -> None:
        remove()

    return retention
