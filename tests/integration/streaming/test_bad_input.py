"""Bad input on the command line: one clear line, an exit code, no stack trace, nothing lost."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from feature_repo.errors import HeadraceError
from feature_repo.home import Home
from orchestration.cli import app

CLICK = {
    "record": "event",
    "event_id": "e1",
    "event_type": "click",
    "event_time": "2024-05-01T10:00:00Z",
    "session_id": "s1",
    "item_id": "i1",
}


@dataclass(frozen=True)
class Run:
    code: int
    out: str


@pytest.fixture
def headrace(home: Home, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    monkeypatch.setenv("HEADRACE_HOME", str(home.root))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*args: object) -> Run:
        result = CliRunner().invoke(app, [str(a) for a in args])
        if isinstance(result.exception, HeadraceError):  # what `main` prints as one line, with exit code 2
            return Run(2, f"{result.output}\n{result.exception}")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Run(result.exit_code, result.output)

    return run


def lines(path: Path, *raw: bytes) -> Path:
    path.write_bytes(b"\n".join(raw) + b"\n")
    return path


def row(run: Run, name: str) -> list[str]:
    """The cells of a row of the table of counts."""
    (line,) = (text for text in run.out.splitlines() if text.strip("│ ").startswith(f"{name} "))
    return [cell.strip() for cell in line.strip("│").split("│")][1:]


GOOD = json.dumps(CLICK).encode()


def test_good_records_are_counted_and_listed(headrace: Callable[..., Run], tmp_path: Path) -> None:
    run = headrace("ingest", lines(tmp_path / "a.jsonl", GOOD, GOOD))
    assert run.code == 0
    assert row(run, "all") == ["2", "1", "1", "0"]
    assert "1 event day, 2024-05-01\n" in run.out
    assert "Nothing in quarantine." in headrace("quarantine", "list").out


def test_fields_outside_the_contract_are_reported(headrace: Callable[..., Run], tmp_path: Path) -> None:
    raw = json.dumps({**CLICK, **{f"field{n}": n for n in range(12)}}).encode()
    run = headrace("ingest", lines(tmp_path / "a.jsonl", raw))
    assert "fields not in the contract, kept as properties or attributes: field0 (1), field1 (1), " in run.out
    assert "field9 (1) …" in run.out


def test_after_a_fix_what_was_rejected_is_replayed_once(
    headrace: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    headrace("ingest", lines(tmp_path / "a.jsonl", GOOD.replace(b"click", b"wink"), b"[1]"))
    assert headrace("quarantine", "retry").out == "replayed 0, still rejected 2, skipped 0\n"
    monkeypatch.setenv("HEADRACE_EVENT_WEIGHTS", "wink=1")
    run = headrace("quarantine", "retry", "--code", "unknown_event_type")
    assert (run.code, run.out) == (0, "replayed 1, still rejected 0, skipped 0\n")
    assert headrace("quarantine", "retry").out == "replayed 0, still rejected 1, skipped 0\n"
    assert "unknown_event_type" not in headrace("quarantine", "list").out
    listed = headrace("quarantine", "list", "--all", "--limit", "1").out
    assert "and 1 more (--limit)" in listed
    assert "retried     2" in headrace("quarantine", "show", listed.split()[0]).out


def test_a_record_to_replay_that_is_not_there(headrace: Callable[..., Run], tmp_path: Path) -> None:
    headrace("ingest", lines(tmp_path / "a.jsonl", b"[1]"))
    run = headrace("quarantine", "retry", "abc")
    assert run.code == 2
    assert "no pending record's id starts with 'abc'; see `headrace quarantine list`" in run.out


def test_failed_replays_are_explained(headrace: Callable[..., Run], tmp_path: Path) -> None:
    headrace("ingest", lines(tmp_path / "a.csv", b"item_id,title", b"i1"))
    run = headrace("quarantine", "retry")
    assert "skipped 1" in run.out
    assert "fix the source, ingest it again" in run.out


@pytest.mark.parametrize(
    ("raw", "code", "words"),
    [
        (b'{"record": "event", "query": "\xff\xfe"}', "not_utf8", "not valid UTF-8"),
        (
            b'[{"record": "event"}]',
            "not_an_object",
            "a JSON array where an object belongs; write one JSON object",
        ),
        (
            GOOD.replace(b"2024-05", b"1970-05"),
            "time_out_of_range",
            "1970-05-01T10:00:00+00:00 is outside 1990",
        ),
        (GOOD.replace(b"2024-05", b"3000-05"), "time_out_of_range", "3000-05-01T10:00:00+00:00 is outside"),
        (GOOD[:-9], "not_json", "not valid JSON"),
    ],
)
def test_a_bad_line_is_kept_with_its_place_and_does_not_stop_the_good_ones(
    headrace: Callable[..., Run], tmp_path: Path, raw: bytes, code: str, words: str
) -> None:
    path = lines(tmp_path / "a.jsonl", GOOD, raw, GOOD.replace(b"e1", b"e2"))
    run = headrace("ingest", path)
    assert run.code == 0
    assert row(run, "all") == ["3", "2", "0", "1"]
    assert headrace("ingest", "--strict", path).code == 1
    listed = headrace("quarantine", "list").out
    assert f"{code}  {path}:2" in listed
    assert words in listed
    assert f"{code}: 1" in listed  # once, though it was ingested twice
    shown = headrace("quarantine", "show", listed.split()[0])
    assert raw.decode("utf-8", "backslashreplace") in shown.out
    assert f"source      {path}:2 (format headrace)" in shown.out


def test_a_truncated_gzip(headrace: Callable[..., Run], tmp_path: Path) -> None:
    content = gzip.compress(b"".join(GOOD.replace(b"e1", b"e%d" % n) + b"\n" for n in range(3000)))
    (tmp_path / "a.jsonl.gz").write_bytes(content[: len(content) // 2])
    run = headrace("ingest", tmp_path / "a.jsonl.gz")
    assert run.code == 0
    read, accepted, _, quarantined = row(run, "all")
    assert int(read.replace(",", "")) == int(accepted.replace(",", "")) + 1
    assert (int(accepted.replace(",", "")) > 100, quarantined) == (True, "1")
    assert f"warning: {tmp_path}/a.jsonl.gz: truncated or damaged after line" in run.out
    assert "the lines before it were read; fetch the file again" in run.out


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"event_id": ["e"], "event_type": ["click"], "session_id": ["s"]}, "missing column event_time"),
        (
            {"event_id": [1], "event_type": ["click"], "event_time": ["x"], "session_id": ["s"]},
            "column event_id has type int64; it should be text",
        ),
    ],
)
def test_a_parquet_file_with_a_missing_or_mistyped_column(
    headrace: Callable[..., Run], tmp_path: Path, table: dict[str, list[object]], words: str
) -> None:
    pq.write_table(pa.table(table), tmp_path / "e.parquet")
    run = headrace("ingest", lines(tmp_path / "good.jsonl", GOOD), tmp_path / "e.parquet")
    assert run.code == 2
    assert f"{tmp_path}/e.parquet: {words}" in run.out
    assert row(run, "all") == ["2", "1", "0", "1"]
    assert "unreadable_file" in headrace("quarantine", "list").out


def test_an_empty_file(headrace: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    run = headrace("ingest", tmp_path / "a.jsonl")
    assert run.code == 2
    assert run.out.count(f"{tmp_path}/a.jsonl: empty file; nothing to ingest") == 1


def test_a_missing_path(headrace: Callable[..., Run], tmp_path: Path) -> None:
    run = headrace("ingest", tmp_path / "nope.jsonl")
    assert (run.code, f"{tmp_path}/nope.jsonl: no such file or folder; give the path of" in run.out) == (
        2,
        True,
    )


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--format=xml", "--format xml: not a format; the formats are"),
        ("--kind=orders", "--kind orders: choose one of events, items, users"),
    ],
)
def test_a_wrong_option(headrace: Callable[..., Run], tmp_path: Path, option: str, words: str) -> None:
    run = headrace("ingest", option, lines(tmp_path / "a.jsonl", GOOD))
    assert (run.code, words in run.out) == (2, True)


def test_show_of_an_id_that_is_not_there(headrace: Callable[..., Run]) -> None:
    run = headrace("quarantine", "show", "abc")
    assert (
        run.code,
        "no single record's id starts with 'abc'; see `headrace quarantine list`" in run.out,
    ) == (
        2,
        True,
    )


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A small file system of its own; only root may make one."""
    made: list[Path] = []

    def mounted(options: str) -> Path:
        folder = tmp_path / "mounted"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
            pytest.skip("only root may mount a file system")
        made.append(folder)
        return folder

    yield mounted
    for folder in made:
        subprocess.run(["umount", str(folder)], check=True)


def cli(home: Path, *args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestration.cli", *map(str, args)]
    environment = {**os.environ, "HEADRACE_HOME": str(home)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_a_read_only_home(mount: Callable[[str], Path], tmp_path: Path) -> None:
    home = mount("ro,size=1m")
    done = cli(home, "ingest", lines(tmp_path / "a.jsonl", GOOD))
    assert done.returncode == 2
    assert (
        f"HEADRACE_HOME={home}: not writable (Read-only file system); point HEADRACE_HOME at" in done.stderr
    )
    assert "Traceback" not in done.stderr


def test_a_full_disk_loses_nothing_acknowledged_and_a_rerun_completes(
    mount: Callable[[str], Path], tmp_path: Path
) -> None:
    home = mount("size=400k")
    many = (GOOD.replace(b"e1", b"e%d" % n).replace(b"s1", b"s%d" % n) for n in range(20_000))
    path = lines(tmp_path / "a.jsonl", *many)
    done = cli(home, "ingest", path)
    assert done.returncode == 2
    assert "disk full: free space, or point HEADRACE_HOME at a larger disk" in done.stderr
    assert "Traceback" not in done.stderr
    subprocess.run(["mount", "-o", "remount,size=20m", str(home)], check=True)
    done = cli(home, "ingest", path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3].split("│")[2].strip() == "20,000"


def test_what_a_rejected_record_holds_is_not_obeyed_by_a_terminal(
    headrace: Callable[..., Run], tmp_path: Path
) -> None:
    raw = b'{"record":"event","event_id":"e\x1b]0;owned\x07","event_type":"\xc2\x9b31m"}'
    (tmp_path / "evil.jsonl").write_bytes(raw + b"\n")
    headrace("ingest", tmp_path / "evil.jsonl")
    listed = headrace("quarantine", "list").out
    entry = next(line.split()[0] for line in listed.splitlines() if "evil.jsonl" in line)
    shown, exact = (
        headrace("quarantine", "show", entry).out,
        headrace("quarantine", "show", entry, "--raw").out,
    )
    for text in (listed, shown):
        assert not {c for c in text if ord(c) < 32 or 127 <= ord(c) < 160} - {"\n"}
    assert "\\x1b]0;owned\\x07" in shown
    assert "\\x9b31m" in shown
    assert exact.encode() == raw
