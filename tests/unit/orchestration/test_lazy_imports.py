"""What loading Dagster's code location must not import: each takes a second or more in several processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SLOW = (
    *("feast", "great_expectations", "ibis", "matplotlib", "numba"),
    *("pandas", "scipy", "sqlalchemy", "bytewax"),
)


def test_the_definitions_load_without_the_slow_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    code = (
        "import sys, orchestration.definitions; "
        "orchestration.definitions.defs.get_repository_def(); "
        f"print(*sorted(set(sys.modules) & set({SLOW!r})))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
