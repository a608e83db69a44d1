"""What users' records state of consent, beside the features: no stale row or copy may outlive a denial.

It is no feature: Feast's registry, training sets and checks do not know of it. It has the layout of a group,
so that it is written monotonely and read in the same round trip as the rows that it permits.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from feature_repo.group import USER, DType, Feature, FeatureGroup
from feature_repo.online.rows import OnlineRow
from feature_repo.online.store import OnlineStore

COMPLETE = "consent/complete"
"""Mark of a store that holds what every user stated. An emptied store has lost it with the statements."""
_EVER = timedelta(days=36_500)

CONSENT = FeatureGroup(
    name="user_consent",
    entity=USER,
    meaning="What a user's newest record states of consent.",
    features=(Feature("permitted", DType.BOOL, "Whether it permits personalization; null: not stated."),),
    freshness=_EVER,
    ttl=_EVER,
)


def is_complete(store: OnlineStore) -> bool:
    """Whether a user without a row here is known to have stated nothing.

    Raises:
        StoreError: the store is unreachable.
    """
    return COMPLETE in store.marks(COMPLETE)


def consent_rows(stated: Mapping[str, bool | None], time: datetime) -> list[OnlineRow]:
    """Rows of what users' newest records state, by user id, as of a time."""
    return [OnlineRow(user_id, {"permitted": said}, time) for user_id, said in stated.items()]
