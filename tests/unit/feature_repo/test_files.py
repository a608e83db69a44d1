"""Files are replaced as a whole, whoever else writes them and whatever fails."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from feature_repo.files import make_folder, replacing, write_file


def test_content_is_replaced_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "state.json"
    write_file(path, "one", parents=True)
    write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["state.json"]


def test_a_missing_folder_is_made_only_if_asked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "not" / "mounted", "x")
    assert os.listdir(tmp_path) == []


def test_text_is_utf8(tmp_path: Path) -> None:
    write_file(tmp_path / "t", "grün")
    assert (tmp_path / "t").read_bytes() == "grün".encode()


def test_an_error_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_file(path, "old")

    def fails() -> None:
        with replacing(path) as aside:
            aside.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fails()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["state"]


def test_what_was_not_written_is_an_error(tmp_path: Path) -> None:
    def writes_nothing() -> None:
        with replacing(tmp_path / "state"):
            pass

    with pytest.raises(FileNotFoundError):
        writes_nothing()
    assert os.listdir(tmp_path) == []


def test_concurrent_writers_each_leave_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    contents = [bytes([n]) * 50_000 for n in range(8)]
    write_file(path, contents[0])
    torn: list[int] = []

    def write(content: bytes) -> None:
        for _ in range(20):
            write_file(path, content)
            if (seen := path.read_bytes()) not in contents:
                torn.append(len(seen))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, contents))
    assert torn == []
    assert os.listdir(tmp_path) == ["state"]


def test_a_link_to_the_same_file_leaves_no_second_name(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_text("one")
    with replacing(path) as aside:
        os.link(path, aside)
    assert os.listdir(tmp_path) == ["state"]


def test_a_private_file_is_its_owners_alone(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        write_file(tmp_path / "secret", "x", private=True)
        write_file(tmp_path / "public", "x")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "public").stat().st_mode) == 0o666


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("x")
    make_folder(tmp_path)
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "kept").read_text() == "x"
    assert (tmp_path / "a" / "b").is_dir()
