"""Withdrawn consent on the batch side: no row online, whatever an older build wrote."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq

from feature_repo.contract.validation import User, to_arrow
from feature_repo.groups.user_profile import GROUP
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.online import OnlineRow, open_store
from feature_repo.online.consent_rows import CONSENT, consent_rows
from feature_repo.settings import Settings
from orchestration.materialize.withdrawals import forget_withdrawn, withdrawn_users

T0 = datetime(2024, 5, 1, tzinfo=UTC)


def state(home: Home, user_id: str, consent: bool | None, hour: int) -> None:
    folder = Lake(home.lake).folder("user")
    folder.mkdir(parents=True, exist_ok=True)
    table = to_arrow("user", [User(user_id=user_id, consent=consent)], T0 + timedelta(hours=hour))
    pq.write_table(table, folder / f"part-{hour:08d}.parquet")


def test_the_newest_record_decides(home: Home) -> None:
    assert withdrawn_users(Lake(home.lake)) == {}
    for hour, (user_id, consent) in enumerate(
        [("no", False), ("back", False), ("back", True), ("gone", True), ("gone", False), ("silent", False)]
    ):
        state(home, user_id, consent, hour)
    state(home, "silent", None, 9)
    assert list(withdrawn_users(Lake(home.lake)).items()) == [
        ("gone", T0 + timedelta(hours=4)),
        ("no", T0),
    ]


def test_their_rows_leave_the_online_store_and_no_others(settings: Settings, home: Home) -> None:
    store = open_store(settings, home)
    store.write(GROUP, [OnlineRow(user, {"segment": "all"}, T0) for user in ("no", "yes")])
    assert forget_withdrawn(GROUP, settings, home) == 0
    state(home, "no", False, 1)
    assert forget_withdrawn(GROUP, settings, home) == 1
    gone, kept = store.read([(GROUP, "no"), (GROUP, "yes")])
    assert gone is None
    assert kept is not None
    assert forget_withdrawn(GROUP, settings, home) == 1
    store.close()


def test_the_store_says_who_denied_unless_they_consented_since(settings: Settings, home: Home) -> None:
    store = open_store(settings, home)
    for user in ("no", "back"):
        state(home, user, False, 1 if user == "no" else 2)
    store.write(CONSENT, consent_rows({"back": True}, T0 + timedelta(hours=3)))  # heard by the stream only
    forget_withdrawn(GROUP, settings, home)
    no, back = store.read([(CONSENT, "no"), (CONSENT, "back")])
    store.close()
    assert no is not None
    assert (no.values, no.event_time) == ({"permitted": False}, T0 + timedelta(hours=1))
    assert back is not None
    assert back.values == {"permitted": True}
