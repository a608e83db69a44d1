"""The fitted blend, behind its do-no-harm gate."""

import time
from collections.abc import Sequence
from importlib import import_module

import dagster as dg

from feature_repo.group import FeatureGroup
from orchestration.defs.keys import BLEND, EVENTS, RUNTIME, features_key
from orchestration.runtime import Runtime


def blend_asset(batch: Sequence[FeatureGroup]) -> dg.AssetsDefinition:
    """Weights of the ranking signals, fitted on history; running servers pick up the newest."""

    @dg.asset(
        key=BLEND,
        deps=[EVENTS, *(features_key(group) for group in batch)],
        group_name="models",
        kinds={"scipy"},
        description="Blend weights fitted on history, with the gate's figures.",
        required_resource_keys={RUNTIME},
    )
    def blend(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        runtime: Runtime = context.resources.runtime
        started = time.monotonic()
        try:
            fit = import_module("orchestration.fit").fit_blend
        except ModuleNotFoundError as error:
            return dg.MaterializeResult(metadata={"status": f"not fitted: {error}"})
        found = fit(runtime.settings, runtime.home)
        return dg.MaterializeResult(
            metadata={
                "status": "fitted",
                "version": str(getattr(found, "version", "")),
                "blend": dg.MarkdownMetadataValue(f"```\n{found}\n```"),
                "seconds": round(time.monotonic() - started, 3),
            }
        )

    return blend
