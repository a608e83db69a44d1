"""Whether this request may be personalized at all."""

from __future__ import annotations

from serving.context import RankContext


class ConsentStage:
    """Settles on the base order where consent is denied, or where nobody is named.

    Args:
        consent_default: what a request that states nothing means.
    """

    name = "consent"
    personal = True

    def __init__(self, consent_default: bool) -> None:
        self._default = consent_default

    def run(self, context: RankContext) -> None:
        """Settle or go on."""
        request = context.request
        consent = self._default if request.consent is None else request.consent
        if not consent:
            context.settle("consent_denied")
        elif request.user_id is None and request.session_id is None:
            context.settle()
