"""What a blend makes of many lists at once."""

from __future__ import annotations

import numpy as np

from feature_repo.arrays import Floats
from orchestration.evaluation.history_replay import Replayed
from orchestration.evaluation.listwise_softmax import standardized
from quality.ranking.metrics import ndcg, positions_of
from serving.scoring.blend import Blend, centred_signals


def blend_scores(blend: Blend, lists: Replayed) -> Floats:
    """`Blend.scores` of all lists at once ``(places,)``."""
    own = {name: i for i, name in enumerate(blend.names)}
    columns = [i for i, name in enumerate(lists.names) if name in own]
    at = [own[lists.names[i]] for i in columns]
    names = tuple(lists.names[i] for i in columns)
    scales, weights = np.array(blend.scales)[at], np.array(blend.weights)[at]
    values = standardized(lists.values[:, columns], lists.offsets, centred_signals(names), scales)
    scores: Floats = values @ weights
    return scores


def ndcg_of(blend: Blend, lists: Replayed) -> Floats:
    """NDCG@10 of each list, ranked by a blend."""
    return ndcg(positions_of(blend_scores(blend, lists), lists.offsets), lists.relevant, lists.offsets)
