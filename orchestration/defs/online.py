"""Feast: the registry, and each group's view in the online store, downstream of the checked builds."""

import time

import dagster as dg

from feature_repo.errors import BuildError
from feature_repo.feast_store import apply
from feature_repo.group import USER, FeatureGroup
from feature_repo.lake.lake import Build
from feature_repo.settings import Settings
from orchestration.builds.build import build_of_day
from orchestration.defs.about import LAYER, page_links, tags_of, view_link
from orchestration.defs.keys import EVENT_LOG, REGISTRY, RUNTIME, days_of, features_key, view_key
from orchestration.lineage.columns import SCHEMA, group_schema, lineage_metadata, same_lineage
from orchestration.lineage.links import feast_url
from orchestration.materialize.materialize import materialize_current
from orchestration.materialize.withdrawals import forget_withdrawn
from orchestration.runtime import Runtime


def registry_asset(settings: Settings) -> dg.AssetsDefinition:
    """Define Feast's registry, derived from the declarations."""

    @dg.asset(
        key=REGISTRY,
        group_name="feast",
        kinds={"feast", "python"},
        owners=settings.owners,
        tags={LAYER: "online"},
        metadata={"feast_ui": dg.MetadataValue.url(feast_url(settings))},
        description="Entities, feature views and the feature service, as `feast apply` registers them.",
        required_resource_keys={RUNTIME},
    )
    def registry(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        runtime: Runtime = context.resources.runtime
        started = time.monotonic()
        applied = apply(runtime.settings, runtime.home)
        seconds = round(time.monotonic() - started, 3)
        return dg.MaterializeResult(
            metadata={**applied.counts, "unchanged": not applied.changed, "seconds": seconds}
        )

    return registry


def view_asset(
    group: FeatureGroup, partitions: dg.PartitionsDefinition, settings: Settings
) -> dg.AssetsDefinition:
    """Define a batch group's online view. Only the newest build goes online; backfilled days stay history."""

    @dg.asset(
        key=view_key(group),
        deps=[features_key(group), REGISTRY],
        partitions_def=partitions,
        group_name="feast",
        kinds={"feast", settings.online_store},
        owners=settings.owners,
        tags=tags_of(group, "online"),
        metadata={SCHEMA: group_schema(group), **page_links(settings), **view_link(settings, group)},
        description=f"{group.meaning} Read online by {group.entity.join_key}.",
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=group.freshness),
        required_resource_keys={RUNTIME},
    )
    def view(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        runtime: Runtime = context.resources.runtime
        [day] = days_of(context)
        build = build_of_day(runtime.builds, group, day)
        if build is None:
            msg = f"{group.name}: no build of {day} to materialize; build its partition first"
            raise BuildError(msg)
        served = _serve(runtime, group, build)
        lineage = same_lineage(group.arrow_schema.names, features_key(group))
        return served._replace(metadata={**(served.metadata or {}), **lineage_metadata(lineage)})

    return view


def stream_spec(group: FeatureGroup, settings: Settings) -> dg.AssetSpec:
    """Define a stream group's view: maintained by the session flow, never run by Dagster."""
    return dg.AssetSpec(
        view_key(group),
        deps=[EVENT_LOG, REGISTRY],
        group_name="feast",
        kinds={"bytewax", "feast", settings.online_store},
        owners=settings.owners,
        tags=tags_of(group, "stream"),
        metadata={SCHEMA: group_schema(group), **view_link(settings, group)},
        description=f"{group.meaning} Kept by `headrace stream`.",
    )


def _serve(runtime: Runtime, group: FeatureGroup, build: Build) -> dg.MaterializeResult[None]:
    current = runtime.builds.current(group.name, group.version)
    found = {"as_of": build.as_of.isoformat()}
    if current is not None and current.as_of > build.as_of:
        status = "kept as history: a newer build is online"
        return dg.MaterializeResult(
            metadata={**found, "status": status, "online_as_of": current.as_of.isoformat()}
        )
    started = time.monotonic()
    written = materialize_current(group, build, runtime.settings, runtime.home)
    removed = forget_withdrawn(group, runtime.settings, runtime.home) if group.entity == USER else 0
    # Promote after the write: a crash in between leaves the pointer on the previous build until a rerun.
    runtime.builds.promote(group.name, build, group.version)
    seconds = time.monotonic() - started
    return dg.MaterializeResult(
        metadata={
            **found,
            "status": "online",
            "dagster/row_count": build.rows,
            "written": written,
            "removed": removed,
            "seconds": round(seconds, 3),
            "rows_per_second": round(written / seconds) if seconds else 0,
        }
    )
