"""Brings the user's, the segment's and the session's features into the context."""

from __future__ import annotations

from serving.context import RankContext
from serving.reader import FeatureReader


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
