"""What a user reads when something is wrong: one line that names it and says what would be right."""

from __future__ import annotations

import gzip
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest


class Said(Protocol):
    """How a command ended and what it printed."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Said]

EVENT = (
    '{"record":"event","event_id":"e1","event_type":"view","event_time":"2024-05-01T12:00:00Z",'
    '"session_id":"s1","item_id":"i1"}\n'
)


def told(result: Said) -> str:
    """Everything said, as one line."""
    said = " ".join((result.stdout + " " + result.stderr).split())
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"port": "eighty"}, ["HEADRACE_PORT='eighty'", "valid integer"]),
        ({"budget_ms": -1}, ["HEADRACE_BUDGET_MS='-1'", "greater than 0"]),
        ({"event_log": "pulsar"}, ["HEADRACE_EVENT_LOG='pulsar'", "'segments', 'redis' or 'kafka'"]),
        ({"event_weights": "bookmark"}, ["HEADRACE_EVENT_WEIGHTS='bookmark'", "bookmark=2,comment=3"]),
        ({"earliest_event_time": "2020-01-01T00:00:00"}, ["HEADRACE_EARLIEST_EVENT_TIME needs a time zone"]),
        ({"store_budget_ms": 50}, ["HEADRACE_STORE_BUDGET_MS (50) must not exceed HEADRACE_BUDGET_MS (30)"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_bad_setting_is_named(cli: Run, settings: dict[str, object], parts: list[str]) -> None:
    result = cli("serve", settings=settings)
    assert result.returncode == 2
    said = told(result)
    assert all(part in said for part in parts), said


def test_an_empty_setting_is_not_a_silent_default(headrace: Run) -> None:
    result = headrace("serve", settings={"port": ""})
    assert result.returncode == 2
    assert "HEADRACE_PORT=''" in told(result)


def test_a_port_in_use_is_named_with_the_way_out(cli: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        serve = cli("serve", settings={"port": port})
        assert serve.returncode == 2
        assert f"HEADRACE_PORT={port}: cannot listen (Address already in use)" in told(serve)
        up = cli("up", settings={"dagster_port": port})
        assert up.returncode == 2
        assert f"HEADRACE_DAGSTER_PORT={port}: cannot listen" in told(up)


def test_a_home_that_is_a_file(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "shop.jsonl").write_text(EVENT)
    for arguments in (("ingest", str(tmp_path / "shop.jsonl")), ("serve", "--port", "0"), ("demo",), ("up",)):
        result = cli(*arguments, home=tmp_path / "file" / "home")
        assert result.returncode == 2
        said = told(result)
        assert "HEADRACE_HOME=" in said, (arguments, said)
        assert "not writable" in said
        assert "point HEADRACE_HOME at a folder this user may write to" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to a read-only folder")
def test_a_read_only_home(cli: Run, tmp_path: Path) -> None:
    home = tmp_path / "locked"
    home.mkdir(mode=0o500)
    result = cli("serve", "--port", "0", home=home)
    assert result.returncode == 2
    assert f"HEADRACE_HOME={home}: not writable (Permission denied)" in told(result)


def test_a_demo_folder_with_a_strangers_files_is_left_alone(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "home" / "demo").mkdir(parents=True)
    (tmp_path / "home" / "demo" / "thesis.tex").touch()
    result = cli("demo")
    assert result.returncode == 2
    assert "holds files that are not the demo's" in told(result)
    assert (tmp_path / "home" / "demo" / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("missing.jsonl", None, ["missing.jsonl"]),
        ("empty.jsonl", b"", ["empty.jsonl"]),
        ("cut.jsonl.gz", gzip.compress(EVENT.encode() * 3000)[:-40], ["cut.jsonl.gz"]),
        ("shop.xml", b"<a/>", ["shop.xml"]),
    ],
)
def test_an_unreadable_file_is_named(
    cli: Run, tmp_path: Path, name: str, content: bytes | None, parts: list[str]
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    result = cli("ingest", str(path), "--strict")
    assert result.returncode != 0
    said = told(result)
    assert all(part in said for part in parts), said


def test_bad_lines_are_counted_and_the_good_ones_kept(cli: Run, tmp_path: Path) -> None:
    path = tmp_path / "shop.jsonl"
    bad = [
        b"[1]\n",
        b"\xff\xfe\n",
        EVENT.replace("2024", "1970").replace("e1", "e2").encode(),
        EVENT.replace("2024", "3000").replace("e1", "e3").encode(),
    ]
    path.write_bytes(EVENT.encode() + b"".join(bad))
    result = cli("ingest", str(path))
    assert result.returncode == 0, result.stderr
    listed = told(cli("quarantine", "list"))
    for code in ("not_an_object", "not_utf8", "time_out_of_range"):
        assert code in listed
    assert cli("ingest", str(path), "--strict").returncode == 1


def test_an_impossible_shop_is_refused(cli: Run, tmp_path: Path) -> None:
    out = str(tmp_path / "shop.jsonl")
    assert "--users 0: a shop needs at least 1" in told(cli("simulate", "--users", "0", "--out", out))
    assert "use .jsonl, .jsonl.gz or .parquet" in told(cli("simulate", "--out", str(tmp_path / "a.xml")))
    assert "choose taste, conversion or activity" in told(
        cli("simulate", "--drift-day", "1", "--drift", "mood", "--out", out)
    )
