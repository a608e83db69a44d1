"""Whether this request may be personalized: what it states of consent, and the kill switch."""

from __future__ import annotations

from serving.pipeline.context import RankContext


class FlagsStage:
    """Settles on the base order while personalization is switched off."""

    name = "flags"
    personal = True

    def run(self, context: RankContext) -> None:
        """Settle or go on."""
        if not context.flags.personalization:
            context.settle("personalization_off")


class ConsentStage:
    """Settles on the base order where the request denies consent, or names nobody.

    What the user's record states is read with the features, and judged there.
    """

    name = "consent"
    personal = True

    def run(self, context: RankContext) -> None:
        """Settle or go on."""
        request = context.request
        if request.consent is False:
            context.settle("consent_denied")
        elif request.user_id is None and request.session_id is None:
            context.settle()
