"""Lines out of files, plain and packed, whole and cut short."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.errors import ContractError, SourceError
from streaming.sources.files import InputFile, TruncatedError

LINES = [b"line %d " % n + b"x" * 50 for n in range(5000)]


def lines_of(path: Path) -> list[bytes]:
    return [line for _, line in InputFile(path).lines()]


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


def test_what_is_no_gzip_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(b'{"record": "event"}\n')
    with pytest.raises(TruncatedError, match=r"after line 0 .*incorrect header check"):
        lines_of(tmp_path / "a.jsonl.gz")


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


def records(path: Path) -> list[tuple[int, dict[str, str], ContractError | None]]:
    return list(InputFile(path).records())


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
    assert long[1]["_cells"] == "1,2,3"
    assert latin[2] is not None
    assert (latin[2].code, latin[1]) == ("not_utf8", {"a": "x", "b": "\\xff"})
    assert good == (5, {"a": "4", "b": "5"}, None)


def test_a_quote_that_is_never_closed_keeps_what_it_swallowed_and_the_rows_around(tmp_path: Path) -> None:
    swallowed = b'2,"open\n' + b"".join(b"%d,\xc3\xbc\n" % n for n in range(3, 40_000))
    found = records(write(tmp_path / "a.csv", b"a,b\n1,x\n" + swallowed))
    assert found[0] == (2, {"a": "1", "b": "x"}, None)
    at, fields, error = found[1]
    assert error is not None
    assert error.code == "bad_csv_row"
    assert str(error).startswith(f"lines 3 to {at}: field larger than field limit")
    lost = fields["_cells"].encode()
    assert swallowed.startswith(lost)
    after = [int(f["a"]) for _, f, bad in found[2:] if bad is None]
    assert lost.count(b"\n") - 1 + len(after) == 40_000 - 3
    assert after[-1] == 39_999


def test_a_zip_with_a_password_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", b"\n".join(LINES))
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag "encrypted", in the local header and in the directory
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(content))
    with pytest.raises(SourceError, match=r"a\.zip: cannot unpack \(.*password.*\); unpack it"):
        lines_of(path)


@pytest.mark.parametrize("content", [b"\n", b"\xff\n1\n"])
def test_a_csv_without_header_says_so(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SourceError, match="no header; the first line must name the columns"):
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
