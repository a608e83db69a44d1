"""Builds that disappear: the last good items keep serving, also after a restart."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from feature_repo.errors import BuildError, LakeError
from feature_repo.lake.lake import Build, Builds
from serving.items.item_store import ItemStore
from serving.scoring.blend import Gate, current_path, save_blend
from serving.scoring.blend_store import BlendStore
from tests.conftest import NOW
from tests.support.blends import simple_blend
from tests.support.ranking_data import item, items_table, neighbours_table


def build(root: Path, item_ids: list[str], hours: int = 0, group: str = "item_profile") -> Path:
    """Write and promote a build."""
    builds, at = Builds(root), NOW + timedelta(hours=hours)
    if group == "item_profile":
        table = items_table([item(i, [f"stock:{i}"]) for i in item_ids])
    else:
        table = neighbours_table({i: {} for i in item_ids}, dict.fromkeys(item_ids, 1))
    path = builds.write(group, at, table)
    builds.promote(group, Build(path, at, at, len(item_ids)))
    return path


@pytest.fixture
def features(tmp_path: Path) -> Path:
    return tmp_path / "features"


@pytest.fixture
def store(tmp_path: Path, features: Path) -> ItemStore:
    return ItemStore(features, tmp_path / "kept")


def unpromote(features: Path) -> None:
    (features / "item_profile" / "v1" / "CURRENT").unlink()


def misname(features: Path) -> None:
    shutil.rmtree(next((features / "item_profile" / "v1").glob("as_of=*")))


def unmount(features: Path) -> None:
    features.rename(features.with_name("elsewhere"))


def empty(features: Path) -> None:
    build(features, [], 1)


def lose_neighbours(features: Path) -> None:
    (features / "item_neighbours" / "v1" / "CURRENT").unlink()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (unpromote, "CURRENT: missing"),
        (misname, "not a readable build"),
        (unmount, "CURRENT: missing"),
        (empty, "CURRENT: names a build without rows"),
        (lose_neighbours, "item_neighbours.*CURRENT: missing"),
    ],
)
def test_builds_that_are_gone_are_a_failure_and_the_last_good_ones_stay(
    store: ItemStore, features: Path, tmp_path: Path, spoil: Callable[[Path], None], says: str
) -> None:
    build(features, ["i1", "i2"])
    build(features, ["i1"], group="item_neighbours")
    before = store.load()
    assert before is not None
    spoil(features)
    started = ItemStore(features, tmp_path / "kept")
    for reader in (store, started):
        with pytest.raises(LakeError, match=says):
            reader.load()
        again = reader.last_good()
        assert again is not None
        assert (again.version, again.item_ids) == (before.version, ("i1", "i2"))
        assert again.attributes.ids.keys() == {"stock:i1", "stock:i2"}
        assert again.neighbours_as_of == before.neighbours_as_of is not None


def test_nothing_is_missed_before_the_first_build(store: ItemStore, features: Path, tmp_path: Path) -> None:
    assert store.load() is None
    assert store.last_good() is None
    empty(features)
    assert store.load() is None, "a shop without items"
    assert not (tmp_path / "kept").exists()


def test_only_the_last_build_is_kept_and_takes_no_space_of_its_own(
    store: ItemStore, features: Path, tmp_path: Path
) -> None:
    build(features, ["i1"])
    store.load()
    path = build(features, ["i2"], 1)
    store.load()
    (kept,) = (tmp_path / "kept" / "item_profile").rglob("*.parquet")
    assert kept.samefile(path)
    shutil.rmtree(path.parent)  # like retention
    good = store.last_good()
    assert good is not None
    assert good.item_ids == ("i2",)


def test_a_build_made_again_as_of_the_same_time_is_kept(store: ItemStore, features: Path) -> None:
    build(features, ["i1"])
    store.load()
    build(features, ["i3"])
    store.load()
    good = store.last_good()
    assert good is not None
    assert good.item_ids == ("i3",)


def test_from_another_file_system_the_build_is_copied(
    store: ItemStore, features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_device(*_: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_device)
    path = build(features, ["i1"])
    store.load()
    (kept,) = (tmp_path / "kept" / "item_profile").rglob("*.parquet")
    assert not kept.samefile(path)
    assert pq.read_table(kept).equals(pq.read_table(path))
    inode = kept.stat().st_ino
    ItemStore(features, tmp_path / "kept").load()
    assert kept.stat().st_ino == inode, "the next worker does not copy it again"


def test_items_that_cannot_be_kept_are_not_dropped_with_their_build(
    store: ItemStore, features: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "kept").write_text("no folder")
    build(features, ["i1"])
    with caplog.at_level(logging.ERROR):
        assert store.load() is not None
    assert "cannot keep copies of the items for the next start" in caplog.text
    unpromote(features)
    with pytest.raises(LakeError, match="missing"):
        store.load()


def test_a_blend_that_is_gone_is_a_failure_and_the_last_good_one_stays(tmp_path: Path) -> None:
    models, kept = tmp_path / "models", tmp_path / "kept"
    store = BlendStore(models, kept)
    assert (store.load(), store.last_good()) == (None, None), "before the first fit"
    save_blend(models, simple_blend("popularity", Gate(passed=False, reason="of the test"), "7"))
    assert store.load() is not None
    current_path(models).unlink()
    for reader in (store, BlendStore(models, kept)):
        with pytest.raises(BuildError, match="CURRENT: missing; put it back, or fit again"):
            reader.load()
        good = reader.last_good()
        assert good is not None
        assert good.version == "7"
    (kept / "blend.json").write_text("{")
    with pytest.raises(BuildError, match="not a readable blend"):
        store.last_good()
    (kept / "blend.json").unlink()
    with pytest.raises(BuildError, match="missing"):
        store.load()
