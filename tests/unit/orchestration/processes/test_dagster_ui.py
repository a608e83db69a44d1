"""The guard in front of Dagster's UI: who may ask, by which name, and how."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from feature_repo.settings import Settings
from orchestration.processes.dagster_ui import BrowserGuard, ui_names

OURS = [(b"host", b"127.0.0.1:3000")]


NAMES = ui_names(Settings())


def answer_to(kind: str = "http", names: Any = NAMES, **scope: Any) -> list[Any]:
    """What goes back to the client: of the guard, or ``passed`` of the application."""
    sent: list[Any] = []

    async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        sent.append("passed")

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message.get("status", message.get("code")) or message.get("body"))

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError

    whole = {"type": kind, "method": "GET", "path": "/", "query_string": b"", "headers": OURS, **scope}
    asyncio.run(BrowserGuard(app, names)(whole, receive, send))
    return sent


@pytest.mark.parametrize(
    "scope",
    [
        {},
        {"headers": [(b"host", b"localhost:3000")]},
        {"headers": [(b"host", b"[::1]:3000"), (b"origin", b"http://[::1]:3000")]},
        {"method": "POST", "path": "/graphql", "headers": [*OURS, (b"origin", b"http://localhost:3000")]},
        {"path": "/graphql"},  # the page to try queries on
        {"path": "/runs", "query_string": b"query=mine"},
        {"kind": "websocket", "path": "/graphql"},
        {"kind": "lifespan"},
    ],
)
def test_a_person_at_this_machine_is_let_through(scope: dict[str, Any]) -> None:
    assert answer_to(**scope) == ["passed"]


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        ({"headers": [(b"host", b"rebound.example:3000")]}, 421),
        ({"headers": []}, 421),
        ({"headers": [*OURS, *OURS]}, 421),
        ({"headers": [(b"host", b"[:::")]}, 421),
        ({"method": "POST", "headers": [*OURS, (b"origin", b"https://evil.example")]}, 403),
        ({"method": "POST", "headers": [*OURS, (b"origin", b"null")]}, 403),
        ({"path": "/graphql", "query_string": b"query=mutation%7BlaunchRun%7D"}, 405),
        ({"path": "/graphql/", "query_string": b"a=1&query=%7Bruns%7D"}, 405),
        ({"path": "/graphql", "method": "HEAD", "query_string": b"query=x"}, 405),
        ({"kind": "websocket", "headers": [*OURS, (b"origin", b"https://evil.example")]}, 1008),
        ({"kind": "websocket", "headers": [(b"host", b"rebound.example")]}, 1008),
    ],
)
def test_pages_of_other_sites_and_mutations_by_get_are_refused(scope: dict[str, Any], status: int) -> None:
    sent = answer_to(**scope)
    assert sent[0] == status
    assert "passed" not in sent


def test_a_name_of_the_settings_is_known() -> None:
    settings = Settings(ui_names="dagster.example, Other.example", ui_host="10.0.0.7")
    names = ui_names(settings)
    for host in (b"dagster.example", b"other.example:443", b"10.0.0.7:3000", b"localhost"):
        assert answer_to(names=names, headers=[(b"host", host)]) == ["passed"]
