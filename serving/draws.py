"""The draw of exploration as machine code: numpy's `Generator(PCG64(seed))`, number for number.

Setting up numpy's generator takes longer than all it draws here. numpy promises that its bit generators
repeat themselves, and tests hold this one to it: `SeedSequence` (O'Neill's `seed_seq_fe`), PCG64 (O'Neill
2014, XSL-RR output), doubles of the upper 53 bits.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from serving.attributes import Bools, Floats, Ints
from serving.compiled import compiled

State: TypeAlias = npt.NDArray[np.uint64]
"""State and increment of the generator, each 128 bits: high, low, high, low."""

# numpy scalars: of a Python integer and a uint64 machine code would make a float.
_ONE, _32, _MASK = np.uint64(1), np.uint64(32), np.uint64(0xFFFFFFFF)
_11, _16, _58, _63, _64 = (np.uint64(n) for n in (11, 16, 58, 63, 64))
_INIT_A, _MULT_A = np.uint64(0x43B0D7E5), np.uint64(0x931E8875)
_INIT_B, _MULT_B = np.uint64(0x8B51F9DD), np.uint64(0x58F38DED)
_MIX_L, _MIX_R = np.uint64(0xCA01F9DD), np.uint64(0x4973F715)
_MULT_HIGH, _MULT_LOW = np.uint64(0x2360ED051FC65DA4), np.uint64(0x4385DF649FCCF645)


@compiled
def generator(low: int, high: int) -> State:
    """State of ``PCG64(seed)`` for the halves of a seed of 64 bits."""
    words = _generated(_mixed(np.uint64(low), np.uint64(high)))
    state = np.zeros(4, np.uint64)
    state[2] = (words[2] << _ONE) | (words[3] >> _63)
    state[3] = (words[3] << _ONE) | _ONE
    _step(state)
    carried = state[1] + words[1]
    state[0] += words[0] + (_ONE if carried < words[1] else np.uint64(0))
    state[1] = carried
    _step(state)
    return state


@compiled
def _mixed(low: np.uint64, high: np.uint64) -> State:
    """The pool of four 32-bit words that `SeedSequence` makes of its entropy."""
    pool = np.zeros(4, np.uint64)
    pool[0], pool[1] = low, high
    factor = _INIT_A
    for i in range(4):
        pool[i], factor = _hashed(pool[i], factor, _MULT_A)
    for source in range(4):
        for target in range(4):
            if source != target:
                word, factor = _hashed(pool[source], factor, _MULT_A)
                mixed = (_MIX_L * pool[target] - _MIX_R * word) & _MASK
                pool[target] = mixed ^ (mixed >> _16)
    return pool


@compiled
def _generated(pool: State) -> State:
    """``generate_state(4, uint64)`` of a pool."""
    words, factor = np.empty(4, np.uint64), _INIT_B
    for i in range(4):
        first, factor = _hashed(pool[2 * i % 4], factor, _MULT_B)
        second, factor = _hashed(pool[(2 * i + 1) % 4], factor, _MULT_B)
        words[i] = first | (second << _32)
    return words


@compiled
def _hashed(word: np.uint64, factor: np.uint64, by: np.uint64) -> tuple[np.uint64, np.uint64]:
    """A word hashed, and the factor of the next one; both of 32 bits."""
    after = (factor * by) & _MASK
    word = ((word ^ factor) * after) & _MASK
    return word ^ (word >> _16), after


@compiled
def _step(state: State) -> None:
    """Times the multiplier plus the increment, modulo 2^128."""
    low, high = state[1], state[0]
    a, b, c, d = low >> _32, low & _MASK, _MULT_LOW >> _32, _MULT_LOW & _MASK
    middle = a * d + ((b * d) >> _32)
    other = b * c + (middle & _MASK)
    carried = a * c + (middle >> _32) + (other >> _32)  # the upper half of low · _MULT_LOW
    product = low * _MULT_LOW
    state[1] = product + state[3]
    overflow = _ONE if state[1] < product else np.uint64(0)
    state[0] = carried + high * _MULT_LOW + low * _MULT_HIGH + state[2] + overflow


@compiled
def uniform(state: State) -> float:
    """The next of the numbers ``Generator.random()`` gives, in ``[0, 1)``."""
    _step(state)
    word, turn = state[0] ^ state[1], state[0] >> _58
    word = (word >> turn) | (word << ((_64 - turn) & _63))
    return np.float64(word >> _11) / 9007199254740992.0


@compiled
def _smallest(state: State, count: int, most: int) -> Ints:
    """Draw `count` numbers; the places of the `most` smallest, smallest first."""
    least, places, held = np.empty(most), np.empty(most, np.int64), 0
    for i in range(count):
        value = uniform(state)
        if held == most and (most == 0 or value >= least[most - 1]):
            continue
        at = held if held < most else most - 1
        held = min(held + 1, most)
        while at > 0 and least[at - 1] > value:
            least[at], places[at] = least[at - 1], places[at - 1]
            at -= 1
        least[at], places[at] = value, i
    return places[:held]


@compiled
def explored(
    order: Ints, low: int, high: int, share: float, kept: tuple[Floats, Floats]
) -> tuple[Ints, Floats, Ints]:
    """The order, the propensities by candidate and the slots of `serving.exploration.Explored`.

    Args:
        order: candidates, best first, more of them than slots; all at least 0, or no propensities come back.
        low, high: halves of the seed.
        share: of the slots, that explores on average.
        kept: chances of the first ``m`` candidates: of each slot ``(m, m)``, and of none ``(m,)``.
    """
    standing, behind = kept
    n, m = len(order), len(behind)
    state = generator(low, high)
    expected = share * m
    k = int(expected) + (1 if uniform(state) < expected - int(expected) else 0)
    explores = np.zeros(m, np.bool_)
    for slot in _smallest(state, m, k):
        explores[slot] = True
    drawn = _smallest(state, n - m, k)
    out, slots, chances = np.empty(n, np.int64), np.empty(k, np.int64), np.empty(_room(order))
    if len(chances) == 0:
        return out, chances, slots
    _stand(order, explores, drawn, out, slots)
    for candidate in range(len(chances)):
        chances[candidate] = 1.0  # of what has no part in it
    for place in range(m, n):
        chances[order[place]] = 1.0 - expected / (n - m)
    for rank in range(m - k, m):
        chances[order[rank]] = behind[rank]
    rank = 0
    for slot in range(m):
        if explores[slot]:
            chances[out[slot]] = expected / m / (n - m)
        else:
            chances[out[slot]] = standing[rank, slot]
            rank += 1
    return out, chances, slots


@compiled
def _room(order: Ints) -> int:
    """One more than the largest number; 0 where one is negative."""
    most = 0
    for candidate in order:
        if candidate < 0:
            return 0
        most = max(most, candidate + 1)
    return most


@compiled
def _stand(order: Ints, explores: Bools, drawn: Ints, out: Ints, slots: Ints) -> None:
    """Who stands where: fills `out` and `slots`."""
    m, k = len(explores), len(drawn)
    rank = taken = 0
    for slot in range(m):
        if explores[slot]:
            out[slot], slots[taken] = order[m + drawn[taken]], slot
            taken += 1
        else:
            out[slot] = order[rank]
            rank += 1
    gone = np.zeros(len(order), np.bool_)
    for place in drawn:
        gone[m + place] = True
    at = m
    for place in range(m - k, len(order)):
        if not gone[place]:
            out[at] = order[place]
            at += 1
