"""Finds the modules that a console command loads, by running it in a separate process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PLATFORM = (
    "dagster",
    "feast",
    "great_expectations",
    "duckdb",
    "bytewax",
    "pandas",
    "ibis",
    "sqlglot",
    "scipy",
    "fastapi",
    "redis",
    "confluent_kafka",
)
ARRAYS = ("numpy", "numba", "pyarrow")
_RUN = """
import sys
from orchestration import cli
sys.argv = ["headrace", *{arguments!r}]
try:
    cli.main()
except SystemExit as end:
    print("exit code", end.code, file=sys.stderr)
print("LOADED", *[m for m in {names!r} if m in sys.modules], file=sys.stderr)
"""


def loaded(home: Path, names: tuple[str, ...], arguments: list[str]) -> tuple[set[str], str]:
    """Return which of these modules a command loads, and its output."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    done = subprocess.run(
        [sys.executable, "-c", _RUN.format(arguments=arguments, names=names)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**environment, "HEADRACE_HOME": str(home)},
    )
    said = done.stdout + done.stderr
    return set(said.split("LOADED", 1)[1].split()), said
