"""Routes for operators: health, metrics, documents, errors, the address."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from feature_repo.contract.validation import json_schema
from feature_repo.errors import SettingsError
from feature_repo.settings import Settings
from serving.api.openapi import EVENT_EXAMPLE, RANK_ANSWER_EXAMPLE, RANK_REQUEST_EXAMPLE
from serving.app import create_app
from serving.server import address_of, listen


def test_health_and_readiness(api: httpx.Client) -> None:
    assert api.get("/healthz").json() == {"status": "ok"}
    ready = api.get("/readyz").json()
    assert ready["ready"] is True
    assert ready["personalization"]["blend"] == "1"


def test_what_a_warm_process_holds_is_no_garbage_to_look_for(serving: Callable[..., Any], shop: Any) -> None:
    gc.unfreeze()
    with serving(shop.settings):
        assert gc.get_freeze_count() > 10_000
    assert gc.get_freeze_count() == 0


def test_metrics_count_rankings_without_ids(api: httpx.Client, body: Callable[..., Any]) -> None:
    api.post("/v1/rank", json=body(user_id="secret-user", session_id="s"))
    api.post("/v1/rank", json={})
    response = api.get("/metrics")
    text = response.text
    assert text, (response.status_code, dict(response.headers))
    assert 'headrace_ranks_total{tier="session+segment"} 1.0' in text
    assert 'headrace_requests_refused_total{code="missing_field"} 1.0' in text
    assert 'headrace_stage_milliseconds_count{stage="features"} 1.0' in text
    assert "headrace_accepted_records_total" in text, "metrics of the layers below are included"
    assert "secret-user" not in text


def test_the_schema_of_records(api: httpx.Client) -> None:
    assert api.get("/v1/schema").json() == json.loads(json.dumps(json_schema()))


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/rank", 405, "method_not_allowed"),
        ("POST", "/healthz", 405, "method_not_allowed"),
        ("GET", "/nowhere", 404, "not_found"),
    ],
)
def test_errors_have_one_shape(api: httpx.Client, method: str, path: str, status: int, code: str) -> None:
    response = api.request(method, path)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    if status == 405:
        assert response.headers["allow"]


def test_a_defect_is_a_500_in_json_without_a_stack_trace(
    shop: Any, serve_app: Callable[..., Any], body: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    from serving.app import create_app

    app = create_app(shop.settings)
    app.state.services.decoder.decode = None
    with serve_app(app) as client:
        response = client.post("/v1/rank", json=body())
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal"
    assert "Traceback" not in response.text
    assert "POST /v1/rank failed" in caplog.text


def schema_of(document: dict[str, Any], path: str, status: str) -> Draft202012Validator:
    media = document["paths"][path]["post"]["responses"][status]["content"]["application/json"]
    return Draft202012Validator({**media["schema"], "components": document["components"]})


def test_openapi_describes_what_is_answered(api: httpx.Client, body: Callable[..., Any]) -> None:
    document = api.get("/openapi.json").json()
    assert {"/v1/rank", "/v1/events", "/v1/schema", "/healthz", "/readyz", "/metrics"} <= document[
        "paths"
    ].keys()
    answer = api.post("/v1/rank", json=body(user_id="u", session_id="s", explain=True)).json()
    schema_of(document, "/v1/rank", "200").validate(answer)
    schema_of(document, "/v1/rank", "200").validate(RANK_ANSWER_EXAMPLE)
    refused = api.post("/v1/rank", json={}).json()
    schema_of(document, "/v1/rank", "422").validate(refused)


def test_the_examples_of_the_document_work(api: httpx.Client) -> None:
    assert api.post("/v1/rank", json=RANK_REQUEST_EXAMPLE).status_code == 200
    assert api.post("/v1/events", json=EVENT_EXAMPLE).status_code == 202


def test_the_documentation_page_is_served(api: httpx.Client) -> None:
    assert "openapi.json" in api.get("/docs").text


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            SettingsError, match=rf"HEADRACE_PORT={port}: cannot listen \(Address already in use"
        ):
            listen("127.0.0.1", port)


def test_the_address_is_that_of_the_socket() -> None:
    listening = listen("127.0.0.1", 0)
    assert address_of(listening) == f"http://127.0.0.1:{listening.getsockname()[1]}"
    listening.close()


def test_a_home_that_cannot_be_written_fails_at_start(tmp_path: Path) -> None:
    from serving.app import create_app

    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="HEADRACE_HOME"):
        create_app(Settings(home=tmp_path / "file" / "home"))


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_api_can_be_looked_at_without_the_internet(api: httpx.Client, page: str) -> None:
    html = api.get(page).text
    loaded = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert loaded
    for address in loaded:
        assert address.startswith("/"), f"{address} is not served here"
        asset = api.get(address)
        assert (asset.status_code, len(asset.content) > 500) == (200, True), address
    assert "https:" not in html
    assert "/openapi.json" in html


def test_pages_behind_a_proxy_that_strips_a_prefix(shop: Any) -> None:
    app = create_app(shop.settings)
    transport = httpx.ASGITransport(app, root_path="/headrace")

    async def page() -> str:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return (await client.get("/docs")).text

    html = asyncio.run(page())
    assert "/headrace/docs-assets/swagger-ui-bundle.js" in html
    assert "/headrace/openapi.json" in html
