"""A kill switch on a full disk: a real full file system, and a process that may not write."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from feature_repo.clock import wall_clock
from serving.control.flag_store import FlagStore
from serving.control.flags import Flags
from serving.control.versions import NotStoredError

Body = Callable[..., dict[str, Any]]


class Disk:
    """A file system of half a megabyte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ballast = folder / "ballast"

    def fill(self) -> None:
        """Fill it to the last byte."""
        with self.ballast.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 512)

    def spend_reserve(self) -> None:
        """Take all remaining space like another process: the reserve, and the rest of the log's last page."""
        audit = self.folder / "flags" / "audit.jsonl"
        (self.folder / "flags" / ".reserve").unlink(missing_ok=True)
        with audit.open("ab") as file:
            file.write(b"\n" * (-audit.stat().st_size % resource.getpagesize()))
        self.fill()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(folder)]
    try:
        refused = os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode
    except FileNotFoundError:
        refused = True
    if refused:
        pytest.skip("mounting a tmpfs needs root and the mount capability")
    yield Disk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


def told(store: FlagStore) -> list[tuple[str, bool]]:
    return [(change.who, change.after.personalization) for change in store.history()]


def test_the_reserve_pays_for_a_kill_switch(disk: Disk) -> None:
    store = FlagStore(disk.folder / "flags", wall_clock)
    store.change({"holdout": 0.2}, "ann")
    disk.fill()
    assert not store.change({"personalization": False}, "bob").personalization
    for reader in (store, FlagStore(store.root, wall_clock)):
        assert reader.load() == Flags(holdout=0.2, personalization=False)
        assert told(reader) == [("ann", True), ("bob", False)]
        assert reader.load() == reader.load()
    assert json.loads(store.path.read_bytes())["personalization"] is False


def test_without_a_reserve_a_change_is_refused_whole(disk: Disk) -> None:
    store = FlagStore(disk.folder / "flags", wall_clock)
    before = store.change({"holdout": 0.2}, "ann")
    disk.fill()
    disk.spend_reserve()
    audit = (store.root / "audit.jsonl").read_bytes()
    for number in range(3):
        with pytest.raises(NotStoredError, match=r"nothing was changed.*No space left") as caught:
            store.change({"personalization": False, "holdout": number / 10}, "bob")
        assert caught.value.value == Flags(holdout=number / 10, personalization=False)
    assert store.load() == before
    assert (store.root / "audit.jsonl").read_bytes() == audit, "no part of a line"
    assert not list(store.root.glob("*.tmp"))
    disk.ballast.unlink()
    assert store.change({"personalization": False}, "bob") == Flags(holdout=0.2, personalization=False)
    assert told(store) == [("ann", True), ("bob", False)]


def test_a_rollback_is_refused_whole_too(disk: Disk) -> None:
    store = FlagStore(disk.folder / "flags", wall_clock)
    store.change({"holdout": 0.2}, "ann")
    after = store.change({"personalization": False}, "ann")
    disk.fill()
    disk.spend_reserve()
    with pytest.raises(NotStoredError) as caught:
        store.rollback("bob")
    assert caught.value.value == Flags(holdout=0.2)
    assert store.load() == after


def test_a_running_worker_is_killed_in_memory_and_says_so(
    disk: Disk,
    make_shop: Callable[..., Any],
    serving: Callable[..., Any],
    body: Body,
    until: Callable[..., Any],
) -> None:
    shop = make_shop(budget_ms=10_000, store_budget_ms=5_000)
    moved = disk.folder / "flags"
    shop.home.flags.rename(shop.home.flags.with_name("flags-before"))
    shop.home.flags.symlink_to(moved)
    moved.mkdir()
    for path in shop.home.flags.with_name("flags-before").iterdir():
        (moved / path.name).write_bytes(path.read_bytes())

    def degraded(client: httpx.Client) -> list[str]:
        found: list[str] = (
            client.post("/v1/rank", json=body(9, user_id="u")).raise_for_status().json()["degraded"]
        )
        return found

    def unstored(client: httpx.Client) -> list[str]:
        found: list[str] = client.get("/readyz").json()["personalization"]["unstored_flags"]
        return found

    with serving(shop.settings) as client:
        assert (degraded(client), unstored(client)) == ([], [])
        disk.fill()
        disk.spend_reserve()
        answer = client.patch("/v1/flags", json={"personalization": False})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "flags_not_stored")
        assert "No space left on device" in answer.text
        assert "in force in this worker only" in answer.text
        assert degraded(client) == ["personalization_off"], "at once"
        assert unstored(client) == ["personalization"]
        again = client.patch("/v1/flags", json={"holdout": 0.3})
        assert again.status_code == 503
        assert degraded(client) == ["personalization_off"], "a further change does not undo it"
        assert unstored(client) == ["personalization", "holdout"]
        assert client.get("/v1/flags").json()["personalization"] is True, "what is stored"
        disk.ballast.unlink()
        until(lambda: not unstored(client))
        assert degraded(client) == ["personalization_off"]
        assert client.get("/v1/flags").json()["personalization"] is False
        newest = client.get("/v1/flags/history").json()[-1]
        assert (newest["who"], newest["after"]["holdout"]) == ("local", 0.3)


BOUNDED = """
    import resource, signal, sys
    from pathlib import Path
    from feature_repo.clock import wall_clock
    from serving.control.flag_store import FlagStore
    from serving.control.versions import NotStoredError

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = FlagStore(Path(sys.argv[1]), wall_clock)
    before = store.change({"holdout": 0.2}, "ann")
    size = (store.root / "audit.jsonl").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, resource.RLIM_INFINITY))
    try:
        store.change({"personalization": False}, "bob")
    except NotStoredError as error:
        print(error)
    assert store.load() == before
    assert (store.root / "audit.jsonl").stat().st_size == size
    assert [change.who for change in store.history()] == ["ann"]
"""


def test_part_of_a_line_is_taken_back(tmp_path: Path) -> None:
    """Use a process that may write only ten more bytes; this needs no root."""
    if not hasattr(resource, "RLIMIT_FSIZE"):
        pytest.skip("no RLIMIT_FSIZE here")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(BOUNDED), str(tmp_path / "flags")],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "flags: nothing was changed, the flags folder cannot be written (File too large)\n"
    )
