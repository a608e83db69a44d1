"""Flags of a running server: the kill switch, tiers, weights and the cap, by API and by editing the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from serving.api.api_keys import Scope, new_key

Body = Callable[..., dict[str, Any]]


def rank(api: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = api.post("/v1/rank", json=body).raise_for_status().json()
    return answer


def flags(api: httpx.Client, **changes: Any) -> httpx.Response:
    return api.patch("/v1/flags", json=changes)


def test_the_kill_switch_and_the_way_back(api: httpx.Client, body: Body) -> None:
    assert rank(api, body(user_id="u"))["tier"] == "long_term"
    assert flags(api, personalization=False).json()["personalization"] is False
    answer = rank(api, body(user_id="u", session_id="s"))
    assert (answer["tier"], answer["degraded"]) == ("base", ["personalization_off"])
    assert [i["item_id"] for i in answer["items"]] == [f"i{n}" for n in range(9)]
    assert api.post("/v1/flags/rollback").json()["personalization"] is True
    assert rank(api, body(user_id="u"))["tier"] == "long_term"
    history = api.get("/v1/flags/history").json()
    assert [(c["version"], c["who"]) for c in history] == [(1, "test"), (2, "local"), (3, "local")]


def test_an_edit_of_the_file_is_followed_and_audited(
    shop: Any, api: httpx.Client, body: Body, until: Callable[..., Any]
) -> None:
    shop.home.flags.mkdir(exist_ok=True)
    path = shop.home.flags / "flags.json"
    path.write_text(json.dumps({"personalization": False}))
    until(lambda: rank(api, body(user_id="u"))["degraded"] == ["personalization_off"])
    assert api.get("/v1/flags/history").json()[-1]["who"] == "file"


def test_a_malformed_file_leaves_the_last_good_set_and_raises_a_metric(
    shop: Any, api: httpx.Client, body: Body, until: Callable[..., Any]
) -> None:
    flags(api, personalization=False)
    (shop.home.flags / "flags.json").write_text("{ broken")
    until(lambda: 'headrace_reload_failures_total{what="flags"} 1.0' in api.get("/metrics").text)
    assert rank(api, body(user_id="u"))["degraded"] == ["personalization_off"]
    assert api.get("/v1/flags").status_code == 422
    assert api.post("/v1/flags/rollback").json()["personalization"] is False


@pytest.mark.parametrize(
    ("tiers", "tier"),
    [
        (["long_term", "segment", "base"], "long_term"),
        (["segment", "base"], "segment"),
        (["base"], "base"),
        (["session+segment", "segment", "base"], "segment"),
    ],
)
def test_a_tier_that_is_not_permitted_steps_down(
    api: httpx.Client, body: Body, tiers: list[str], tier: str
) -> None:
    flags(api, tiers=tiers)
    assert rank(api, body(user_id="u", session_id="s"))["tier"] == tier


def test_weights_scale_what_a_group_adds(api: httpx.Client, body: Body) -> None:
    def session_part(answer: dict[str, Any]) -> float:
        return max(item["why"]["session"] for item in answer["items"])

    request = body(user_id="u", session_id="s", explain=True)
    before = session_part(rank(api, request))
    flags(api, weights={"session": 0.5})
    assert session_part(rank(api, request)) == pytest.approx(before / 2)
    flags(api, weights={"session": 0.0})
    assert session_part(rank(api, request)) == 0.0


def test_the_cap_bounds_every_move_and_explains_itself(api: httpx.Client, body: Body) -> None:
    request = body(user_id="u", session_id="s", explain=True)
    free = rank(api, request)
    assert max(abs(i["position"] - i["base_position"]) for i in free["items"]) > 2
    flags(api, **{"cap.positions": 2})
    answer = rank(api, request)
    assert max(abs(i["position"] - i["base_position"]) for i in answer["items"]) <= 2
    assert [i["score"] for i in answer["items"]] == sorted(
        (i["score"] for i in answer["items"]), reverse=True
    )
    for item in answer["items"]:
        assert sum(item["why"].values()) == pytest.approx(item["score"])
    assert any(item["why"]["cap"] for item in answer["items"])


@pytest.mark.parametrize(
    ("content", "code", "field"),
    [
        (b'{"nonsense": 1}', "bad_flag", ""),
        (b'{"cap.positions": -1}', "bad_flag", "cap.positions"),
        (b"[1]", "not_json", ""),
        (b"{", "not_json", ""),
    ],
)
def test_a_change_that_cannot_be(api: httpx.Client, content: bytes, code: str, field: str) -> None:
    response = api.patch("/v1/flags", content=content)
    assert response.status_code == 422
    error = response.json()["error"]
    assert (error["code"], error["field"]) == (code, field)
    assert len(api.get("/v1/flags/history").json()) == 1, "only what stocked the shop"


@pytest.mark.parametrize("announced", [True, False])
def test_a_change_that_is_too_large_names_its_own_limit(api: httpx.Client, announced: bool) -> None:
    content = b'{"weights": {' + b" " * 70_000 + b"}}"
    pieces = (content[at : at + 9_000] for at in range(0, len(content), 9_000))
    response = api.patch("/v1/flags", content=content if announced else pieces)
    assert response.status_code == 413
    assert response.json()["error"] == {
        "code": "body_too_large",
        "field": "",
        "message": "body: over 65536 bytes; put a larger set of changes into the flags file",
    }
    assert len(api.get("/v1/flags/history").json()) == 1, "only what stocked the shop"


def test_the_document_names_every_error_of_a_change(api: httpx.Client) -> None:
    """Statuses of the bodies above, and other possible ones."""
    routes = api.get("/openapi.json").json()["paths"]["/v1/flags"]
    assert set(routes["patch"]["responses"]) == {"200", "400", "401", "403", "413", "422", "503"}
    assert set(routes["get"]["responses"]) == {"200", "401", "403", "422", "503"}, "it reads no body"


def test_keys_guard_every_route(shop: Any, serving: Callable[..., Any], body: Body) -> None:
    rank_key, rank_entry = new_key("web", [Scope.RANK])
    admin_key, admin_entry = new_key("ops", [Scope.ADMIN])
    settings = shop.settings.model_copy(update={"api_keys": f"{rank_entry},{admin_entry}"})
    with serving(settings) as client:
        as_web, as_ops = {"authorization": f"Bearer {rank_key}"}, {"x-api-key": admin_key}
        routes: list[tuple[str, str, Any]] = [
            ("POST", "/v1/rank", body()),
            ("POST", "/v1/events", []),
            ("GET", "/v1/flags", None),
            ("PATCH", "/v1/flags", {}),
            ("POST", "/v1/flags/rollback", None),
            ("GET", "/v1/flags/history", None),
            ("GET", "/v1/decisions/x", None),
        ]
        for method, path, content in routes:
            response = client.request(method, path, json=content)
            assert (response.status_code, response.json()["error"]["code"]) == (401, "unauthorized"), path
        assert client.post("/v1/rank", json=body(), headers=as_web).status_code == 200
        assert client.post("/v1/events", json=[], headers=as_web).status_code == 403
        assert client.get("/v1/flags", headers=as_web).status_code == 403
        assert client.post("/v1/rank", json=body(overrides={"x": "y"}), headers=as_web).status_code == 403
        changed = client.patch("/v1/flags", json={"personalization": False}, headers=as_ops)
        assert changed.status_code == 200
        assert client.get("/v1/flags/history", headers=as_ops).json()[-1]["who"] == "ops"
        assert client.get("/healthz").status_code == 200, "health needs no key"
