"""Jobs: the whole chain of one day, and the lake alone for many."""

from typing import TypeAlias

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from orchestration.defs.keys import EVENTS, PARITY

Job: TypeAlias = UnresolvedAssetJobDefinition
"""What `define_asset_job` returns; Dagster exports no public name for it."""

CHAIN, LAKE = "feature_chain", "lake_days"


def chain_job() -> Job:
    """Events to Feast views and the blend, with every check, for one day."""
    return dg.define_asset_job(
        CHAIN,
        selection=dg.AssetSelection.all() - dg.AssetSelection.assets(PARITY),
        description="Log → lake → checks → features → checks → Feast, and the blend.",
    )


def lake_job() -> Job:
    """Events of a range of days, in one run."""
    return dg.define_asset_job(
        LAKE,
        selection=dg.AssetSelection.assets(EVENTS),
        description="What the lake holds, for a range of days in one run.",
    )
