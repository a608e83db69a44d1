"""`POST /v1/rank`: the hot route, bare ASGI."""

from __future__ import annotations

import logging
from time import perf_counter

import msgspec

from serving.answer import RankAnswer
from serving.context import RankContext
from serving.http import ClientGone, Receive, Scope, Send, read_body, respond, respond_error
from serving.metrics import Metrics
from serving.problem import ApiError
from serving.rank import Ranker
from serving.request import RequestDecoder

log = logging.getLogger(__name__)


class RankRoute:
    """Decodes, ranks, encodes.

    Args:
        max_body_bytes: longest body read.
    """

    def __init__(
        self, ranker: Ranker, decoder: RequestDecoder, metrics: Metrics, max_body_bytes: int
    ) -> None:
        self._ranker = ranker
        self._decoder = decoder
        self._metrics = metrics
        self._limit = max_body_bytes
        self._encoder = msgspec.json.Encoder()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI."""
        arrived = perf_counter()
        try:
            body = await read_body(scope, receive, self._limit)
            context = self._ranker.open(self._decoder.decode(body), arrived)
        except ApiError as error:
            self._metrics.refused.labels(error.code).inc()
            await respond_error(send, error)
            return
        except ClientGone:
            return
        answer = await self._ranker.rank(context)
        await respond(send, 200, self._encoder.encode(answer))
        self._record(context, answer)

    def _record(self, context: RankContext, answer: RankAnswer) -> None:
        self._metrics.ranked(answer)
        if log.isEnabledFor(logging.DEBUG):
            log.debug(
                "rank %r: %d candidates, tier %s, degraded %s, %.2f ms",
                answer.request_id,
                len(context.request.candidates),
                answer.tier,
                answer.degraded,
                answer.timings_ms["total"],
            )
