"""JSON records split without decoding them: lines, arrays, objects over several lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.errors import SourceError
from streaming.sources import InputFile, Limits, TruncatedError
from streaming.sources.json_rows import json_rows

VALUES = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from('a"\\[]{},:\n é'), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)

OBJECTS = st.dictionaries(st.text(max_size=3), VALUES, max_size=3)


def rows(path: Path, limits: Limits | None = None) -> list[Any]:
    return [row.fields for row in json_rows(InputFile(path, limits))]


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), min_size=2, max_size=6), st.booleans()
)
def test_an_array_gives_its_elements_however_it_is_laid_out_and_cut_into_pieces(
    tmp_path_factory: pytest.TempPathFactory, objects: list[dict[str, Any]], indented: bool
) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(json.dumps(objects, ensure_ascii=False, indent=2 if indented else None))
    with pytest.MonkeyPatch.context() as patch:
        for size in (1, 2, 7, 1 << 20):
            patch.setattr("streaming.sources.packing.PIECE", size)
            assert [json.loads(raw) for raw in rows(path)] == objects


def test_objects_over_several_lines(tmp_path: Path) -> None:
    objects = [{"a": 1, "b": ["}", {"c": "{"}]}, {"a": 2}]
    (tmp_path / "a.json").write_text("\n".join(json.dumps(o, indent=2) for o in objects))
    assert [json.loads(raw) for raw in rows(tmp_path / "a.json")] == objects


def test_a_damaged_element_costs_itself(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'[{"a": 1}, {"a": tru}, {"b": 2]}, \xff, {"a": 3}}, {"a": 4}]')
    assert rows(tmp_path / "a.json") == [
        b'{"a": 1}',
        b'{"a": tru}',
        b'{"b": 2]}',
        b"\xff",
        b'{"a": 3}}',
        b'{"a": 4}',
    ]


@pytest.mark.parametrize(
    ("content", "words", "rest"),
    [
        (b'[{"a": 1}, {"a": 2}, {"a"', "the last record has no end", b'{"a"'),
        (b'[{"a": 1}, {"a": 2}, {"a": "x', "the last record has no end", b'{"a": "x'),
        (b'[{"a": 1}, {"a": 2}] {"a": 3}', "more after the end of the array", b'{"a": 3}'),
    ],
)
def test_what_comes_before_a_cut_is_read(tmp_path: Path, content: bytes, words: str, rest: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    found = []
    with pytest.raises(TruncatedError, match=rf"a\.json: truncated .* after record 2 \({words}\)") as cut:
        found.extend(row.fields for row in json_rows(InputFile(tmp_path / "a.json")))
    assert found == [b'{"a": 1}', b'{"a": 2}']
    assert (cut.value.rest, cut.value.line) == (rest, 3)


def test_a_line_over_the_limit_costs_itself_and_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n{"a": "' + b"x" * 200_000 + b'"}\n{"a": 2}\n')
    good, long, other = json_rows(InputFile(tmp_path / "a.jsonl", Limits(row_bytes=2000)))
    assert (good.fields, other.fields, other.line) == (b'{"a": 1}', b'{"a": 2}', 3)
    assert long.error is not None
    assert (long.error.code, long.line) == ("row_too_long", 2)
    assert "longer than 2,000 bytes, the limit HEADRACE_INGEST_ROW_BYTES" in str(long.error)


def test_an_element_over_the_limit_ends_the_file_and_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'[{"a": 1}, {"a": "' + b"x" * 3_000_000 + b'"}]')
    found = []
    with pytest.raises(SourceError, match=r"record 2 is longer than 2,000 .*HEADRACE_INGEST_ROW_BYTES"):
        found.extend(row.fields for row in json_rows(InputFile(tmp_path / "a.json", Limits(row_bytes=2000))))
    assert found == [b'{"a": 1}']
