"""The registry of formats, and sessions one a line."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from feature_repo.errors import SourceError
from feature_repo.settings import Settings
from streaming.ingest.files import ingest
from streaming.sources import InputFile, open_source
from streaming.sources.formats import format_names, format_of
from streaming.sources.formats.sessions import SessionsSource


def test_every_file_is_a_format_of_its_name() -> None:
    assert format_names()[0] == "headrace"
    assert {"metarank", "movielens", "deskdrop", "sessions"} < set(format_names())
    for name in format_names():
        assert format_of(name).sentence.endswith(".")
        assert open_source(name, {}).event_types.keys() >= set()


def test_an_unknown_format_lists_those_there_are() -> None:
    with pytest.raises(SourceError, match="json: not a format; the formats are\n  headrace: Records"):
        open_source("json", {})


def clicks(path: Path) -> list[Any]:
    source = SessionsSource()
    return [
        str(row.error) if row.error else source.convert(row.raw, None)
        for file in source.files(InputFile(path))
        for row in source.rows(file, None)
    ]


def test_a_line_is_a_session_and_a_click_takes_a_minute(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("3,1,3\n\n7\n")
    (tmp_path / "test.txt").write_text("8\r\n")
    found = clicks(tmp_path)
    assert [(e["session_id"], e["item_id"], e["event_time"][11:16]) for e in found] == [
        (f"{tmp_path.name}/train:1", "3", "00:01"),
        (f"{tmp_path.name}/train:1", "1", "00:02"),
        (f"{tmp_path.name}/train:1", "3", "00:03"),
        (f"{tmp_path.name}/train:3", "7", "00:04"),
        (f"{tmp_path.name}/test:1", "8", "00:05"),
    ]
    assert len({e["event_id"] for e in found}) == 5, "an item clicked twice is two events"
    assert clicks(tmp_path) == found, "read again, the same"
    packed = tmp_path / "train.txt.gz"
    packed.write_bytes(gzip.compress((tmp_path / "train.txt").read_bytes()))
    (tmp_path / "train.txt").unlink()
    assert clicks(tmp_path) == found, "packed, the same"


@pytest.mark.parametrize("line", ["1,,2", ",", "1 2,3", "\udcff"])
def test_a_line_that_is_no_session_is_named_and_the_rest_read(tmp_path: Path, line: str) -> None:
    path = tmp_path / "s.txt"
    path.write_bytes(f"1,2\n{line}\n5\n".encode(errors="surrogateescape"))
    found = clicks(path)
    assert found[2] == "line 2: not a session; write item ids separated by commas, as 12,7,12"
    assert [e["item_id"] for e in (*found[:2], found[3])] == ["1", "2", "5"]


def test_packed_sessions_are_ingested_and_bad_lines_quarantined(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "sessions.txt.gz"
    path.write_bytes(gzip.compress(b"1,2,3\n1,,2\n4\n"))
    counts = ingest([path], "sessions", settings)
    assert (counts.accepted, counts.quarantined) == (4, 1)
    assert ingest([path], "sessions", settings).accepted == 0, "the same events again"


def test_a_folder_without_sessions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no train\.txt or test\.txt \(or \.gz"):
        SessionsSource().files(InputFile(tmp_path))


def test_diginetica_is_read_whole(shared_data: Any) -> None:
    folder = shared_data("diginetica-sample/train.txt").parent
    found = clicks(folder)
    assert not [one for one in found if isinstance(one, str)]
    assert len({e["session_id"] for e in found}) == 9381 + 1465
