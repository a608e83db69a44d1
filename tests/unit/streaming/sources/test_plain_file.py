"""Any file as plain rows, before any contract."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.errors import SourceError
from streaming.sources import InputFile
from streaming.sources.plain_file import PlainFile
from streaming.sources.source import object_rows, table_rows


def test_rows_come_by_column_with_their_line_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b'ts;uid;sku\r\n2024-06-01;"u1";02138\r\n')
    pq.write_table(pa.table({"ts": ["2024-06-01"], "uid": ["u1"], "sku": ["02138"]}), tmp_path / "p")
    fields = {"ts": "2024-06-01", "uid": "u1", "sku": "02138"}
    (tmp_path / "j").write_text(json.dumps([fields]))
    for name, line, kept in (("t", 2, b'2024-06-01;"u1";02138\r'), ("p", 1, None)):
        file = PlainFile(InputFile(tmp_path / name))
        assert file.columns == ("ts", "uid", "sku")
        for _ in range(2):
            assert [(row.fields, row.line, row.kept) for row in file.rows()] == [(fields, line, kept)]
    file = PlainFile(InputFile(tmp_path / "j"))
    assert file.columns is None
    assert [(row.fields, row.line) for row in file.rows()] == [(json.dumps(fields).encode(), 1)]


def test_a_format_of_tables_refuses_json_and_the_other_way_round(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('{"a": 1}\n')
    with pytest.raises(SourceError, match=r"a\.csv: JSON, where x is a table with columns a, b; is --format"):
        list(table_rows(InputFile(tmp_path / "a.csv"), "a, b", "x"))
    (tmp_path / "a.jsonl").write_text("a,b\n1,2\n")
    with pytest.raises(SourceError, match=r"a\.jsonl: a table, where x is JSON lines; is --format right\?"):
        list(object_rows(InputFile(tmp_path / "a.jsonl"), "x"))
