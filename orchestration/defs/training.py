"""The training set, its leakage check, and the configuration of a run."""

import time
from collections.abc import Sequence
from datetime import date, timedelta

import dagster as dg
import pyarrow.parquet as pq
from pydantic import Field

from feature_repo.errors import BuildError
from feature_repo.group import FeatureGroup
from feature_repo.settings import Settings
from orchestration.defs.about import LAYER, page_links
from orchestration.defs.keys import EVENTS, RUNTIME, TRAINING_SET, features_key
from orchestration.defs.metadata import PREVIEW_ROWS, preview
from orchestration.defs.results import result_of
from orchestration.runtime import Runtime
from orchestration.training.spec import TrainingSpec

CHECK = "contract_and_leakage"
_DAYS = 14


class TrainingConfig(dg.Config):
    """Selects the decisions that become examples."""

    first: str | None = Field(None, description="First event day, e.g. 2024-05-01; default: 14 days back.")
    last: str | None = Field(None, description="Last event day; default: the lake's newest.")
    attribution_hours: float = Field(
        1.0, description="How long after a decision an event is attributed to it."
    )
    embargo_hours: float = Field(
        1.0, description="Gap before validation and test; at least attribution_hours."
    )

    def spec(self, newest: date) -> TrainingSpec:
        """Build the specification of the set.

        Raises:
            BuildError: a day is not a date, or bounds contradict each other.
        """
        last = _day(self.last, "last") or newest
        first = _day(self.first, "first") or last - timedelta(days=_DAYS - 1)
        return TrainingSpec(
            first,
            last,
            timedelta(hours=self.attribution_hours),
            timedelta(hours=self.embargo_hours),
        )


def training_asset(batch: Sequence[FeatureGroup], settings: Settings) -> dg.AssetsDefinition:
    """Define the examples with labels and features as of the decision."""

    @dg.asset(
        key=TRAINING_SET,
        deps=[EVENTS, *(features_key(group) for group in batch)],
        group_name="training",
        kinds={"duckdb", "parquet"},
        owners=settings.owners,
        tags={LAYER: "training"},
        metadata=page_links(settings),
        description="What was shown, the outcome, and the features as of the decision.",
        required_resource_keys={RUNTIME},
    )
    def training_set(context: dg.AssetExecutionContext, config: TrainingConfig) -> dg.MaterializeResult[None]:
        from orchestration.training.dataset import TrainingSet, training_folder  # noqa: PLC0415 - numba is slow
        from orchestration.training.logged import logged_decisions  # noqa: PLC0415

        runtime: Runtime = context.resources.runtime
        started = time.monotonic()
        newest = runtime.newest_day()
        if newest is None:
            msg = f"{runtime.lake.root}: holds no events to learn from; `headrace ingest PATH` fills it"
            raise BuildError(msg)
        spec = config.spec(newest)
        decisions = logged_decisions(runtime.settings, runtime.home, spec.first, spec.last)
        card = TrainingSet(spec, runtime.settings, runtime.home, runtime.clock, decisions).make()
        path = training_folder(runtime.home) / "data.parquet"
        with pq.ParquetFile(path) as file:
            head = next(file.iter_batches(batch_size=PREVIEW_ROWS, columns=file.schema_arrow.names[:12]))
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": sum(card.rows.values()),
                "card": dg.MarkdownMetadataValue(card.markdown()),
                "preview": dg.MarkdownMetadataValue(preview(head)),
                "path": dg.PathMetadataValue(str(path)),
                "seconds": round(time.monotonic() - started, 3),
            },
            data_version=dg.DataVersion(card.inputs),
        )

    return training_set


def training_check() -> dg.AssetChecksDefinition:
    """Define the check of keys, times and splits, and of features that leak the label."""

    @dg.asset_check(
        asset=TRAINING_SET,
        name=CHECK,
        blocking=True,
        description="Schema, splits, times, and that no single feature gives the label away.",
        required_resource_keys={RUNTIME},
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        from orchestration.training.dataset import training_folder  # noqa: PLC0415
        from quality.checks.training_set import check_training_set  # noqa: PLC0415 - Great Expectations imports slowly

        runtime: Runtime = context.resources.runtime
        path = training_folder(runtime.home) / "data.parquet"
        return result_of(check_training_set(path, runtime.home.docs), runtime.page_url)

    return check


def _day(value: str | None, name: str) -> date | None:
    try:
        return None if value is None else date.fromisoformat(value)
    except ValueError as error:
        msg = f"{name}: {value!r} is not a date; write e.g. 2024-05-31"
        raise BuildError(msg) from error
