"""Lines out of files, plain and packed, whole and cut short."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.errors import ContractError, SourceError
from streaming.sources.csv_rows import csv_rows, header_of
from streaming.sources.files import InputFile, TruncatedError
from streaming.sources.plain import PlainRow

LINES = [b"line %d " % n + b"x" * 50 for n in range(5000)]


def lines_of(path: Path) -> list[bytes]:
    return [line for _, line in InputFile(path).lines()]


def zipped(content: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner", content)
    return made.getvalue()


def zstandard(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda content: gzip.compress(content, 6),
    "bzip2": bz2.compress,
    "xz": lambda content: lzma.compress(content, preset=0),
    "zstd": zstandard,
    "zip": zipped,
}


def write(path: Path, content: bytes) -> Path:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content))
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inner.jsonl", content)
    else:
        path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zip"])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_lines_come_numbered_from_one(tmp_path: Path, name: str, end: bytes) -> None:
    file = InputFile(write(tmp_path / name, b"\n".join(LINES) + end))
    assert list(file.lines()) == list(enumerate(LINES, 1))
    assert file.done == pytest.approx(file.size, rel=0.05)


def test_a_gzip_of_several_members_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"one\ntw") + gzip.compress(b"o\nthree\n") + bytes(16))
    assert lines_of(tmp_path / "a.gz") == [b"one", b"two", b"three"]


def test_a_cut_gzip_gives_its_whole_lines_then_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", b"\n".join(LINES))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found: list[bytes] = []
    with pytest.raises(
        TruncatedError, match=r"a\.jsonl\.gz: truncated or damaged after line \d+ .*no end"
    ) as cut:
        found.extend(line for _, line in InputFile(path).lines())
    assert 100 < len(found) < len(LINES)
    assert found == LINES[: len(found)]
    assert cut.value.line == len(found) + 1
    assert LINES[len(found)].startswith(cut.value.rest)


def test_a_gzip_with_a_flipped_byte_gives_what_came_before(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", b"\n".join(LINES))
    content = bytearray(path.read_bytes())
    content[-4] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(TruncatedError, match="after line 0"):
        lines_of(path)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zip", "a.bz2", "a.jsonl"])
def test_the_content_tells_how_a_file_is_packed_and_not_its_name(tmp_path: Path, name: str) -> None:
    content = b"\n".join(LINES)
    for packed in (content, *(pack(content) for pack in PACKINGS.values())):
        (tmp_path / name).write_bytes(packed)
        assert lines_of(tmp_path / name) == LINES


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv.gz", "a.zip"])
def test_an_empty_file_says_so(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(SourceError, match=rf"{name}: empty file; nothing to ingest"):
        lines_of(tmp_path / name)


def test_a_missing_path_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no\.jsonl: no such file or folder; give the path"):
        InputFile(tmp_path / "no.jsonl")


def test_a_cut_zip_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", b"\n".join(LINES))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SourceError, match=r"a\.zip: not a whole zip archive"):
        lines_of(path)


def test_a_zip_of_two_files_says_so(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.csv", "x")
        archive.writestr("b.csv", "x")
    with pytest.raises(SourceError, match=r"holds 2 files \(a\.csv, b\.csv\); an archive of one is read"):
        lines_of(tmp_path / "a.zip")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot read \(Is a directory\)"):
        lines_of(tmp_path)


def rows_of(path: Path) -> Iterator[PlainRow]:
    file = InputFile(path)
    return csv_rows(file, header_of(file))


def records(path: Path) -> list[tuple[int, Any, ContractError | None]]:
    return [(row.line, row.fields, row.error) for row in rows_of(path)]


def rejected(path: Path) -> list[tuple[int, bytes | None]]:
    return [(row.line, row.kept) for row in rows_of(path) if row.error is not None]


def test_csv_rows_by_name_with_their_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", '\ufeffa,b\r\n1,"x, ""y"""\r\n\r\n2,"two\nlines"\n3,ü\n'.encode())
    assert records(path) == [
        (2, {"a": "1", "b": 'x, "y"'}, None),
        (5, {"a": "2", "b": "two\nlines"}, None),
        (6, {"a": "3", "b": "ü"}, None),
    ]


def test_a_csv_row_that_does_not_fit_is_told_and_the_next_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"a,b\n1\n1,2,3\nx,\xff\n4,5\n")
    (short, long, latin, good) = records(path)
    for line, (at, _, error) in ((2, short), (3, long)):
        assert at == line
        assert error is not None
        assert error.code == "bad_csv_row"
        assert "cells where the header names 2 columns" in str(error)
    assert rejected(path) == [(2, b"1"), (3, b"1,2,3"), (4, b"x,\xff")]
    assert latin[2] is not None
    assert (latin[2].code, latin[1]) == ("not_utf8", {"a": "x", "b": "\\xff"})
    assert good == (5, {"a": "4", "b": "5"}, None)


@pytest.mark.parametrize("rows", [3, 200, 40_000], ids=["few", "some", "beyond the limit of a cell"])
@pytest.mark.parametrize("ends", ["", "\n", '\n7,"fine"\n', '\n7,"two\nlines"\n'])
def test_a_quote_that_is_never_closed_costs_its_own_line_only(tmp_path: Path, rows: int, ends: str) -> None:
    after = "\n".join(f"{n},ü" for n in range(rows))
    path = write(tmp_path / "a.csv", f'a,b\n1,x\n2,"open\n{after}{ends}'.encode())
    found = records(path)
    assert found[0] == (2, {"a": "1", "b": "x"}, None)
    _, _, error = found[1]
    assert rejected(path) == [(3, b'2,"open')]
    assert error is not None
    assert error.code == "bad_csv_row"
    assert str(error).startswith("line 3: ")
    assert str(error).endswith("; close the quote, or double it in a cell")
    assert [(line, f["a"], f["b"]) for line, f, bad in found[2 : 2 + rows]] == [
        (4 + n, str(n), "ü") for n in range(rows)
    ]
    assert [f["b"] for _, f, _ in found[2 + rows :]] == (
        [] if not ends.strip() else ["fine"] if "fine" in ends else ["two\nlines"]
    )


def test_an_open_quote_in_a_file_that_is_cut_loses_no_whole_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv.gz", b'a,b\n2,"open\n' + b"".join(b"%d,x\n" % n for n in range(50_000)))
    path.write_bytes(path.read_bytes()[:-20])
    found = []
    with pytest.raises(TruncatedError, match=r"truncated or damaged after line \d+"):
        found.extend(rows_of(path))
    assert [row.error is None for row in found[:2]] == [False, True]
    assert [dict(row.fields)["a"] for row in found[1:]] == [str(n) for n in range(len(found) - 1)]  # type: ignore[arg-type]
    assert len(found) > 1_000


def test_every_line_with_an_open_quote_is_told(tmp_path: Path) -> None:
    lines = [f'{n},"open {n}' for n in range(2_001)]
    path = write(tmp_path / "a.csv", ("a,b\n" + "\n".join(lines)).encode())
    assert rejected(path) == [(n + 2, line.encode()) for n, line in enumerate(lines)]


_CELLS = st.text(st.sampled_from('a",\n'), max_size=6)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(_CELLS, _CELLS), min_size=1, max_size=8), st.integers(0, 8))
def test_well_written_rows_before_an_open_quote_are_read_as_the_csv_module_writes_them(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], at: int
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    written = io.StringIO()
    out = csv.writer(written, lineterminator="\n", quoting=csv.QUOTE_ALL)
    out.writerows([("a", "b"), *rows[:at]])
    whole = records(write(folder / "whole.csv", written.getvalue().encode()))
    assert [(f["a"], f["b"]) for _, f, _ in whole] == rows[:at]
    path = write(folder / "open.csv", (written.getvalue() + 'x,"open\n').encode())
    assert records(path)[: len(whole)] == whole
    assert [kept for _, kept in rejected(path)] == [b'x,"open']


def test_a_zip_with_a_password_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", b"\n".join(LINES))
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag "encrypted", in the local header and in the directory
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(content))
    with pytest.raises(SourceError, match=r"a\.zip: cannot unpack \(.*password.*\); unpack it"):
        lines_of(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n", "no header; the first line must name the columns"),
        (b"\xe9,a\n1,2\n", r"not UTF-8 \(b'\\xe9' in the first line\); it may be Latin-1 .* iconv"),
        (b"a,b,a\n1,2,3\n", "column a is there twice; rename one"),
    ],
)
def test_a_csv_whose_header_does_not_serve_says_so(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        records(write(tmp_path / "a.csv", content))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.binary(max_size=20).filter(lambda b: b"\n" not in b), min_size=1, max_size=30), st.data())
def test_wherever_a_gzip_is_cut_no_whole_line_is_invented(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], data: st.DataObject
) -> None:
    path = write(tmp_path_factory.mktemp("cut") / "a.gz", b"\n".join(lines) + b"\n")
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(1, len(whole) - 1))])
    found: list[bytes] = []
    with pytest.raises(TruncatedError):
        found.extend(line for _, line in InputFile(path).lines())
    assert found == lines[: len(found)]
