"""The API under requests made from its own OpenAPI document: no 5xx, and every answer matches its schema."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

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

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def test_every_route(shop: Any, serving: Callable[..., Any]) -> None:
    with serving(shop.settings) as client:
        document = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")
        operations = [found.ok() for found in document.get_all_operations()]
        assert {"POST /v1/rank", "POST /v1/events", "PATCH /v1/flags"} <= {o.label for o in operations}
        for operation in operations:
            fuzz(operation)


def fuzz(operation: Any) -> None:
    """Requests of one route: those its schema permits, and those it does not."""
    for mode in GenerationMode:

        @given(operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=20,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        )
        def check(case: Any) -> None:
            case.call_and_validate(checks=CHECKS)

        with contextlib.suppress(Unsatisfiable):
            check()
