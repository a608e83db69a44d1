"""The event log cannot be written, because a file is in place of its folder, before or while serving."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.decisions.record import TOPIC

Body = Callable[..., dict[str, Any]]
EVENT = {
    "event_type": "click",
    "item_id": "i1",
    "user_id": "u",
    "session_id": "s",
    "event_time": "2024-06-01T12:00:00Z",
}
RANKED = 5


def counted(client: httpx.Client, name: str) -> float:
    """Sum a counter over its outcomes: written, failed, or not tried again."""
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith(f"{name}{{")]
    told = [
        line for line in lines if any(f'"{why}"' in line for why in ("log_failed", "log_open", "written"))
    ]
    return sum(float(line.rpartition(" ")[2]) for line in told)


def dropped(client: httpx.Client) -> float:
    return counted(client, "headrace_decisions_dropped_total")


def written(client: httpx.Client) -> float:
    return counted(client, "headrace_decisions_total")


def ranks(client: httpx.Client, body: dict[str, Any]) -> None:
    response = client.post("/v1/rank", json=body)
    assert (response.status_code, response.json()["tier"]) == (200, "long_term")
    assert response.json()["degraded"] == [], "a ranking does not need the log"


def refuses(client: httpx.Client, number: int) -> None:
    response = client.post("/v1/events", json={**EVENT, "event_id": f"e{number}"})
    assert (response.status_code, response.headers["retry-after"]) == (503, "2")
    error = response.json()["error"]
    assert error["code"] == "log_unavailable"
    assert "send the same records again" in error["message"]


def accepts(client: httpx.Client, number: int) -> bool:
    return client.post("/v1/events", json={**EVENT, "event_id": f"e{number}"}).status_code == 202


def block(folder: Path) -> None:
    """Put a file in place of the folder."""
    held = folder.with_name(f"{folder.name}.aside")
    if folder.exists():
        folder.rename(held)
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_bytes(b"no folder")


def mend(folder: Path) -> None:
    """Remove the file and restore the folder."""
    folder.unlink()
    held = folder.with_name(f"{folder.name}.aside")
    if held.exists():
        held.rename(folder)


@pytest.mark.parametrize("when", ["before", "while serving"])
def test_ranking_goes_on_events_are_to_be_sent_again_and_decisions_are_counted(
    shop: Any, serving: Callable[..., Any], body: Body, until: Callable[..., Any], when: str
) -> None:
    folders = [shop.home.log / "events", shop.home.log / TOPIC]
    if when == "before":
        for folder in folders:
            block(folder)
    with serving(shop.settings) as client:
        if when == "while serving":
            assert accepts(client, 0)
            ranks(client, body(user_id="u"))
            until(lambda: written(client) == 1)
            for folder in folders:
                block(folder)
        before = written(client)
        for number in range(1, RANKED + 1):
            ranks(client, body(user_id="u"))
            refuses(client, number)
        until(lambda: dropped(client) == RANKED)
        assert client.get("/readyz").status_code == 200
        assert written(client) == before
        for folder in folders:
            mend(folder)
        assert accepts(client, 1), "the same record is accepted once the log is repaired"
        ranks(client, body(user_id="u"))
        until(lambda: written(client) == before + 1)
        assert dropped(client) == RANKED
    assert all(list(folder.glob("p=*/*.seg")) for folder in folders), "written to where it is read from"
