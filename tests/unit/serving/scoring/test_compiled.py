"""Compiled loops give the same results as plain functions, with and without a writable cache."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from feature_repo.arrays import Floats
from serving.scoring import compiled as module
from serving.scoring.compiled import compiled


def _plain(values: Floats, by: float) -> Floats:
    out = np.empty(len(values))
    for i in range(len(values)):
        out[i] = values[i] / by
    return out


def test_a_compiled_loop_gives_what_the_plain_one_gives() -> None:
    values = np.random.default_rng(1).normal(size=50)
    assert compiled(_plain)(values, 3.0).tobytes() == _plain(values, 3.0).tobytes()


def test_division_by_zero_is_numpys() -> None:
    out = compiled(_plain)(np.array([1.0, -1.0, 0.0]), 0.0)
    assert out[0] == np.inf
    assert out[1] == -np.inf
    assert np.isnan(out[2])


def test_without_a_place_to_keep_machine_code_it_is_compiled_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = module.numba.njit

    def no_place(function: object, *, cache: bool = False, **options: str) -> object:
        if cache:
            message = "cannot cache function '_plain': no locator available for file 'x.py'"
            raise RuntimeError(message)
        return real(function, **options)

    monkeypatch.setattr(module.numba, "njit", no_place)
    with caplog.at_level("INFO"):
        function = compiled(_plain)
    assert function(np.array([4.0]), 2.0).tolist() == [2.0]
    assert "compiled again in each process" in caplog.text
    assert "no locator" in caplog.text


def test_a_second_process_takes_the_machine_code_of_the_first(tmp_path: Path) -> None:
    source = (
        "import numpy as np\n"
        "from serving.scoring.compiled import compiled\n"
        "@compiled\n"
        "def double(values):\n"
        "    return values * 2.0\n"
        "assert double(np.ones(2)).tolist() == [2.0, 2.0]\n"
        "print(sum(double.stats.cache_hits.values()), sum(double.stats.cache_misses.values()))\n"
    )
    script = tmp_path / "twice.py"
    script.write_text(source)
    here = str(Path(module.__file__).parents[1])

    def hits_and_misses() -> str:
        command = [sys.executable, str(script)]
        environment = {"PYTHONPATH": here, "PATH": "", "HOME": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return done.stdout.strip()

    assert hits_and_misses() == "0 1"
    assert hits_and_misses() == "1 0"
