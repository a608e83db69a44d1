"""Whether the online store is known to hold everything that users stated of consent."""

from __future__ import annotations

import logging
from collections.abc import Callable

from feature_repo.errors import StoreError

log = logging.getLogger(__name__)


class ConsentStore:
    """Watches the mark of completeness (docs/adr/0051).

    Without it a user who has no row of consent may be one whose denial was lost with an emptied store. While
    the store cannot be read, what was known last holds: it serves nothing but copies from then.

    Args:
        read: whether the mark is there; may raise `StoreError`.
    """

    def __init__(self, read: Callable[[], bool]) -> None:
        self._read = read
        self.complete = False

    def refresh(self) -> None:
        """Look again."""
        try:
            complete = self._read()
        except StoreError as error:
            log.warning("whether consent is complete cannot be read, what was known last holds: %s", error)
            return
        if self.complete and not complete:
            log.warning(
                "the online store was emptied: users whose consent it does not hold are not personalized; "
                "the stream states it again, or `headrace materialize`"
            )
        self.complete = complete
