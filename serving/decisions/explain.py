"""Why an item is where it is, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from serving.scoring.signal_groups import BASE, ITEM, LONG_TERM, SEGMENT, SESSION
from serving.scoring.signals import all_signals

SMALLEST = 0.005
"""Contributions smaller than that share of the largest are not worth a word."""
MOST = 3
"""Reasons named for and against."""
_GROUPS = {
    BASE: "its base score",
    ITEM: "how it is received by everybody",
    LONG_TERM: "the user's long-term taste",
    SEGMENT: "what the user's segment prefers",
    SESSION: "what this session is about",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """One item of an answer, as far as it is to be explained.

    Attributes:
        position, base_position: from 0.
        parts: contribution to the score by signal, or by group of signals.
        explored: whether its slot was given to exploration, with the chance `propensity`.
        rule: the business rule that placed it.
    """

    item_id: str
    position: int
    base_position: int
    score: float
    parts: Mapping[str, float]
    explored: bool = False
    propensity: float | None = None
    rule: str | None = None


def in_words(standing: Standing) -> str:
    """One paragraph: where it stands, what for and what against, what else decided."""
    sentences = [_moved(standing)]
    if standing.explored:
        chance = (
            "" if standing.propensity is None else f" (it had a chance of {standing.propensity:.2%} for it)"
        )
        sentences.append(f"Its slot explores: the item was drawn for it, not ranked{chance}.")
    if standing.rule is not None:
        sentences.append(f"The rule {standing.rule!r} placed it.")
    sentences.extend(_reasons(standing.parts))
    return " ".join(sentences)


def part_in_words(name: str) -> str:
    """What a signal, or a group of signals, measures."""
    if ":" not in name and name in _GROUPS:
        return _GROUPS[name]
    family, _, member = name.partition(":")
    signal = all_signals().get(family)
    return name if signal is None else signal.words.format(member.replace("_", " "))


def _moved(standing: Standing) -> str:
    place, base = standing.position + 1, standing.base_position + 1
    if place == base:
        return f"Item {standing.item_id} is at {place}, where its base score puts it."
    way = "up" if place < base else "down"
    steps = "1 place" if abs(place - base) == 1 else f"{abs(place - base)} places"
    return f"Item {standing.item_id} is at {place}, {steps} {way} from {base}."


def _reasons(parts: Mapping[str, float]) -> list[str]:
    least = SMALLEST * max((abs(v) for v in parts.values()), default=0.0)
    ranked = sorted(((n, v) for n, v in parts.items() if abs(v) > least), key=lambda p: (-abs(p[1]), p[0]))
    sentences = []
    for label, chosen in (
        ("For it", [p for p in ranked if p[1] > 0]),
        ("Against it", [p for p in ranked if p[1] < 0]),
    ):
        if chosen:
            reasons = ", ".join(f"{part_in_words(name)} ({value:+.3f})" for name, value in chosen[:MOST])
            sentences.append(f"{label}: {reasons}.")
    return sentences or ["Nothing speaks for or against it."]
