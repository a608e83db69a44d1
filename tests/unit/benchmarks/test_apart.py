"""Measuring apart: seconds and memory are the call's own, what is spilled is seen, a failure is said."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks._apart import apart, folder_bytes, peak_mib
from benchmarks.harness import BenchmarkError


def spend(folder: Path, mib: int) -> None:
    held = bytearray(mib * 2**20)
    held[::4096] = b"x" * len(held[::4096])
    (folder / "spilled").write_bytes(b"x" * 5 * 2**20)
    time.sleep(0.3)
    (folder / "spilled").unlink()


def fail() -> None:
    raise SystemExit(3)


def test_memory_is_that_of_the_call_and_not_of_whoever_asks(tmp_path: Path) -> None:
    held = bytearray(400 * 2**20)
    held[::4096] = b"x" * len(held[::4096])
    little, much = apart(spend, tmp_path, 1), apart(spend, tmp_path, 150, spill=tmp_path)
    assert peak_mib() > 400
    assert little.peak_mib < 300
    assert 100 < much.peak_mib - little.peak_mib < 200
    assert (little.spilled_mib, round(much.spilled_mib)) == (0, 5)
    assert much.seconds >= 0.3


def test_a_failing_call_is_reported() -> None:
    with pytest.raises(BenchmarkError, match="fail ended with 3"):
        apart(fail)


def test_a_folder_holds_what_its_files_hold(tmp_path: Path) -> None:
    assert folder_bytes(tmp_path / "none") == 0
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"x" * 8192)
    assert folder_bytes(tmp_path) >= 8192
