"""Exploration: some slots go to candidates outside the top, by a draw whose chances are known exactly.

Of the first ``m`` slots, ``k`` explore: ``k`` is ``share · m`` rounded up or down at random so that its mean
is exact; which slots is uniform, and what they show is drawn uniformly without replacement from the
candidates ranked below ``m``. The other slots show the top of the order, in order. The request id determines
the draw.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from math import ceil

import numpy as np
from msgspec import Struct

from serving.attributes import Floats, Ints
from serving.draws import Bits, chances, explored
from serving.flags import Exploration
from serving.order import indices

_NONE = np.zeros(0, np.intp)
_chances = lru_cache(maxsize=128)(chances)
"""By slots and share: a limit of the request may ask for any count of them."""


class Explored(Struct, frozen=True, eq=False):
    """An order with its chances.

    Attributes:
        order: candidate indices, best first.
        propensities: by candidate ``(n,)``: within the first ``m`` slots the chance of standing in that very
            slot; behind them the chance of standing behind them. 1 where nothing is drawn.
        slots: positions that explore, ascending.
    """

    order: Ints
    propensities: Floats
    slots: Ints


def explore(order: Ints, request_id: str, rules: Exploration, limit: int | None = None) -> Explored:
    """Give some slots away.

    Args:
        order: candidate indices, best first; a permutation of ``0 … n − 1`` or a part of one.
        request_id: seeds the draw: the same id and order give the same answer.
        limit: length of the answer, if shorter than the order.

    Raises:
        IndexError: `order` holds a negative number.
    """
    n = len(order)
    m = _window(n, rules, limit)
    if m == 0:
        return Explored(order, np.ones(int(order.max()) + 1 if n else 0), _NONE)
    share = float(rules.share)
    found = Explored(*explored(indices(order), _drawn(request_id, 1 + n), share, _chances(m, share)))
    if not len(found.propensities):
        msg = "order: holds a negative number, which is no candidate"
        raise IndexError(msg)
    return found


def _drawn(request_id: str, count: int) -> Bits:
    """Uniform bits that the request id determines, 64 for each number drawn.

    By SHAKE-128 (FIPS 202): the same with every version of every library, and one call, where to seed a
    generator of numpy's takes 60 µs in a process that was just woken.
    """
    return np.frombuffer(hashlib.shake_128(request_id.encode()).digest(8 * count), "<u8")


def _window(n: int, rules: Exploration, limit: int | None) -> int:
    """Slots among which some explore: few enough that the candidates below can fill them; 0 for none."""
    if rules.share == 0.0:
        return 0
    m = min(n if limit is None else limit, n, rules.slots)
    while m > 0 and n - m < ceil(rules.share * m):
        m -= 1
    return m if n > m else 0
