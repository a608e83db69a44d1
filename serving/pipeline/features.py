"""Reads the features of the user, the segment and the session into the context."""

from __future__ import annotations

from functools import partial

from feature_repo.consent import permitted
from serving.features.ranked_groups import ranked_groups
from serving.features.reader import FeatureReader
from serving.pipeline.blend import gather, tier_of
from serving.pipeline.context import RankContext
from serving.schemas.rank_response import Tier


class FeaturesStage:
    """Reads the online groups within the store budget; settles on the base order if consent is denied.

    A denial in the user's newest record always wins. After it come, in this order, the request, a denial by
    an event of the session, the record, and the default.

    Args:
        consent_default: applies if neither request nor record states a consent.
    """

    name = "features"
    personal = True

    def __init__(self, reader: FeatureReader, consent_default: bool) -> None:
        self._reader = reader
        self._default = consent_default

    async def run(self, context: RankContext) -> None:
        """Fill `rows` and `ages`; add codes for late, stale and cached rows."""
        request = context.request
        reading = await self._reader.read(
            request.user_id,
            request.session_id,
            context.now,
            context.remaining_s(),
            recent=context.model.rules.of_bought,
            meanwhile=partial(gather, context),
        )
        for code in reading.codes:
            context.degrade(code)
        if reading.unknown:
            return context.settle("consent_unknown")
        asked = False if request.consent is None and reading.refused else request.consent
        if not permitted(asked, reading.permitted, self._default):
            return context.settle("consent_denied")
        context.consented = reading.read
        context.rows = reading.rows
        context.ages.update(reading.ages)
        forgo(context)
        return None


def forgo(context: RankContext) -> None:
    """Drop the rows of tiers that the flags do not permit, until the tier is a permitted one."""
    permitted = context.flags.tiers
    if len(permitted) == len(Tier):
        return
    groups = ranked_groups()
    while (tier := tier_of(context)) is not Tier.BASE and tier not in permitted:
        if tier in {Tier.SESSION_LONG_TERM, Tier.SESSION_SEGMENT}:
            without = groups.sessions
        elif tier is Tier.LONG_TERM:
            without = groups.users
        else:
            without = groups.segments
        for group in without:
            context.rows.pop(group.ranked_as, None)
