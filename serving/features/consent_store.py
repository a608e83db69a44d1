"""Whether the online store is known to hold every consent that users have stated."""

from __future__ import annotations

import logging
from collections.abc import Callable

from feature_repo.errors import StoreError

log = logging.getLogger(__name__)


class ConsentStore:
    """Watches the completeness mark (docs/adr/0051).

    Without the mark a missing consent row may be a denial that was lost with an emptied store. While the
    store cannot be read, the last known state applies, because only cached rows are served then.

    Args:
        read: returns whether the mark exists; may raise `StoreError`.
    """

    def __init__(self, read: Callable[[], bool]) -> None:
        self._read = read
        self.complete = False

    def refresh(self) -> None:
        """Read the mark again."""
        try:
            complete = self._read()
        except StoreError as error:
            log.warning("cannot read whether consent is complete, keeping the last known state: %s", error)
            return
        if self.complete and not complete:
            log.warning(
                "the online store was emptied: users without a stored consent are not personalized; "
                "the stream restores consent, or run `headrace materialize`"
            )
        self.complete = complete
