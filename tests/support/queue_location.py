"""A code location with the chain's name, sensor and selection; its assets only wait for a file to vanish."""

import time
from collections.abc import Iterator

import dagster as dg

from feature_repo.settings import load_settings
from orchestration.defs import jobs, keys
from orchestration.defs.selection import chain_selection
from orchestration.defs.sensors import lake_sensor
from orchestration.runtime import Runtime

HELD = "hold"
_LONGEST_S = 120

runtime = Runtime.of(load_settings())
partitions = keys.daily_partitions(runtime)
everything = chain_selection((), blend=True, drift=True)


@dg.multi_asset(
    specs=[dg.AssetSpec(key, partitions_def=partitions) for key in everything.assets],
    check_specs=[dg.AssetCheckSpec(key.name, asset=key.asset_key) for key in everything.checks],
    can_subset=True,
)
def chain(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    deadline = time.monotonic() + _LONGEST_S
    while (runtime.home.root / HELD).exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for key in context.selected_asset_keys:
        yield dg.MaterializeResult(asset_key=key)
    for check in context.selected_asset_check_keys:
        yield dg.AssetCheckResult(passed=True, asset_key=check.asset_key, check_name=check.name)


feature_chain = dg.define_asset_job(jobs.CHAIN, selection=dg.AssetSelection.all())
lake_days = dg.define_asset_job(jobs.LAKE, selection=dg.AssetSelection.assets(keys.EVENTS))
defs = dg.Definitions(
    assets=[chain],
    jobs=[feature_chain, lake_days],
    sensors=[lake_sensor([feature_chain, lake_days], partitions, runtime, ())],
    executor=dg.in_process_executor,
)
