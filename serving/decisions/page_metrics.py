"""What a page of items is like: how broad, how varied, how new, how popular. Tells a filter bubble early."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feature_repo.arrays import Ints
from serving.items.item_snapshot import ItemSnapshot
from serving.scoring.ordering import indices
from serving.scoring.similarity import breadth, items_of

FIRST = 10
"""Items of an answer that count as its page."""


@dataclass(frozen=True, slots=True)
class PageFigures:
    """Of the known items of a page; nan where it cannot be said.

    Attributes:
        category_coverage: share of all categories that are on the page.
        diversity: mean of 1 − similarity over pairs of items (intra-list diversity, Ziegler et al. 2005).
        mean_age_days: mean age of the items.
        popular_share: share of items that are among the most popular.
    """

    category_coverage: float
    diversity: float
    mean_age_days: float
    popular_share: float


def page_figures(numbers: Ints, snapshot: ItemSnapshot) -> PageFigures:
    """Figures of a page.

    Args:
        numbers: snapshot item numbers in answer order, -1 for unknown; the first `FIRST` count.

    Raises:
        IndexError: a number is of no item.
    """
    page = numbers[:FIRST]
    page = page[page >= 0]
    if not len(page):
        return PageFigures(np.nan, np.nan, np.nan, np.nan)
    if page.max() >= len(snapshot):
        msg = f"numbers: {page.max()} is no item of a snapshot of {len(snapshot)}"
        raise IndexError(msg)
    everything = len(snapshot.category_names)
    pairs = len(page) * (len(page) - 1) // 2
    distinct, apart = breadth(indices(page), items_of(snapshot))
    ages = snapshot.age_days[page]
    known = ages[~np.isnan(ages)]
    return PageFigures(
        category_coverage=distinct / everything if everything else np.nan,
        diversity=apart / pairs if pairs else np.nan,
        mean_age_days=float(known.mean()) if len(known) else np.nan,
        popular_share=float((snapshot.popularity[page, 2] >= snapshot.popular_from).mean()),
    )
