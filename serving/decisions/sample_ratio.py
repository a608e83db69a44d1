"""Sample-ratio mismatch: do the arms hold as many units as they should? If not, the experiment is broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from math import log

import numpy as np

from feature_repo.arrays import Floats

ALARM = 0.001
"""Chance that an experiment filled as declared is ever called mismatched, at any number of looks."""
CONCENTRATION = 100.0
"""How near to the declared shares a broken split is expected: as a sample of so many units would be."""


@cache
def _log_gamma() -> Callable[[Floats], Floats]:
    from scipy.special import gammaln  # noqa: PLC0415 - half a second to import: only where it serves

    found: Callable[[Floats], Floats] = gammaln
    return found


def warm_statistics() -> None:
    """Import what the first scrape would else import while rankings wait."""
    _log_gamma()


def log_evidence(counts: Mapping[str, int], weights: Mapping[str, float]) -> float:
    """How much likelier (log) the counts are under any shares (Dirichlet) than under those declared.

    Along a growing sample of a split that is as declared, this ratio is a martingale that begins at 1: the
    chance that it ever reaches ``x`` is at most ``1 / x`` (Ville). So it may be looked at after every unit,
    which a chi-square may not (Lindon and Malek, 2022: Anytime-Valid Inference for Multinomial Count Data).

    Args:
        counts: units by arm; arms without weight are left out.
        weights: relative size of each arm.
    """
    arms = [arm for arm, weight in weights.items() if weight > 0.0]
    seen = np.array([counts.get(arm, 0) for arm in arms], float)
    shares = np.array([weights[arm] for arm in arms]) / sum(weights[arm] for arm in arms)
    log_gamma, prior = _log_gamma(), CONCENTRATION * shares
    whole = np.array([prior.sum(), prior.sum() + seen.sum()])
    any_shares = (log_gamma(prior + seen) - log_gamma(prior)).sum() - np.diff(log_gamma(whole))[0]
    return float(any_shares - (seen * np.log(shares)).sum())


def mismatched(counts: Mapping[str, int], weights: Mapping[str, float], halvings: int = 0) -> bool:
    """Whether the ratio is off beyond chance.

    Args:
        halvings: how often the sample was thinned out. Each time begins another sequence of looks; together
            they get `ALARM`: the first half of it, the next a quarter, and so on.
    """
    return log_evidence(counts, weights) >= (halvings + 1) * log(2.0) - log(ALARM)
