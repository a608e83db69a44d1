"""Brings the user's, the segment's and the session's features into the context."""

from __future__ import annotations

from serving.answer import Tier
from serving.context import RankContext
from serving.reader import FeatureReader
from serving.stages.blending import tier_of


class FeaturesStage:
    """Reads the online groups within the store budget."""

    name = "features"
    personal = True

    def __init__(self, reader: FeatureReader) -> None:
        self._reader = reader

    async def run(self, context: RankContext) -> None:
        """Fill `user`, `segment`, `session`, `ages`; note what was late, stale or cached."""
        request = context.request
        reading = await self._reader.read(
            request.user_id, request.session_id, context.now, context.remaining_s()
        )
        context.user = reading.user
        context.segment = reading.segment
        context.session = reading.session
        context.ages.update(reading.ages)
        for code in reading.codes:
            context.degrade(code)
        forgo(context)


def forgo(context: RankContext) -> None:
    """Leave out the rows of tiers that the flags do not permit: the answer then steps down to one they do."""
    permitted = context.flags.tiers
    if len(permitted) == len(Tier):
        return
    while (tier := tier_of(context)) is not Tier.BASE and tier not in permitted:
        if tier in {Tier.SESSION_LONG_TERM, Tier.SESSION_SEGMENT}:
            context.session = None
        elif tier is Tier.LONG_TERM:
            context.user = None
        else:
            context.segment = None
