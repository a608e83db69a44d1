"""Headrace as a user runs it: the console script, in a process of its own or called as it would be."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestration.cli import main

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(home: Path, **settings: object) -> dict[str, str]:
    """The environment of a user whose settings are these."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    named = {f"HEADRACE_{k}".upper(): str(v) for k, v in settings.items()}
    return {**kept, "HEADRACE_HOME": str(home), "COLUMNS": "200", "NO_COLOR": "1", **named}


def command(*arguments: str) -> list[str]:
    """The console script with arguments."""
    return [sys.executable, "-m", "orchestration.cli", *arguments]


@pytest.fixture
def headrace(tmp_path: Path) -> Run:
    """Runs ``headrace ARGUMENTS`` to its end on a home of this test's own."""

    def run(
        *arguments: str, home: Path | None = None, settings: Mapping[str, object] = {}, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments),
            env=environment(home or tmp_path / "home", **settings),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


def readable_by_others(home: Path) -> list[str]:
    """What below a home other users of the machine may read, write or enter."""
    found = [home, *home.rglob("*")]
    return [str(p) for p in found if not p.is_symlink() and stat.S_IMODE(p.stat().st_mode) & 0o077]


@dataclass(frozen=True)
class Said:
    """How a command ended and what it printed."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """The console script's entry point in this process: the same code, without a second of start-up each."""

    def run(*arguments: str, home: Path | None = None, settings: Mapping[str, object] = {}) -> Said:
        with monkeypatch.context() as patch:
            for name, value in environment(home or tmp_path / "home", **settings).items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["headrace", *arguments])
            capfd.readouterr()
            try:
                main()
                code = 0
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            return Said(code, *capfd.readouterr())

    return run
