"""Dagster's own home. Its `dagster.yaml` is generated, never edited by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from feature_repo.files import write_file
from feature_repo.home import Home

if TYPE_CHECKING:
    import dagster as dg

_YAML = """\
# Written by Headrace at each start.
freshness:
  enabled: true        # freshness policies are evaluated only when this is set
telemetry:
  enabled: false
nux:
  enabled: false       # no newsletter dialogue
concurrency:
  runs:
    max_concurrent_runs: 1   # a run uses every core; two would materialize each other's unchecked builds
retention:
  schedule:
    purge_after_days: 30
  sensor:
    purge_after_days:
      skipped: 1
      failure: 30
      success: 30
"""


def prepare_instance(home: Home) -> Path:
    """Write `dagster.yaml` under ``home.dagster``; return that folder (absolute), the ``DAGSTER_HOME``."""
    folder = home.dagster.resolve()
    write_file(folder / "dagster.yaml", _YAML, parents=True)
    return folder


def open_instance(home: Home) -> dg.DagsterInstance:
    """Open the instance whose runs the UI shows."""
    import dagster as dg  # noqa: PLC0415 - seconds, which `headrace up` does not need

    folder = prepare_instance(home)
    return dg.DagsterInstance.from_config(str(folder))
