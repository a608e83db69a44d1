"""`POST /v1/rank`: the hot route, bare ASGI."""

from __future__ import annotations

import logging
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from serving.answer import RankAnswer
from serving.context import RankContext
from serving.http import ClientGone, Receive, Send, read_body, respond, respond_error
from serving.http import Scope as AsgiScope
from serving.keys import Scope
from serving.problem import ApiError

if TYPE_CHECKING:
    from serving.services import Services

log = logging.getLogger(__name__)


class RankRoute:
    """Checks the key, decodes, ranks, encodes, hands the decision on.

    More rankings at once than `max_concurrency` are not queued: they get the base order, at once.
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
        self._running = 0
        self._encoder = msgspec.json.Encoder()

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """One request, as ASGI."""
        arrived = perf_counter()
        try:
            context = await self._open(scope, receive, arrived)
        except ApiError as error:
            self._metrics.refused.labels(error.code).inc()
            await respond_error(send, error)
            return
        except ClientGone:
            return
        answer = await self._rank(context)
        await respond(send, 200, self._encoder.encode(answer))
        self._metrics.ranked(answer)
        self._exposures.see(context)
        self._recorder.offer(context, answer)
        if log.isEnabledFor(logging.DEBUG):
            _log(context, answer)

    async def _open(self, scope: AsgiScope, receive: Receive, arrived: float) -> RankContext:
        headers = scope["headers"]
        self._keys.check(headers, Scope.RANK)
        request = self._decoder.decode(await read_body(scope, receive, self._max_body))
        if request.overrides:
            self._keys.check(headers, Scope.ADMIN)
        return self._ranker.open(request, arrived)

    async def _rank(self, context: RankContext) -> RankAnswer:
        if self._running >= self._max_running:
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
