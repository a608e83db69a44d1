"""Text that no file can hold as it is, in what quarantine keeps: names of files, fields and messages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from feature_repo.errors import ContractError
from quality.quarantine.store import Quarantine
from tests.conftest import NOW

NAME = os.fsdecode(b"bad\xff.jsonl")


@pytest.mark.parametrize(
    ("source", "field", "message"),
    [(NAME, "f", "why"), ("a", "f\ud800", "why"), ("a", "f", "why: '\ud800'")],
)
def test_a_record_is_kept_whatever_its_file_is_called(
    tmp_path: Path, source: str, field: str, message: str
) -> None:
    held = Quarantine(tmp_path, lambda: NOW)
    error = ContractError("not_json", field, message)
    assert held.put(b"{", source, 3, error)
    assert not held.put(b"{", source, 3, error), "the same rejection again"
    [found] = Quarantine(tmp_path, lambda: NOW).entries()
    assert (found.raw, found.line, found.code) == (b"{", 3, "not_json")
    shown = f"{found.source} {found.field} {found.message}"
    assert shown.encode(), "can be printed"
    assert "\\u" in shown, "what cannot be written is spelt out"


def test_two_names_that_differ_are_two_rejections(tmp_path: Path) -> None:
    held = Quarantine(tmp_path, lambda: NOW)
    for name in (b"bad\xff", b"bad\xfe", b"bad"):
        assert held.put(b"{", os.fsdecode(name), 1, ContractError("not_json", "", "no JSON"))
    assert held.count() == 3
