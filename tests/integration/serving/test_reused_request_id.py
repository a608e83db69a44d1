"""A client reuses a request id: both decisions are found, and terminal codes in their ids are escaped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from orchestration.cli import app

Body = Callable[..., dict[str, Any]]


def test_both_decisions_are_shown(
    shop: Any,
    api: httpx.Client,
    body: Body,
    until: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evil = "\x1b[2J\x1b[31m[red]i0"
    first = {**body(3, user_id="u"), "request_id": "again"}
    second = {"candidates": [{"item_id": evil, "score": 2.0}, {"item_id": "i1"}], "request_id": "again"}
    for request in (first, second):
        api.post("/v1/rank", json=request).raise_for_status()

    def both() -> Any:
        found = api.get("/v1/decisions/again")
        return found.status_code == 200 and len(found.json()["others"]) == 1 and found.json()

    answer = until(both)
    counts = [len(one["candidates"]) for one in (answer["decision"], *answer["others"])]
    assert counts == [2, 3], "newest first"
    until(lambda: 'headrace_decisions_total{outcome="written"} 2.0' in api.get("/metrics").text)
    monkeypatch.setenv("HEADRACE_HOME", str(shop.home.root))
    newest = CliRunner().invoke(app, ["replay", "again"], env={"COLUMNS": "120"})
    older = CliRunner().invoke(app, ["replay", "again", "--number", "2"], env={"COLUMNS": "120"})
    assert (newest.exit_code, older.exit_code) == (0, 0)
    for shown in (newest.output, older.output):
        assert "2 answers have this request id (--number chooses), newest first:" in shown
        assert "\x1b[2J" not in shown
    assert "\\x1b[2J\\x1b[31m[red]i0" in newest.output
    assert "\\x1b" not in older.output
    missing = CliRunner().invoke(app, ["replay", "again", "--number", "3"])
    assert str(missing.exception) == "--number 3: the log has 2 answers with this request id"
