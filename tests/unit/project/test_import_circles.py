"""No module imports itself over others: neither at its top nor in a function nor for types only."""

from __future__ import annotations

import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

PACKAGES = ("feature_repo", "quality", "streaming", "serving", "orchestration")


def circle_of(*packages: str) -> list[str]:
    """The modules of a circle, each importing the one before it; empty where there is none."""
    graph = grimp.build_graph(*packages, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_import_leads_back() -> None:
    assert circle_of(*PACKAGES) == []


@pytest.mark.parametrize(
    "back",
    [
        "from circled.low import x",
        "def f():\n    from circled.low import x",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from circled.low import x",
    ],
    ids=["at the top", "in a function", "for types"],
)
def test_a_circle_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back: str) -> None:
    package = tmp_path / "circled"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "low.py").write_text("from circled.high import y\nx = 1\n")
    (package / "high.py").write_text(f"{back}\ny = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert set(circle_of("circled")) == {"circled.low", "circled.high"}
    sys.modules.pop("circled", None)
