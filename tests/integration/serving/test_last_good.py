"""Folders disappear under a running worker: the last good state stays, also after a restart."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

Body = Callable[..., dict[str, Any]]
RULES = """{"rules": [
  {"kind": "exclude", "name": "by value", "attributes": ["category:shoes"]},
  {"kind": "exclude", "name": "by id", "items": ["i1"]}
]}"""
BOTH = {"i0": "by value", "i3": "by value", "i6": "by value", "i1": "by id"}


def ask(client: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = client.post("/v1/rank", json=body).raise_for_status().json()
    return answer


def dropped(answer: dict[str, Any]) -> dict[str, str]:
    return {one["item_id"]: one["rule"] for one in answer["dropped"]}


def failures(client: httpx.Client) -> set[str]:
    text = client.get("/metrics").text
    counted = re.findall(r'^headrace_reload_failures_total\{what="(\w+)"\} [1-9]', text, re.M)
    return set(counted)


def reloads(client: httpx.Client) -> dict[str, str]:
    found: dict[str, str] = client.get("/readyz").json()["personalization"]["reloads"]
    return found


def unpromote(features: Path) -> None:
    (features / "item_profile" / "v1" / "CURRENT").unlink()


def misname(features: Path) -> None:
    pointer = features / "item_profile" / "v1" / "CURRENT"
    pointer.write_text(re.sub(r"as_of=\w+", "as_of=20200101T000000Z", pointer.read_text()))


def unmount(folder: Path) -> None:
    folder.rename(folder.with_name(f"{folder.name}-elsewhere"))


@pytest.mark.parametrize("spoil", [unpromote, misname, unmount])
def test_rules_hold_when_the_items_are_gone(
    shop: Any,
    serving: Callable[..., Any],
    body: Body,
    until: Callable[..., Any],
    spoil: Callable[[Path], None],
) -> None:
    (shop.home.flags / "rules.json").write_text(RULES)
    request = body(9, user_id="u", session_id="s")
    with serving(shop.settings) as client:
        before = until(lambda: (a := ask(client, request))["dropped"] and a)
        assert reloads(client) == dict.fromkeys(("items", "blend", "flags", "rules"), "ok")
        spoil(shop.home.features)
        until(lambda: failures(client) == {"items"})
        running, states = ask(client, request), reloads(client)
    with serving(shop.settings) as client:
        started, counted, later = ask(client, request), failures(client), reloads(client)
        gauge = until(lambda: 'headrace_reload_failing{what="items"} 1.0' in client.get("/metrics").text)
        shop.build()
        until(lambda: reloads(client)["items"] == "ok")
    for answer in (before, running, started):
        assert dropped(answer) == BOTH
        assert (answer["tier"], answer["degraded"]) == ("session+long_term", [])
        assert answer["items"] == before["items"]
    assert (counted, gauge) == ({"items"}, True)
    assert states["items"] == later["items"] == "last_good"
    assert {v for k, v in states.items() if k != "items"} == {"ok"}


@pytest.mark.parametrize("folder", ["flags", "models"])
def test_what_else_was_in_force_stays_when_its_folder_is_gone(
    shop: Any, serving: Callable[..., Any], body: Body, until: Callable[..., Any], folder: str
) -> None:
    """Flags with their audit log, rules, and the blend."""
    (shop.home.flags / "rules.json").write_text(RULES)
    request, gone = body(9, user_id="u", session_id="s"), getattr(shop.home, folder)
    expected = {"flags", "rules"} if folder == "flags" else {"blend"}
    with serving(shop.settings) as client:
        if folder == "flags":
            client.patch("/v1/flags", json={"personalization": False}).raise_for_status()
        before = until(lambda: (a := ask(client, request))["dropped"] and a)
        unmount(gone)
        until(lambda: failures(client) == expected)
        running = ask(client, request)
    shutil.rmtree(gone, ignore_errors=True)
    with serving(shop.settings) as client:
        started, states = ask(client, request), reloads(client)
    for answer in (running, started):
        assert (answer["items"], answer["dropped"]) == (before["items"], before["dropped"])
        assert (answer["tier"], answer["degraded"]) == (before["tier"], before["degraded"])
    assert {what for what, state in states.items() if state == "last_good"} == expected
    assert before["degraded"] == (["personalization_off"] if folder == "flags" else [])


def test_without_any_items_rules_by_id_hold_and_those_by_attribute_say_that_they_cannot(
    shop: Any, serving: Callable[..., Any], body: Body
) -> None:
    (shop.home.flags / "rules.json").write_text(RULES)
    shutil.rmtree(shop.home.features)
    with serving(shop.settings) as client:
        answer = ask(client, body(9, user_id="u"))
        assert dropped(answer) == {"i1": "by id"}
        assert answer["degraded"] == ["items_missing", "attributes_unknown"]
        assert reloads(client)["items"] == "ok", "there never were any"
        client.patch("/v1/flags", json={"personalization": False}).raise_for_status()
        assert ask(client, body(9, user_id="u"))["degraded"] == ["personalization_off", "attributes_unknown"]
