"""A decision record in words: the answer is made again with its parts, and they are put into sentences."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from feature_repo.home import Home
from serving.decisions.explain import Standing
from serving.decisions.explain import in_words as sentence
from serving.decisions.record import Decision
from serving.decisions.replay import ReplayError, model_of, replay
from serving.pipeline.stage import Stage
from serving.schemas.rank_response import Dropped, RankAnswer, Tier

_PLACING = {
    "cap": "The bound on moves changed its place.",
    "diversity": "It was moved so that neighbours differ.",
    "exploration": "Slots that explore shifted it.",
    "rules": "Business rules on other items shifted it.",
}
"""Parts that stages after the blend add, in words; they are told apart from what the signals say."""


def in_words(decision: Decision, stages: Sequence[Stage], home: Home) -> list[str]:
    """One paragraph for each item of an answer, in its order.

    Raises:
        ReplayError: what the answer was made with is gone, or makes another ranking now.
    """
    asked = msgspec.structs.replace(decision, explain=True)
    again = replay(asked, stages, model_of(decision, home))
    answer, context = again.answer, again.context
    if _shown(answer) != _shown(decision):
        msg = (
            f"decision {decision.request_id!r}: made again it is another ranking than the one answered "
            "(a build of its time was replaced, or another version of Headrace made it)"
        )
        raise ReplayError(msg)
    index = {item_id: n for n, item_id in enumerate(context.item_ids)}
    # Whoever is held out had slots drawn too, but was given the base order.
    drawn = set() if answer.tier is Tier.BASE else set(context.drawn.tolist())
    words = []
    for item in answer.items:
        parts = item.why or {}
        explored, rule = index[item.item_id] in drawn, context.placed.get(index[item.item_id])
        known = {"exploration": explored, "rules": rule is not None}
        moved = [said for part, said in _PLACING.items() if parts.get(part) and not known.get(part)]
        standing = Standing(
            item_id=item.item_id,
            position=item.position,
            base_position=item.base_position,
            score=item.score,
            parts={name: value for name, value in parts.items() if name not in _PLACING},
            propensity=item.propensity,
            explored=explored,
            rule=rule,
        )
        words.append(" ".join([sentence(standing), *moved]))
    words.extend(f"Item {d.item_id} was dropped by the rule {d.rule!r}." for d in answer.dropped)
    return words


def _shown(ranking: RankAnswer | Decision) -> tuple[Tier, list[str], list[Dropped]]:
    """What sentences are about; the last bits of a score are not."""
    return ranking.tier, [item.item_id for item in ranking.items], ranking.dropped
