"""The fitted blend and its do-no-harm gate."""

import time
from collections.abc import Iterator, Mapping, Sequence

import dagster as dg
import msgspec

from feature_repo.group import FeatureGroup
from feature_repo.settings import Settings
from orchestration.defs.about import LAYER
from orchestration.defs.keys import BLEND, EVENTS, RUNTIME, features_key
from orchestration.runtime import Runtime

GATE = "gate"


def ranker_table(rankers: Mapping[str, float]) -> dg.TableMetadataValue:
    """NDCG@10 of every simple ranker on the newest lists, the best first."""
    schema = dg.TableSchema([dg.TableColumn("ranker", "string"), dg.TableColumn("ndcg_10", "float")])
    ranked = sorted(rankers.items(), key=lambda pair: -pair[1])
    rows = [dg.TableRecord({"ranker": name, "ndcg_10": round(value, 4)}) for name, value in ranked]
    return dg.MetadataValue.table(rows, schema=schema)


def blend_asset(batch: Sequence[FeatureGroup], settings: Settings) -> dg.AssetsDefinition:
    """Define the weights of the ranking signals, fitted on history; running servers load the newest."""

    @dg.asset(
        key=BLEND,
        deps=[EVENTS, *(features_key(group) for group in batch)],
        group_name="models",
        kinds={"python", "scipy"},
        owners=settings.owners,
        tags={LAYER: "model"},
        description="Blend weights fitted on history, with the gate's figures.",
        check_specs=[
            dg.AssetCheckSpec(
                GATE,
                asset=BLEND,
                description="Whether the fitted blend beats the simple orders on held-out lists.",
            )
        ],
        required_resource_keys={RUNTIME},
    )
    def blend(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        from orchestration.evaluation.fit_blend import fit_blend  # noqa: PLC0415 - scipy and numba take seconds to import

        runtime: Runtime = context.resources.runtime
        started = time.monotonic()
        found = fit_blend(runtime.settings, runtime.home)
        gate = msgspec.to_builtins(found.gate)
        yield dg.MaterializeResult(
            metadata={
                "version": found.version,
                "serves": found.ranker or found.kind,
                "decision": found.gate.reason,
                "gate": dg.JsonMetadataValue(gate),
                "rankers": ranker_table(found.gate.rankers),
                "weights": dg.JsonMetadataValue(dict(zip(found.names, found.weights, strict=True))),
                "seconds": round(time.monotonic() - started, 3),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name=GATE,
                    passed=found.gate.passed,
                    severity=dg.AssetCheckSeverity.WARN,
                    description=found.gate.reason,
                    metadata={"serves": found.ranker or found.kind, "gate": dg.JsonMetadataValue(gate)},
                )
            ],
        )

    return blend
