"""The body of the answer of `POST /v1/rank`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct


class Tier(StrEnum):
    """What the order was made from, best first; what is late, absent or failing steps an answer down."""

    SESSION_LONG_TERM = "session+long_term"
    SESSION_SEGMENT = "session+segment"
    LONG_TERM = "long_term"
    SEGMENT = "segment"
    BASE = "base"


class RankedItem(Struct, omit_defaults=True, gc=False):
    """One item of the answer. Positions count from 0."""

    item_id: str
    score: Annotated[float, Meta(description="The score it is ranked by: the sum of `why`.")]
    position: int
    base_position: Annotated[int, Meta(description="Where it stood by its base score.")]
    why: Annotated[
        dict[str, float] | None, Meta(description="Contribution of each part; they sum to the score.")
    ] = None
    propensity: Annotated[
        float | None, Meta(description="Probability with which it got this place, where slots explore.")
    ] = None


class Dropped(Struct, frozen=True, gc=False):
    """A candidate that a business rule took out, and the rule's name."""

    item_id: str
    rule: str


class RankAnswer(Struct, omit_defaults=False):
    """The candidates in their new order, and how it came about."""

    request_id: str
    items: list[RankedItem]
    tier: Annotated[Tier, Meta(description="What the order was made from.")]
    degraded: Annotated[list[str], Meta(description="Codes of what was late, stale, missing or failing.")]
    ages: Annotated[
        dict[str, float],
        Meta(
            description="Seconds since the event time of each group found, those too old to be used included."
        ),
    ]
    timings_ms: Annotated[dict[str, float], Meta(description="Milliseconds per stage, and `total`.")]
    dropped: Annotated[list[Dropped], Meta(description="Candidates taken out by business rules.")] = []
    arms: Annotated[dict[str, str], Meta(description="Experiment arms of this unit.")] = {}


_encoder = msgspec.json.Encoder()


def encode_answer(answer: RankAnswer) -> tuple[bytes, Raw]:
    """Bytes of an answer, and those of its items alone, which its record holds too."""
    items = Raw(_encoder.encode(answer.items))
    return _encoder.encode({**msgspec.structs.asdict(answer), "items": items}), items
