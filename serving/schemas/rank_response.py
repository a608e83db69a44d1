"""The answer of `POST /v1/rank`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct


class Tier(StrEnum):
    """The features an order is based on, best first. Late, absent or failing features lower the tier."""

    SESSION_LONG_TERM = "session+long_term"
    SESSION_SEGMENT = "session+segment"
    LONG_TERM = "long_term"
    SEGMENT = "segment"
    BASE = "base"


class RankedItem(Struct, omit_defaults=True, gc=False):
    """One item of the answer. Positions count from 0."""

    item_id: str
    score: Annotated[float, Meta(description="The score it is ranked by; the sum of `why`.")]
    position: int
    base_position: Annotated[int, Meta(description="Its position by base score.")]
    why: Annotated[
        dict[str, float] | None, Meta(description="Contribution of each part; they sum to the score.")
    ] = None
    propensity: Annotated[
        float | None, Meta(description="Probability of this position, if slots explore.")
    ] = None


class Dropped(Struct, frozen=True, gc=False):
    """A candidate removed by a business rule, and the rule's name."""

    item_id: str
    rule: str


class RankAnswer(Struct, omit_defaults=False):
    """The candidates in their new order, and how it was made."""

    request_id: str
    items: list[RankedItem]
    tier: Annotated[Tier, Meta(description="The features the order is based on.")]
    degraded: Annotated[list[str], Meta(description="Codes of what was late, stale, missing or failing.")]
    ages: Annotated[
        dict[str, float],
        Meta(
            description="Seconds since the event time of each group found, including groups too old to use."
        ),
    ]
    timings_ms: Annotated[dict[str, float], Meta(description="Milliseconds per stage, and `total`.")]
    dropped: Annotated[list[Dropped], Meta(description="Candidates removed by business rules.")] = []
    arms: Annotated[dict[str, str], Meta(description="Experiment arms of this unit.")] = {}


_encoder = msgspec.json.Encoder()


def encode_answer(answer: RankAnswer) -> tuple[bytes, Raw]:
    """Encode an answer; also return its encoded items, which the decision record reuses."""
    items = Raw(_encoder.encode(answer.items))
    return _encoder.encode({**msgspec.structs.asdict(answer), "items": items}), items
