"""The home folder proves itself writable before anything is lost."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from feature_repo.errors import SettingsError
from feature_repo.home import FOLDERS, Home, close_to_others


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


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def open_to_all(root: Path) -> tuple[Path, Path]:
    folder = root / "lake" / "day"
    folder.mkdir(parents=True)
    file = folder / "f.parquet"
    file.touch()
    for path in (root, root / "lake", folder):
        path.chmod(0o755)
    file.chmod(0o664)
    return folder, file


def test_a_home_that_others_could_read_is_closed_with_what_is_in_it(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    folder, file = open_to_all(home.root)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch(mode=0o644)
    elsewhere.chmod(0o644)
    (folder / "link").symlink_to(elsewhere)
    somebodys = home.root / "notes.txt"
    somebodys.touch()
    somebodys.chmod(0o644)
    home.ensure()
    assert [mode(p) for p in (home.root, home.lake, folder, file)] == [0o700, 0o700, 0o700, 0o600]
    assert mode(elsewhere) == 0o644, "a link is not followed"
    assert mode(somebodys) == 0o644, "what is not ours is left alone; nobody reaches it now"


def test_a_folder_shared_by_intent_stays_shared(tmp_path: Path) -> None:
    _, file = open_to_all(tmp_path / "home")
    (tmp_path / "home").chmod(0o1777)
    Home(tmp_path / "home").ensure()
    assert mode(tmp_path / "home") == 0o1777
    assert mode(file) == 0o664


def test_a_closed_home_is_not_walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "home").ensure()
    home.root.chmod(0o700)
    monkeypatch.setattr(os, "walk", lambda *_: pytest.fail("walked"))
    close_to_others(home.root)


def test_every_folder_of_ours_is_named() -> None:
    assert {"log", "lake", "quarantine", "features", "feast", "stream", "dagster", "logs"} <= set(FOLDERS)
