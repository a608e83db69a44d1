"""A decision record in words: the answer is made again with its parts, and they are put into sentences."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from feature_repo.home import Home
from serving.decision import Decision
from serving.explain import Standing
from serving.explain import in_words as sentence
from serving.replay import model_of, replay
from serving.stage import Stage

_PLACING = ("cap", "diversity", "exploration", "rules")
"""Parts that stages after the blend add; they are told apart from what the signals say."""


def in_words(decision: Decision, stages: Sequence[Stage], home: Home) -> list[str]:
    """One paragraph for each item of an answer, in its order.

    Raises:
        ReplayError: what the answer was made with is gone.
    """
    asked = msgspec.structs.replace(decision, explain=True)
    answer = replay(asked, stages, model_of(decision, home)).answer
    words = []
    for item in answer.items:
        parts = item.why or {}
        moved = [part for part in _PLACING if parts.get(part)]
        standing = Standing(
            item_id=item.item_id,
            position=item.position,
            base_position=item.base_position,
            score=item.score,
            parts={name: value for name, value in parts.items() if name not in _PLACING},
            propensity=item.propensity,
        )
        words.append(" ".join([sentence(standing), *(f"Moved by: {part}." for part in moved)]))
    words.extend(f"Item {d.item_id} was dropped by the rule {d.rule!r}." for d in answer.dropped)
    return words
