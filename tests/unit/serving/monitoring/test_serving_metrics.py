"""Serving's metrics: counters that alerts watch exist from the start."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import serving
from serving.monitoring.metrics import DROPPED, MULTIPROCESS, RELOADED, Metrics

SOURCES = [path.read_text() for path in Path(serving.__file__).parent.rglob("*.py")]


def in_code(pattern: str) -> set[str]:
    """Return the matches of a pattern's group in serving's code."""
    return {found for source in SOURCES for found in re.findall(pattern, source)}


def test_what_may_fail_stands_at_zero_before_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """`increase()` misses the first increment of a counter that did not exist before."""
    monkeypatch.delenv(MULTIPROCESS, raising=False)
    text = Metrics().render().decode()
    for what in RELOADED:
        assert f'headrace_reload_failures_total{{what="{what}"}} 0.0' in text
    for reason in DROPPED:
        assert f'headrace_decisions_dropped_total{{reason="{reason}"}} 0.0' in text


def test_all_that_may_fail_is_known() -> None:
    assert in_code(r'_on_dropped\(\s*"(\w+)"') == set(DROPPED)
    assert in_code(r'Watched\(\s*"(\w+)"') == set(RELOADED)
