"""The kill switch."""

from __future__ import annotations

from serving.context import RankContext


class FlagsStage:
    """Settles on the base order while personalization is switched off."""

    name = "flags"
    personal = True

    def run(self, context: RankContext) -> None:
        """Settle or go on."""
        if not context.flags.personalization:
            context.settle("personalization_off")
