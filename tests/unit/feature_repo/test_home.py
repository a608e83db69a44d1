"""The home folder proves itself writable before anything is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from feature_repo.errors import SettingsError
from feature_repo.home import Home


def test_ensure_creates_the_folder_and_leaves_no_trace(tmp_path: Path) -> None:
    home = Home(tmp_path / "a" / "b").ensure()
    assert home.root.is_dir()
    assert list(home.root.iterdir()) == []


def test_a_home_that_cannot_be_made_names_the_variable_and_the_folder(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.touch()
    with pytest.raises(SettingsError, match=r"HEADRACE_HOME=.*file/home.*point HEADRACE_HOME at a folder"):
        Home(blocker / "home").ensure()


def test_a_home_that_cannot_be_written_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write anywhere, so the refusal itself is played: a read-only mount answers just so.
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(30, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(SettingsError, match=r"HEADRACE_HOME=.*not writable \(Read-only file system\)"):
        Home(tmp_path).ensure()


def test_every_place_lies_under_the_root(tmp_path: Path) -> None:
    home = Home(tmp_path)
    places = [getattr(home, n) for n, v in vars(Home).items() if isinstance(v, property)]
    assert len(places) > 5
    assert all(p.parent == tmp_path for p in places)
    assert len(set(places)) == len(places)
