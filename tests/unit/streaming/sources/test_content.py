"""What a file is, seen from its first bytes and not from its name."""

from __future__ import annotations

import io
import sqlite3
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import feather, orc

from feature_repo.errors import SourceError
from streaming.sources.content import Content, recognize
from streaming.sources.files import InputFile

HERE = Path("export")


def found(sample: bytes, suffix: str = "") -> Content:
    return recognize(HERE, sample, suffix)


@pytest.mark.parametrize("suffix", ["", ".txt", ".csv", ".jsonl", ".json"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1}\n{"a": 2}\n', Content("lines")),
        ('{"a": 1', Content("lines")),
        ('\n\n {"a": 1}', Content("lines")),
        ('{"a": {"b": [{"c": 1}]}, "record": "item"}', Content("lines")),
        ('{"items": [{"item_id": "i"}], "record": "event"}\n', Content("lines")),
        ('{"a": 1\n{"a": 2}\n', Content("lines")),
        ('{"a": 1}\r{"a": 2}\r', Content("lines", newline=b"\r")),
        ('[{"a": 1}, {"a": 2}]', Content("array")),
        ('[\n  {"a": 1},\n  {"a": 2}\n]\n', Content("array")),
        ("[]", Content("array")),
        ("[1]\n[2]\n", Content("lines")),
        ('{\n  "a": 1\n}\n{\n  "a": 2\n}\n', Content("documents")),
        ("a,b\n1,2\n", Content("table")),
        ("a\tb\n1\t2\n", Content("table", delimiter="\t")),
        ("a;b\n1;2,5\n", Content("table", delimiter=";")),
        ("a|b\n1|2\n", Content("table", delimiter="|")),
        ("a;b,c;d\n1;2;3\n", Content("table", delimiter=";")),
        ('"a;b",c\n"1",2\n', Content("table")),
        ("a,b\r1,2\r", Content("table", newline=b"\r")),
        ("a,b\r\n1,2\r\n", Content("table")),
    ],
)
def test_text_by_its_content(text: str, expected: Content, suffix: str) -> None:
    assert found(text.encode(), suffix) == expected


@pytest.mark.parametrize("text", ["item_id,title\ni1,é\n", '{"a": "é"}\n', '[{"a": "é"}]'])
@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", b"\xef\xbb\xbf"),
        ("utf-16-le", b"\xff\xfe"),
        ("utf-16-be", b"\xfe\xff"),
        ("utf-32-le", b"\xff\xfe\0\0"),
        ("utf-16-le", b""),
        ("utf-16-be", b""),
    ],
)
def test_any_encoding_comes_as_utf8_without_its_mark(
    tmp_path: Path, text: str, encoding: str, mark: bytes
) -> None:
    (tmp_path / "f").write_bytes(mark + text.encode(encoding))
    file = InputFile(tmp_path / "f")
    assert (file.content.encoding, file.content.mark) == (encoding, len(mark))
    assert b"".join(file.text()) == text.encode()


def test_half_a_character_at_the_end_is_a_cut(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_bytes(b"\xff\xfe" + "a,b\n1,2\n".encode("utf-16-le") + b"x")
    file = InputFile(tmp_path / "f.csv")
    lines = file.text_lines()
    assert [next(lines), next(lines)] == [(1, b"a,b"), (2, b"1,2")]
    with pytest.raises(SourceError, match="truncated or damaged after line 2"):
        next(lines)


def _made(kind: str, folder: Path) -> bytes:
    path, table = folder / "made", pa.table({"a": ["x"] * 10})
    match kind:
        case "sqlite":
            with sqlite3.connect(path) as db:
                db.execute("CREATE TABLE t (a)")
            db.close()
        case "feather":
            feather.write_feather(table, path)
        case "orc":
            orc.write_table(table, path)
        case "tar":
            with tarfile.open(path, "w") as archive:
                archive.addfile(tarfile.TarInfo("x"), io.BytesIO())
        case "xlsx":
            with zipfile.ZipFile(path, "w") as workbook:
                workbook.writestr("[Content_Types].xml", "<x/>")
                workbook.writestr("xl/workbook.xml", "<x/>")
    return path.read_bytes()


@pytest.mark.parametrize("name", ["f.jsonl", "f.csv", "f"])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("sqlite", "an SQLite database; export the table as CSV"),
        ("feather", "an Arrow .* file; write it as Parquet"),
        ("orc", "an ORC file"),
        ("tar", "a tar archive; unpack it"),
        ("xlsx", "an Excel workbook; save the table as CSV"),
    ],
)
def test_binary_files_are_refused_by_their_real_name(
    tmp_path: Path, kind: str, words: str, name: str
) -> None:
    (tmp_path / name).write_bytes(_made(kind, tmp_path))
    with pytest.raises(SourceError, match=f"{name}: {words}"):
        _ = InputFile(tmp_path / name).content


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (b'<?xml version="1.0"?><a/>', "XML; write it as"),
        (b"<!doctype html><html></html>", "an HTML page"),
        (b"hello world\nsecond line\n", r"neither JSON \('hello world' begins it\) nor a table"),
        (bytes(range(256)) * 4, "binary data of no kind that is read here"),
        (bytes(5000), "binary data"),
        (b'{"events": [{"event_id": "e1"}]}', r"one JSON object with a list 'events' inside; .*\.events\[\]"),
        (b'{"items": [{"item_id": "i"}]}', ".* a list 'items' inside"),
        (b'{\n "count": 2,\n "data": [\n  {"event_id": "e1"}\n ]\n}\n', ".* a list 'data' inside"),
        (b'{"n": 1, "rows": [{"a": 1}, ' + b'{"a": 1}, ' * 9000, ".* a list 'rows' inside"),
        (b"pr\xe9nom;nom\n", r"not UTF-8 \(b'\\xe9' in the first line\); .*iconv -f WINDOWS-1252"),
    ],
)
def test_what_is_not_read_is_named(sample: bytes, words: str) -> None:
    with pytest.raises(SourceError, match=rf"export: {words}"):
        found(sample[: 1 << 16], ".jsonl")


def test_a_single_column_is_a_table_by_its_name() -> None:
    assert found(b"item_id\ni1\n", ".csv") == Content("table")
    with pytest.raises(SourceError, match="nor a table"):
        found(b"item_id\ni1\n")


def test_a_damaged_first_line_does_not_hide_the_lines_after_it() -> None:
    damaged: Any = b'x{"a": 1}\n{"a": 2}\n'
    assert found(damaged, ".jsonl").shape == "lines"
