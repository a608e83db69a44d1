"""Deskdrop's rows in the contract's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from feature_repo.contract.validation import Contract, Event
from feature_repo.errors import ContractError, SourceError
from feature_repo.settings import Settings, with_registered
from streaming.sources import InputFile
from streaming.sources.formats.deskdrop import DeskdropSource

ROW: dict[str, Any] = {
    "timestamp": "1465413032",
    "eventType": "COMMENT CREATED",
    "contentId": "-3499919498720038879",
    "personId": "-8845298781299428018",
    "sessionId": "1264196770339959068",
    "userAgent": "Mozilla/5.0",
    "userRegion": "NY",
    "userCountry": "",
}


def test_a_row_is_an_event_of_the_contract(settings: Settings, clock: Any) -> None:
    source = DeskdropSource()
    contract = Contract(with_registered(settings, source.event_types), clock)
    event = contract.parse(source.convert(ROW, None))
    assert isinstance(event, Event)
    assert (event.event_type, event.event_time.isoformat()) == ("comment", "2016-06-08T19:10:32+00:00")
    assert (event.user_id, event.item_id) == (ROW["personId"], ROW["contentId"])
    assert event.session_id == ROW["sessionId"]
    assert event.properties == {"user_agent": "Mozilla/5.0", "region": "NY"}


def test_the_id_is_of_time_type_item_and_user_alone() -> None:
    def id_of(**changed: str) -> str:
        converted = DeskdropSource().convert({**ROW, **changed}, None)
        assert not isinstance(converted, bytes)
        return str(converted["event_id"])

    assert id_of(sessionId="1", userAgent="") == id_of()
    others = [id_of(timestamp="1"), id_of(eventType="LIKE"), id_of(contentId="1"), id_of(personId="1")]
    assert len({id_of(), *others}) == 5


@pytest.mark.parametrize(
    ("changed", "code", "words"),
    [
        ({"contentId": ""}, "missing_field", "contentId: required and absent"),
        ({"sessionId": ""}, "missing_field", "sessionId: required and absent"),
        ({"eventType": "SHARE"}, "unknown_event_type", "'SHARE' is none of VIEW, LIKE, BOOKMARK"),
        (
            {"timestamp": "today"},
            "bad_value",
            "'today' is no time in epoch seconds; 2024-01-01 is 1704067200",
        ),
        ({"timestamp": "inf"}, "bad_value", "no time in epoch seconds"),
    ],
)
def test_a_row_that_lacks_something_says_what(changed: dict[str, str], code: str, words: str) -> None:
    with pytest.raises(ContractError, match=words) as caught:
        DeskdropSource().convert({**ROW, **changed}, None)
    assert caught.value.code == code


def test_another_table_is_refused_by_its_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("timestamp,eventType\n1,VIEW\n")
    with pytest.raises(SourceError, match="no column contentId, personId, sessionId; Deskdrop has timestamp"):
        list(DeskdropSource().rows(InputFile(tmp_path / "a.csv"), None))


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"a folder; give the file users_interactions\.csv"):
        DeskdropSource().files(InputFile(tmp_path))
