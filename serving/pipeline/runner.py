"""The runner: orders, times and guards the stages of a ranking, and builds the answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import repeat
from time import perf_counter

import numpy as np

from feature_repo.arrays import Floats
from serving.client.request_id import new_request_id
from serving.control.reloading import Model
from serving.monitoring.circuit_breaker import Breaker
from serving.monitoring.safe_traceback import place_of
from serving.pipeline.context import RankContext
from serving.pipeline.stage import Stage
from serving.schemas.rank_request import RankRequest, item_id_of
from serving.schemas.rank_response import RankAnswer, RankedItem
from serving.scoring.blend import grouped
from serving.scoring.ordering import is_whole

log = logging.getLogger(__name__)


class Ranker:
    """Ranks the candidates of a request.

    Args:
        stages: in the order they run.
        model: returns the current item features, blend, flags and rules.
        clock: current time, for ages.
        budget: time for personalization, from the arrival of the request.
        breakers: circuit breakers by stage name.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        model: Callable[[], Model],
        clock: Callable[[], datetime],
        budget: timedelta,
        *,
        breakers: Mapping[str, Breaker] | None = None,
    ) -> None:
        self._stages = tuple((stage, (breakers or {}).get(stage.name)) for stage in stages)
        self._model = model
        self._clock = clock
        self._budget_s = budget.total_seconds()

    def open(self, request: RankRequest, arrived: float) -> RankContext:
        """Create the context of a request that arrived at a `perf_counter` time."""
        model = self._model()
        return RankContext(
            request=request,
            request_id=request.request_id or new_request_id(),
            model=model,
            now=self._clock(),
            arrived=arrived,
            deadline=arrived + self._budget_s,
            item_ids=list(map(item_id_of, request.candidates)),
            flags=model.flags,
        )

    async def rank(self, context: RankContext) -> RankAnswer:
        """Run the stages and answer. A failing stage is skipped and never raises."""
        for stage, breaker in self._stages:
            if stage.personal and context.settled:
                continue
            started = perf_counter()
            if stage.personal and started > context.deadline:
                context.degrade("budget_exceeded")
                continue
            if breaker is not None and not breaker.allow():
                context.degrade(f"{stage.name}_open")
                continue
            ok = await self._guarded(stage, context)
            ended = perf_counter()
            context.timings_ms[stage.name] = (ended - started) * 1e3
            if breaker is not None:
                breaker.record(ok and ended <= context.deadline)
        if not _whole(context):
            await self._start_over(context)
        return self.answer(context)

    async def _start_over(self, context: RankContext) -> None:
        """Return to the base order, and rerun the stages that apply to every answer, such as the rules."""
        log.error("order is not a permutation of the candidates, request %r", context.request_id)
        context.reset()
        context.settle("order_invalid")
        for stage, _ in self._stages:
            if not stage.personal:
                before = context.ranking()
                await self._guarded(stage, context)
                if not _whole(context):
                    context.restore(before)

    async def _guarded(self, stage: Stage, context: RankContext) -> bool:
        before = context.ranking()
        try:
            waiting = stage.run(context)
            if waiting is not None:
                await _bounded(waiting, context.remaining_s())
        except TimeoutError:
            context.degrade(f"{stage.name}_late")
        except Exception as error:
            log.error("stage %s failed, request %r: %s", stage.name, context.request_id, place_of(error))
            context.degrade(f"{stage.name}_failed")
        else:
            if stage.name not in context.completed:
                context.completed.append(stage.name)
            return True
        context.restore(before)
        return False

    def answer(self, context: RankContext) -> RankAnswer:
        """Build the answer from the current state of a context."""
        items = _items(context)
        context.timings_ms["total"] = (perf_counter() - context.arrived) * 1e3
        return RankAnswer(
            request_id=context.request_id,
            items=items,
            tier=context.tier,
            degraded=context.degraded,
            ages=context.ages,
            timings_ms=context.timings_ms,
            dropped=context.dropped,
            arms=context.arms,
        )


async def _bounded(waiting: Awaitable[None], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await waiting


def _whole(context: RankContext) -> bool:
    """Whether `order` and `dropped` hold each candidate exactly once and every score is finite."""
    count, order, scores = len(context.base.order), context.order, context.scores
    if (
        len(order) + len(context.dropped) != count
        or len(scores) != count
        or not is_whole(order, scores, count)
    ):
        return False
    if not context.dropped:
        return True
    left = np.delete(np.arange(count), order).tolist()
    return {d.item_id for d in context.dropped} == {context.item_ids[i] for i in left}


def _items(context: RankContext) -> list[RankedItem]:
    request = context.request
    order = context.order[: request.limit]
    item_ids, chances = context.item_ids, context.propensities
    why: Iterable[dict[str, float] | None] = repeat(None)
    if request.explain:
        parts = {name: values[order].tolist() for name, values in explained(context).items()}
        why = [dict(zip(parts, row, strict=True)) for row in zip(*parts.values(), strict=True)]
    return list(
        map(
            RankedItem,
            [item_ids[index] for index in order.tolist()],
            context.scores[order].tolist(),
            range(len(order)),
            context.base.positions[order].tolist(),
            why,
            repeat(None) if chances is None else chances[order].tolist(),
        )
    )


def explained(context: RankContext) -> dict[str, Floats]:
    """Return the parts of every candidate's score, each float64[n]; they sum to the score."""
    held = context.contributions
    if held is None:
        return {"base": context.base.scores, **context.adjustments}
    back = context.base.positions
    parts = {name: values[back] for name, values in grouped(held.names, held.values).items()}
    return {**parts, **context.adjustments}
