"""Serving's composition root: builds the application from its services."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from feature_repo.home import keep_private
from feature_repo.settings import Settings, load_settings
from serving.api.asgi import Handler, Receive, Scope, Send, respond, respond_error
from serving.api.decisions import decisions_router
from serving.api.docs_pages import add_docs
from serving.api.events import EventsRoute
from serving.api.features import FeaturesRoute
from serving.api.flags import admin_router
from serving.api.health import health_router
from serving.api.metarank import MetarankLimits, metarank_router
from serving.api.openapi import document
from serving.api.rank import RankRoute
from serving.bootstrap import open_services
from serving.monitoring.safe_traceback import place_of
from serving.schemas.errors import ApiError, error_answers
from serving.services import Services

log = logging.getLogger(__name__)

DESCRIPTION = (
    "Re-ranks the results of any search or recommender for one user and session, inside a time budget. "
    "Each answer names the features it used, their age, and what was degraded."
)
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
SWITCH_S = 0.0005
_CODES = {401: "unauthorized", 403: "forbidden", 404: "not_found", 405: "method_not_allowed"}


class ServingApp(FastAPI):
    """FastAPI, with bare ASGI handlers for the hot routes that bypass its middleware and routing.

    Attributes:
        hot: handlers by path and method.
    """

    hot: Mapping[str, Mapping[str, Handler]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Dispatch one connection."""
        if scope["type"] == "http":
            handlers = self.hot.get(scope["path"])
            if handlers is not None:
                handler = handlers.get(scope["method"])
                return await (handler or _not_allowed(handlers))(scope, receive, send)
        return await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document of all routes, including the hot ones."""
        if self.openapi_schema is None:
            self.openapi_schema = document(super().openapi())
        return self.openapi_schema


def create_app(settings: Settings) -> FastAPI:
    """Create the application.

    Raises:
        SettingsError: a setting cannot work, for example because the home is not writable.
    """
    services = open_services(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # A computing thread holds the GIL for this long. The default of 5 ms would delay ten rankings.
        sys.setswitchinterval(SWITCH_S)
        await services.start()
        # A full collection would spend 50 to 100 ms on the 100,000 long-lived objects of a warm process.
        gc.freeze()
        yield
        gc.unfreeze()
        await services.stop()
        events.close()

    events = EventsRoute(
        services.door, services.metrics, services.keys, settings.max_body_bytes, services.permissions.hear
    )
    app = ServingApp(
        title="Headrace",
        version="1",
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # `add_docs` serves pages that load nothing from the internet
        redoc_url=None,
    )
    app.state.services = services
    _add_routes(app, services, events)
    _add_error_answers(app)
    return app


def app_of_environment() -> FastAPI:
    """Create the application of a worker process, with settings from the environment."""
    keep_private()
    settings = load_settings()
    logging.basicConfig(level=settings.log_level, format=LOG_FORMAT)
    return create_app(settings)


def _add_routes(app: ServingApp, services: Services, events: EventsRoute) -> None:
    settings = services.settings
    rank = RankRoute(services)
    features = FeaturesRoute(
        services.feature_table, services.catalogue, services.keys, services.metrics, services.settings
    )
    app.hot = {
        "/v1/rank": {"POST": _guard(rank)},
        "/v1/events": {"POST": _guard(events)},
        "/v1/features": {"POST": _guard(features)},
    }
    add_docs(app)
    app.include_router(health_router(lambda: services.ready, services.state, services.render_metrics))
    app.include_router(decisions_router(services.find_decisions, services.explain, services.keys))
    app.include_router(admin_router(services.flag_control, services.keys, services.parts.flags.refresh))
    app.include_router(
        metarank_router(
            rank.answer,
            events.take,
            services.keys.check,
            settings.weights,
            MetarankLimits(settings.max_body_bytes, settings.max_candidates),
        ),
        responses=error_answers(400, 401, 403, 413, 422, 503),
    )


def _not_allowed(handlers: Mapping[str, Handler]) -> Handler:
    allowed = ", ".join(sorted(handlers))

    async def answer(_: Scope, __: Receive, send: Send) -> None:
        error = ApiError(405, "method_not_allowed", "", f"this path takes {allowed}")
        await respond(send, 405, error.body, [*error.headers, (b"allow", allowed.encode())])

    return answer


def _guard(handler: Handler) -> Handler:
    """Log an unexpected exception and answer it as JSON, never as a stack trace."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noting_send(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await handler(scope, receive, noting_send)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.error("%s %s failed: %s", scope["method"], scope["path"], place_of(error))
            if not started:
                await respond_error(send, _internal())

    return guarded


def _internal() -> ApiError:
    return ApiError(500, "internal", "", "an unexpected error; it was logged")


def _add_error_answers(app: FastAPI) -> None:
    """Give the errors of FastAPI's own routes the same shape as ours."""

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> Response:
        code = _CODES.get(error.status_code, "http_error")
        unknown = error.status_code == HTTPStatus.NOT_FOUND
        detail = "unknown path; see /docs" if unknown else str(error.detail)
        body = ApiError(error.status_code, code, "", detail).body
        return Response(body, error.status_code, error.headers, "application/json")

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        body = ApiError(422, "bad_value", field, f"{field}: {first['msg']}").body
        return Response(body, 422, media_type="application/json")

    @app.exception_handler(Exception)
    async def _defect(_: Request, __: Exception) -> Response:
        # Starlette re-raises it after this answer, so the server logs it.
        return Response(_internal().body, 500, media_type="application/json")

    @app.exception_handler(ApiError)
    async def _ours(_: Request, error: ApiError) -> Response:
        headers = {name.decode(): value.decode() for name, value in error.headers}
        return Response(error.body, error.status, headers)
