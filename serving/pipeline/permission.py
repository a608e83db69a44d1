"""Decides whether a request may be personalized: the consent it states, and the kill switch."""

from __future__ import annotations

from serving.pipeline.context import RankContext


class FlagsStage:
    """Settles on the base order while personalization is switched off."""

    name = "flags"
    personal = True

    def run(self, context: RankContext) -> None:
        """Settle if the flag is off."""
        if not context.flags.personalization:
            context.settle("personalization_off")


class ConsentStage:
    """Settles on the base order if the request denies consent, or names neither user nor session.

    `FeaturesStage` reads and checks the consent in the user's record.
    """

    name = "consent"
    personal = True

    def run(self, context: RankContext) -> None:
        """Settle if consent is denied or nobody is named."""
        request = context.request
        if request.consent is False:
            context.settle("consent_denied")
        elif request.user_id is None and request.session_id is None:
            context.settle()
