"""One asset and its checks per batch feature group. Nothing here names a group: a new group file suffices."""

import time
from collections.abc import Iterator

import dagster as dg

from feature_repo.errors import BuildError
from feature_repo.group import EVENT_TIMESTAMP, FeatureGroup
from feature_repo.settings import Settings
from orchestration.builds.build import as_of_day, build_group, build_of_day, inputs_of
from orchestration.builds.versions import code_version
from orchestration.defs.about import page_links, tags_of
from orchestration.defs.keys import EVENTS, ITEMS, RUNTIME, USERS, days_of, features_key
from orchestration.defs.metadata import file_metadata
from orchestration.defs.results import check_results, check_specs, kept_age
from orchestration.lineage.columns import SCHEMA, group_schema, lineage_metadata, traced_lineage
from orchestration.lineage.group_lineage import kept_sources
from orchestration.runtime import Runtime


def group_asset(
    group: FeatureGroup, partitions: dg.PartitionsDefinition, settings: Settings
) -> dg.AssetsDefinition:
    """Define a group's builds: one per day, as of the day's end (or as of now while the day lasts)."""

    @dg.asset(
        key=features_key(group),
        deps=[EVENTS, ITEMS, USERS, *(features_key(name) for name in group.depends_on)],
        partitions_def=partitions,
        group_name="features",
        kinds={"duckdb", "parquet"},
        owners=settings.owners,
        tags=tags_of(group, "batch"),
        description=group.meaning,
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=group.freshness),
        code_version=code_version(group),
        metadata={SCHEMA: group_schema(group), **page_links(settings, drift=True)},
        required_resource_keys={RUNTIME},
    )
    def features(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        runtime: Runtime = context.resources.runtime
        started, began = time.monotonic(), runtime.clock()
        [day] = days_of(context)
        as_of = as_of_day(day, runtime.now())
        build = build_group(group, runtime.settings, runtime.home, as_of, runtime.clock)
        return dg.MaterializeResult(
            metadata={
                **file_metadata([build.path], EVENT_TIMESTAMP),
                **lineage_metadata(traced_lineage(kept_sources(group, runtime.settings, runtime.home))),
                "as_of": as_of.isoformat(),
                "unchanged": build.created < began,
                "seconds": round(time.monotonic() - started, 3),
                "path": dg.PathMetadataValue(str(build.path)),
            },
            data_version=dg.DataVersion(inputs_of(build.path) or ""),
        )

    return features


def group_check(group: FeatureGroup, partitions: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    """Define the checks of the day's build: blocking expectations and advisory ones.

    A build that fails leaves the history, so no training set, drift reference or restart reads it.
    """
    key = features_key(group)

    @dg.multi_asset_check(
        name=f"check_{group.view_name}",
        specs=check_specs(key, partitions),
        required_resource_keys={RUNTIME},
    )
    def check(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        from quality.checks.proposals import accepted  # noqa: PLC0415
        from quality.checks.report import check_group  # noqa: PLC0415 - Great Expectations takes seconds to import
        from quality.gate.build_gate import Gate  # noqa: PLC0415

        runtime: Runtime = context.resources.runtime
        [day] = days_of(context)
        build = build_of_day(runtime.builds, group, day)
        if build is None:
            msg = f"{group.name}: no build of {day} to check; materialize its partition first"
            raise BuildError(msg)
        quality = runtime.home.quality
        bounds = accepted(quality, group)
        report = check_group(group, build.path, runtime.home.docs, bounds, kept_age(context))
        report = Gate(quality, runtime.clock).judge(group.view_name, build.as_of, report)
        if report.passed:
            runtime.builds.confirm(build)
        else:
            runtime.builds.hold_back(group.name, build, group.version)
        yield from check_results([report], key, runtime.page_url)

    return check
