"""Who may be personalized: one truth table, three ways to ask it."""

from __future__ import annotations

from itertools import product

import duckdb
import ibis
import pytest

from feature_repo.consent import permitted, permitted_column, permitted_sql, stated_sql

SAID = (None, True, False)
TABLE = list(product(SAID, SAID, (True, False)))


def expected(event: bool | None, user: bool | None, default: bool) -> bool:
    """Written out: who denied is out; the event's word comes before the user's, and that before silence."""
    return {
        (None, None): default,
        (None, True): True,
        (None, False): False,
        (True, None): True,
        (True, True): True,
        (True, False): False,
        (False, None): False,
        (False, True): False,
        (False, False): False,
    }[event, user]


@pytest.mark.parametrize(("event", "user", "default"), TABLE)
def test_values_columns_and_sql_agree(event: bool | None, user: bool | None, default: bool) -> None:
    wanted = expected(event, user, default)
    assert permitted(event, user, default) is wanted
    rows = ibis.memtable({"event": [event], "user": [user]}, schema={"event": "boolean", "user": "boolean"})
    found = ibis.duckdb.connect().to_pyarrow(rows.select(p=permitted_column(rows.event, rows.user, default)))
    assert found["p"].to_pylist() == [wanted]
    row = "SELECT ?::BOOLEAN AS event, ?::BOOLEAN AS said"
    query = f"SELECT {permitted_sql('event', 'said', default)} FROM ({row})"
    [(by_sql,)] = duckdb.sql(query, params=[event, user]).fetchall()
    assert by_sql is wanted


@pytest.mark.parametrize(("event", "user"), list(product(SAID, SAID)))
def test_without_a_default_silence_is_told_from_a_word(event: bool | None, user: bool | None) -> None:
    wanted = None if event is None and user is None else expected(event, user, True)
    assert permitted(event, user, None) is wanted


def test_the_newest_record_counts_also_where_it_states_nothing() -> None:
    rows = "('u', true, 1), ('u', NULL, 2), ('v', true, 1), ('v', false, 2), ('w', false, 2), ('w', true, 1)"
    users = f"(VALUES {rows}) t(user_id, consent, ingested_at)"
    assert duckdb.sql(f"{stated_sql(users)} ORDER BY user_id").fetchall() == [
        ("u", None),
        ("v", False),
        ("w", False),
    ]
