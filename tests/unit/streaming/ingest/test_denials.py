"""Whose queries are not kept: the newest statement of a batch counts, else what is known."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

import pytest

from feature_repo.contract.validation import Contract, Event, Record, User, as_permitted, encode
from feature_repo.errors import ContractError
from feature_repo.settings import Settings
from streaming.ingest.denials import denying
from streaming.log.log_records import LogRecords

NOW = datetime(2024, 6, 1, tzinfo=UTC)


def search(user: str | None, query: str = "shoes") -> Event:
    return Event(
        event_id="e", event_type="search", event_time=NOW, session_id="s", user_id=user, query=query or None
    )


GIVES, DENIES, SILENT = (User(user_id="u", consent=said) for said in (True, False, None))


@pytest.mark.parametrize(
    ("records", "known", "wanted", "asked"),
    [
        ([search("u")], {"u", "v"}, {"u"}, ["u"]),
        ([search("u")], set(), set(), ["u"]),
        ([DENIES, search("u")], set(), {"u"}, []),
        ([search("u"), DENIES], set(), {"u"}, []),
        ([DENIES, search("u"), GIVES], {"u"}, set(), []),
        ([DENIES, SILENT, search("u")], {"u"}, set(), []),
        ([DENIES, search("v"), search("u")], {"v"}, {"u", "v"}, ["v"]),
        ([search("u", query="")], {"u"}, set(), []),
        ([search(None), DENIES], {"u"}, set(), []),
    ],
)
def test_the_newest_statement_counts(
    records: list[Record], known: set[str], wanted: set[str], asked: list[str]
) -> None:
    seen: list[str] = []

    def look(users: Collection[str]) -> Collection[str]:
        seen.extend(users)
        return known.intersection(users)

    assert denying(records, look) == wanted
    assert seen == asked


def test_a_search_whose_query_was_left_out_is_a_record_of_the_log_but_none_at_the_door(
    settings: Settings,
) -> None:
    left_out = as_permitted(search("u"), {"u"})
    assert isinstance(left_out, Event)
    assert (left_out.query, left_out.consent) == ("", None)
    clock = lambda: NOW  # noqa: E731 - a word
    assert encode(LogRecords(settings, clock).read(encode(left_out))) == encode(left_out)
    with pytest.raises(ContractError, match="query: a search must say what was asked"):
        Contract(settings, clock).parse(encode(left_out))
    with pytest.raises(ContractError, match="query: a search must say what was asked"):
        LogRecords(settings, clock).read(encode(search("u", query="")))
