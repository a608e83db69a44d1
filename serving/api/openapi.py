"""The OpenAPI document: FastAPI's own plus the bare ASGI routes, described by their msgspec structs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from feature_repo.contract.validation import json_schema
from serving.api.events import EventsAnswer
from serving.api.features import FeaturesRequest
from serving.features.feature_table import FeaturesAnswer
from serving.schemas.errors import MEANINGS, ProblemAnswer
from serving.schemas.rank_request import RankRequest
from serving.schemas.rank_response import RankAnswer

_REF = "#/components/schemas/{name}"

RANK_REQUEST_EXAMPLE = {
    "user_id": "u42",
    "session_id": "s7",
    "query": "running shoes",
    "candidates": [{"item_id": "i1", "score": 3.2}, {"item_id": "i2", "score": 2.9}, {"item_id": "i3"}],
    "limit": 10,
    "explain": True,
}
RANK_ANSWER_EXAMPLE = {
    "request_id": "5f0c0a3b7f0e4d0f9c1b2a3d",
    "items": [
        {
            "item_id": "i2",
            "score": 1.4,
            "position": 0,
            "base_position": 1,
            "why": {"base": 0.5, "session_affinity:category": 0.9},
        },
        {"item_id": "i1", "score": 1.1, "position": 1, "base_position": 0, "why": {"base": 1.1}},
    ],
    "tier": "session+long_term",
    "degraded": [],
    "ages": {
        "user_profile": 3610.2,
        "segment_profile": 3610.2,
        "session_profile": 0.4,
        "item_profile": 3610.2,
    },
    "timings_ms": {"consent": 0.01, "features": 0.31, "blend": 0.28, "total": 0.74},
    "dropped": [],
    "arms": {},
}
FEATURES_REQUEST_EXAMPLE = {
    "features": ["item_profile:ctr", "item_profile:categories"],
    "entities": {"item_id": ["i1", "i2"]},
}
FEATURES_ANSWER_EXAMPLE = {
    "metadata": {"feature_names": ["item_id", "ctr", "categories"]},
    "results": [
        {
            "values": ["i1", "i2"],
            "statuses": ["PRESENT", "PRESENT"],
            "event_timestamps": ["1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"],
        },
        {
            "values": [0.12, None],
            "statuses": ["PRESENT", "NOT_FOUND"],
            "event_timestamps": ["2024-06-01T00:00:00Z", "1970-01-01T00:00:00Z"],
        },
        {
            "values": [["shoes"], None],
            "statuses": ["PRESENT", "NOT_FOUND"],
            "event_timestamps": ["2024-06-01T00:00:00Z", "1970-01-01T00:00:00Z"],
        },
    ],
    "views": {
        "item_profile": {
            "event_times": ["2024-06-01T00:00:00.25Z", None],
            "age_s": [3610.2, None],
            "expired": [False, False],
            "stale": [False, False],
            "withheld": [False, False],
        }
    },
}
EVENT_EXAMPLE = {
    "record": "event",
    "event_id": "e1",
    "event_type": "click",
    "event_time": "2024-06-01T12:00:00Z",
    "session_id": "s7",
    "user_id": "u42",
    "item_id": "i2",
    "position": 1,
}
_ERROR_EXAMPLE = {
    "error": {
        "code": "missing_field",
        "field": "candidates",
        "message": "candidates: object missing required field `candidates`",
    }
}


def document(generated: Mapping[str, Any]) -> dict[str, Any]:
    """Add the hot routes to FastAPI's document.

    Args:
        generated: FastAPI's document of its own routes.
    """
    structs = (RankRequest, RankAnswer, ProblemAnswer, EventsAnswer, FeaturesRequest, FeaturesAnswer)
    _, schemas = msgspec.json.schema_components(structs, ref_template=_REF)
    merged = {**generated}
    components = dict(merged.get("components", {}))
    components["schemas"] = {**components.get("schemas", {}), **schemas, **_record_schemas()}
    merged["components"] = components
    merged["paths"] = {
        "/v1/rank": {"post": _rank()},
        "/v1/events": {"post": _events()},
        "/v1/features": {"post": _features()},
        **merged["paths"],
    }
    return merged


def _record_schemas() -> dict[str, Any]:
    """Return the event contract's definitions, with references rewritten for OpenAPI."""
    definitions = msgspec.json.encode(json_schema()["$defs"])
    return msgspec.json.decode(
        definitions.replace(b"#/$defs/", b"#/components/schemas/"), type=dict[str, Any]
    )


def _content(name: str, example: Any) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(name=name)}, "example": example}}


def _errors(*statuses: int) -> dict[str, Any]:
    content = _content("ProblemAnswer", _ERROR_EXAMPLE)
    return {str(status): {"description": MEANINGS[status], "content": content} for status in statuses}


def _rank() -> dict[str, Any]:
    return {
        "operationId": "rank",
        "summary": "Order candidates for this user and session",
        "tags": ["ranking"],
        "requestBody": {"required": True, "content": _content("RankRequest", RANK_REQUEST_EXAMPLE)},
        "responses": {
            "200": {
                "description": "The same candidates in a new order.",
                "content": _content("RankAnswer", RANK_ANSWER_EXAMPLE),
            },
            **_errors(401, 403, 413, 422),
        },
    }


def _features() -> dict[str, Any]:
    return {
        "operationId": "get_features",
        "summary": "Online features of many entities, in the format of Feast's get-online-features",
        "tags": ["features"],
        "requestBody": {"required": True, "content": _content("FeaturesRequest", FEATURES_REQUEST_EXAMPLE)},
        "responses": {
            "200": {
                "description": "One column per join key and feature, and the age of each view's rows.",
                "content": _content("FeaturesAnswer", FEATURES_ANSWER_EXAMPLE),
            },
            **_errors(401, 403, 413, 422, 503),
        },
    }


def _events() -> dict[str, Any]:
    record = {"oneOf": [{"$ref": _REF.format(name=n)} for n in ("Event", "Item", "User")]}
    schema = {"oneOf": [record, {"type": "array", "items": record}]}
    answer = {"accepted": 1, "rejected": []}
    return {
        "operationId": "post_events",
        "summary": "Accept one event, item or user, or a batch of them",
        "tags": ["events"],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": EVENT_EXAMPLE}},
        },
        "responses": {
            "202": {
                "description": "Some or all records were accepted; refused ones are listed.",
                "content": _content("EventsAnswer", answer),
            },
            **_errors(401, 403, 413, 422, 503),
        },
    }
