"""`POST /v1/rank`: the hot route, as bare ASGI."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias

from serving.api.api_keys import Scope
from serving.api.asgi import ClientGone, Receive, Send, arrived, read_body, respond, respond_error
from serving.api.asgi import Scope as AsgiScope
from serving.decisions.record import Answered
from serving.pipeline.context import RankContext
from serving.schemas.errors import ApiError
from serving.schemas.rank_response import RankAnswer, encode_answer

if TYPE_CHECKING:
    from serving.services import Services

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

log = logging.getLogger(__name__)

WAIT_SHARE = 2 / 3
"""Share of the budget that a request may spend waiting and still be personalized."""


class RankRoute:
    """Checks the key, decodes, ranks, encodes and passes the decision to the recorder.

    An overloaded server answers at once with the base order: for a request that has already waited for two
    thirds of its budget, and for one that exceeds `max_concurrency`.
    """

    def __init__(self, services: Services) -> None:
        settings = services.settings
        self._ranker = services.ranker
        self._decoder = services.decoder
        self._metrics = services.metrics
        self._keys = services.keys
        self._recorder = services.recorder
        self._exposures = services.exposures
        self._max_body = settings.max_body_bytes
        self._max_running = settings.max_concurrency
        self._max_wait_s = settings.budget_ms / 1e3 * WAIT_SHARE
        self._running = 0

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """One request, as ASGI."""
        headers = scope["headers"]
        try:
            self._keys.check(headers, Scope.RANK)
            body = await read_body(scope, receive, self._max_body)
            context = self._open(headers, body, arrived(scope))
        except ApiError as error:
            self._metrics.refused.labels(error.code).inc()
            await respond_error(send, error)
            return
        except ClientGone:
            return
        answer = await self._rank(context)
        encoded, items = encode_answer(answer)
        await respond(send, 200, encoded)
        self._note(Answered(context, answer, items, body))

    async def answer(self, headers: Headers, body: bytes, since: float) -> RankAnswer:
        """Answer a body of `POST /v1/rank` for a route of another format, which has checked the key.

        Raises:
            ApiError: the body is malformed, or needs a scope that the key lacks.
        """
        context = self._open(headers, body, since)
        answer = await self._rank(context)
        made = Answered(context, answer, encode_answer(answer)[1], body)
        asyncio.get_running_loop().call_soon(self._note, made)  # after the caller has sent it
        return answer

    def _note(self, made: Answered) -> None:
        self._metrics.ranked(made.answer)
        self._exposures.see(made.context)
        self._recorder.offer(made)
        if log.isEnabledFor(logging.DEBUG):
            _log(made.context, made.answer)

    def _open(self, headers: Headers, body: bytes, since: float) -> RankContext:
        request = self._decoder.decode(body)
        if request.overrides:
            self._keys.check(headers, Scope.ADMIN)
        return self._ranker.open(request, since)

    async def _rank(self, context: RankContext) -> RankAnswer:
        waited = perf_counter() - context.arrived
        context.timings_ms["waited"] = waited * 1e3
        if self._running >= self._max_running or waited > self._max_wait_s:
            context.settle("overload")
        self._running += 1
        try:
            return await self._ranker.rank(context)
        finally:
            self._running -= 1


def _log(context: RankContext, answer: RankAnswer) -> None:
    log.debug(
        "rank %r: %d candidates, tier %s, degraded %s, %.2f ms",
        answer.request_id,
        len(context.request.candidates),
        answer.tier,
        answer.degraded,
        answer.timings_ms["total"],
    )
