"""Fuzzes the API from its own OpenAPI document: no 5xx, and every answer matches its schema."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serving.api.api_keys import Scope, new_key

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
EXAMPLES = 50
WITH_KEYS = 6
MAIN = {"POST /v1/rank", "POST /v1/events", "PATCH /v1/flags"}


def test_every_route(shop: Any, serving: Callable[..., Any]) -> None:
    with serving(shop.settings) as client:
        operations = operations_of(client)
        asked, statuses = fuzzed(operations, EXAMPLES)
    assert {o.label for o in operations} >= MAIN
    for operation in operations:
        # A route without parameters has one valid request, and perhaps no invalid one.
        least = EXAMPLES // 2 if operation.label in MAIN else 1
        assert asked[operation.label, POSITIVE] >= least, operation.label
        if operation.label in MAIN:
            assert asked[operation.label, NEGATIVE] >= least, operation.label
    assert statuses.keys() >= {("POST /v1/rank", 200), ("POST /v1/rank", 422), ("PATCH /v1/flags", 422)}


@pytest.mark.parametrize("scopes", [[], [Scope.RANK], list(Scope)], ids=["no key", "rank", "all scopes"])
def test_every_route_where_keys_are_asked_for(
    shop: Any, serving: Callable[..., Any], scopes: list[Scope]
) -> None:
    secret, entry = new_key("fuzz", scopes or [Scope.RANK])
    headers = {"Authorization": f"Bearer {secret}"} if scopes else {}
    with serving(shop.settings.model_copy(update={"api_keys": entry})) as client:
        asked, statuses = fuzzed(operations_of(client), WITH_KEYS, headers)
    main = {(label, status): n for (label, status), n in statuses.items() if label in MAIN}
    assert {label for label, _ in asked} >= MAIN
    allowed = {"POST /v1/rank": Scope.RANK, "POST /v1/events": Scope.EVENTS, "PATCH /v1/flags": Scope.ADMIN}
    for label, scope in allowed.items():
        met = {status for name, status in main if name == label}
        if not scopes:
            assert 401 in met
            assert not met & {200, 403}
        elif scope not in scopes:
            assert 403 in met
            assert not met & {200, 401}
        else:
            assert 200 in met or 422 in met
            # Overrides of experiments need a separate scope.
            overriding = label == "POST /v1/rank" and Scope.ADMIN not in scopes
            assert not met & ({401} if overriding else {401, 403})


def operations_of(client: Any) -> list[Any]:
    document = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")
    return [found.ok() for found in document.get_all_operations()]


def fuzzed(
    operations: list[Any], examples: int, headers: dict[str, str] | None = None
) -> tuple[Counter[Any], Counter[Any]]:
    """Send valid and invalid requests to all routes.

    Returns:
        Counts by route and mode, and by route and status of the answer.
    """
    asked: Counter[Any] = Counter()
    statuses: Counter[Any] = Counter()
    for operation in operations:
        for mode in GenerationMode:
            for status in fuzz(operation, mode, examples, headers):
                asked[operation.label, mode] += 1
                statuses[operation.label, status] += 1
    return asked, statuses


def fuzz(operation: Any, mode: GenerationMode, examples: int, headers: dict[str, str] | None) -> list[int]:
    """Return the statuses of one route."""
    statuses: list[int] = []

    @given(operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=examples,
        derandomize=True,  # the same requests in every run, so that failures come from changes
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    def check(case: Any) -> None:
        statuses.append(case.call_and_validate(checks=CHECKS, headers=headers).status_code)

    try:
        check()
    except Unsatisfiable:
        # It has no invalid requests, but that must not hide a route that is never called.
        assert mode is NEGATIVE, operation.label
    return statuses
