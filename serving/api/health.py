"""`/healthz`, `/readyz`, `/metrics`, `/v1/schema`: state and schema for operators and clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from feature_repo.contract.validation import json_schema


class Health(BaseModel):
    """The process runs."""

    status: str = Field("ok", examples=["ok"])


class Readiness(BaseModel):
    """Whether requests should be sent here, and the state of personalization."""

    ready: bool = Field(description="Whether this process answers requests, at least in base order.")
    personalization: dict[str, Any] = Field(
        description="State of each part that personalization depends on.",
        examples=[{"items": "20240601T120000Z", "blend": "3", "store": "ok"}],
    )


def health_router(
    ready: Callable[[], bool], state: Callable[[], dict[str, Any]], render: Callable[[], bytes]
) -> APIRouter:
    """Create the routes that report the state of the process.

    Args:
        ready: whether warm-up has ended.
        state: state of personalization; it never affects readiness, because the base order still serves.
        render: renders the metrics.
    """
    router = APIRouter()

    @router.get("/healthz", summary="Is the process alive?", tags=["operation"])
    async def healthz() -> Health:
        return Health(status="ok")

    @router.get(
        "/readyz",
        summary="Should requests be sent here?",
        tags=["operation"],
        responses={503: {"model": Readiness, "description": "Warming up or shutting down."}},
        response_model=Readiness,
    )
    async def readyz() -> JSONResponse:
        is_ready = ready()
        body = Readiness(ready=is_ready, personalization=state())
        return JSONResponse(body.model_dump(), status_code=200 if is_ready else 503)

    @router.get(
        "/metrics",
        summary="Prometheus metrics",
        tags=["operation"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    def prometheus() -> Response:  # not async: runs in a thread, because a scrape computes and reads files
        return Response(render(), media_type=CONTENT_TYPE_LATEST)

    @router.get("/v1/schema", summary="JSON Schema of events, items and users", tags=["events"])
    async def schema() -> dict[str, Any]:
        return json_schema()

    return router
