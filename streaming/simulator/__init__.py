"""A simulated shop: contract events with known causes, for demos, tests and benchmarks.

>>> from datetime import UTC, datetime
>>> from streaming.simulator import ShopConfig, simulate
>>> simulate(ShopConfig(users=10, items=20, days=1), Path("var/shop.jsonl.gz")).events  # doctest: +SKIP
37
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from streaming.simulator.config import Drift, ShopConfig
from streaming.simulator.delivery import Counts, Delivery, deliver
from streaming.simulator.output import open_output
from streaming.simulator.shop import Shop, make_shop
from streaming.simulator.shop_lake import simulate_lake
from streaming.simulator.truth import write_truth

__all__ = [
    "simulate",
    "simulate_lake",
    "ShopConfig",
    "Drift",
    "Counts",
    "Shop",
    "make_shop",
    "Delivery",
    "deliver",
]


def simulate(
    config: ShopConfig, out: Path, progress: Callable[[int, int], None] = lambda days, events: None
) -> Counts:
    """Write a shop's records to `out` and its ground truth beside it; the same config gives the same bytes.

    Args:
        config: size, seed and period of the shop.
        out: ``*.jsonl`` or ``*.jsonl.gz`` holds all three kinds of record; ``*.parquet`` holds the events,
            with ``<stem>.items.parquet`` and ``<stem>.users.parquet`` beside it.
        progress: called after each day with the days done and the lines written so far.

    Returns:
        counts of what was written, by cause.

    Raises:
        SourceError: the suffix of `out` is none of these, or its folder cannot be written.
    """
    shop = make_shop(config)
    sessions = []
    counts = Counts()
    with open_output(out) as output:
        output.catalogue(shop)
        for day, delivery in enumerate(deliver(shop)):
            output.events(delivery)
            sessions.append(delivery.sessions)
            counts += delivery.counts
            progress(day + 1, counts.lines)
    write_truth(out, shop, counts, sessions)
    return counts
