"""Assets of the lake: the event log, events by day, the newest item and user records."""

import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg

from feature_repo.contract.validation import Kind
from feature_repo.lake.lake import unreadable
from feature_repo.settings import Settings, with_registered
from orchestration.builds.fingerprint import fingerprint
from orchestration.defs.about import LAYER, page_links
from orchestration.defs.keys import EVENT_LOG, EVENTS, ITEMS, RUNTIME, USERS, days_of
from orchestration.defs.metadata import file_metadata
from orchestration.defs.results import check_results, check_specs, kept_age
from orchestration.lineage.columns import SCHEMA, lineage_metadata, record_lineage, record_schema
from orchestration.runtime import Runtime

_LOG_KINDS = {"segments": "file", "redis": "redis", "kafka": "kafka"}
_RECORDS: dict[dg.AssetKey, tuple[Kind, str]] = {
    ITEMS: ("item", "Item records as ingested; the newest of each id counts."),
    USERS: ("user", "User records as ingested; the newest of each id counts."),
}


def event_log(settings: Settings) -> dg.AssetSpec:
    """Define the log: the doors write it, the lake and the stream read it; Dagster only shows it."""
    return dg.AssetSpec(
        EVENT_LOG,
        description="The event log: everything that passed the contract, in order of arrival.",
        group_name="lake",
        kinds={_LOG_KINDS[settings.event_log], "source"},
        owners=settings.owners,
        tags={LAYER: "source"},
        metadata={SCHEMA: record_schema("event", "item", "user")},
    )


def events_asset(partitions: dg.PartitionsDefinition, settings: Settings) -> dg.AssetsDefinition:
    """Define events by day: sync the lake with the log, then report what each day holds."""

    @dg.asset(
        key=EVENTS,
        deps=[EVENT_LOG],
        partitions_def=partitions,
        group_name="lake",
        kinds={"parquet"},
        owners=settings.owners,
        tags={LAYER: "lake", "headrace/record": "event"},
        description="Events of one day, each event id once.",
        metadata={SCHEMA: record_schema("event"), **page_links(settings, drift=True)},
        required_resource_keys={RUNTIME},
    )
    def events(context: dg.AssetExecutionContext) -> None:
        runtime: Runtime = context.resources.runtime
        started = time.monotonic()
        changed = runtime.sync(runtime.settings, runtime.home)
        context.log.info("log → lake: %d days gained events", len(changed))
        for day in days_of(context):
            key = day.isoformat()
            found = _metadata(runtime.lake.files_of(day), "event_time")
            lineage = lineage_metadata(record_lineage("event", EVENT_LOG))
            context.add_asset_metadata({**found, **lineage, "synced": day in changed}, partition_key=key)
        context.log.info("%.1f s", time.monotonic() - started)

    return events


def events_check(partitions: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    """Define the check of the event contract over the days of the run."""

    @dg.multi_asset_check(
        name="check_events", specs=check_specs(EVENTS, partitions), required_resource_keys={RUNTIME}
    )
    def check(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        from quality.checks.rejections import check_door, rejections  # noqa: PLC0415
        from quality.checks.report import check_events  # noqa: PLC0415 - Great Expectations takes seconds to import
        from quality.quarantine.store import Quarantine  # noqa: PLC0415

        runtime: Runtime = context.resources.runtime
        # An ingest may have registered event types since this process read its settings.
        settings = with_registered(runtime.settings)
        rejected = rejections(Quarantine(runtime.home.quarantine, runtime.clock).entries())
        reports = [
            check_events(
                runtime.lake.files("event", day, day + timedelta(days=1)),
                runtime.home.docs,
                settings=settings,
                day=day,
                keep_page=kept_age(context),
            )
            for day in days_of(context)
        ]
        doors = [
            check_door(day, report.rows, rejected.get(day, Counter()))
            for day, report in zip(days_of(context), reports, strict=True)
        ]
        yield from check_results([*doors, *reports], EVENTS, runtime.page_url)

    return check


def record_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Define items and users, unpartitioned, because their records have no event time."""
    return [_record_asset(key, kind, text, settings) for key, (kind, text) in _RECORDS.items()]


def _record_asset(key: dg.AssetKey, kind: Kind, description: str, settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        key=key,
        deps=[EVENT_LOG],
        group_name="lake",
        kinds={"parquet"},
        owners=settings.owners,
        tags={LAYER: "lake", "headrace/record": kind},
        description=description,
        metadata={SCHEMA: record_schema(kind)},
        required_resource_keys={RUNTIME},
    )
    def records(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        runtime: Runtime = context.resources.runtime
        runtime.sync(runtime.settings, runtime.home)
        files = runtime.lake.files(kind)
        return dg.MaterializeResult(
            metadata={
                **_metadata(files, "ingested_at"),
                **lineage_metadata(record_lineage(kind, EVENT_LOG)),
            },
            data_version=dg.DataVersion(fingerprint(files)),
        )

    return records


def _metadata(files: list[str], column: str) -> dict[str, Any]:
    if bad := unreadable(files):
        raise bad
    return file_metadata(files, column)
