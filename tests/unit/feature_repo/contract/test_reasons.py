"""The whole text of every reason: it names the field, shows what came, and says what would be right."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.contract.event_types import register
from feature_repo.contract.reasons import to_utc
from feature_repo.contract.validation import Contract, decode, encode
from feature_repo.errors import ContractError, LakeError, SettingsError, StoreError
from feature_repo.feast_store import redis_connection
from feature_repo.home import Home
from feature_repo.lake.lake import Builds, unreadable
from feature_repo.settings import Settings, load_settings
from tests.conftest import NOW

CLICK = {
    "record": "event",
    "event_id": "e1",
    "event_type": "click",
    "event_time": "2024-06-01T00:00:00Z",
    "session_id": "s",
    "item_id": "i",
}
KNOWN = "add_to_cart, click, impression, like, purchase, search, view"
BOUNDS = "1990-01-01T00:00:00+00:00 … 2024-06-02T12:00:00+00:00"
MILLIS = "is no time in epoch milliseconds; 2024-01-01 is 1704067200000"


def refusal(raw: Any, kind: Any = None) -> ContractError:
    with pytest.raises(ContractError) as caught:
        Contract(Settings(), lambda: NOW).parse(raw, kind)
    return caught.value


@pytest.mark.parametrize(
    ("changed", "code", "field", "message"),
    [
        (
            {"event_time": "yesterday"},
            "bad_value",
            "event_time",
            "event_time: 'yesterday' is no ISO 8601 time; write e.g. 2024-01-01T12:00:00Z",
        ),
        (
            {"event_time": "2024-06-01T10:30:00"},
            "bad_value",
            "event_time",
            "event_time: 2024-06-01T10:30:00 has no time zone; write e.g. 2024-06-01T10:30:00Z",
        ),
        ({"event_time": 10**18}, "time_out_of_range", "event_time", f"event_time: {10**18} {MILLIS}"),
        ({"event_time": 1.5e30}, "time_out_of_range", "event_time", f"event_time: 1.5e+30 {MILLIS}"),
        (
            {"event_time": "0001-01-01T00:00:00+14:00"},
            "time_out_of_range",
            "event_time",
            "event_time: 0001-01-01T00:00:00+14:00 is outside the years 1 to 9999 in UTC",
        ),
        (
            {"event_time": 1717200000},  # seconds: the commonest mistake of all
            "time_out_of_range",
            "event_time",
            f"event_time: 1970-01-20T21:00:00+00:00 is outside {BOUNDS}; "
            "send UTC ISO 8601 or epoch milliseconds (not seconds)",
        ),
        (
            {"event_time": "2024-06-02T12:00:00.000001Z"},
            "time_out_of_range",
            "event_time",
            f"event_time: 2024-06-02T12:00:00.000001+00:00 is outside {BOUNDS}; "
            "send UTC ISO 8601 or epoch milliseconds (not seconds)",
        ),
        (
            {"event_type": "dance"},
            "unknown_event_type",
            "event_type",
            f"event_type: 'dance' is not registered; known are {KNOWN}; "
            "register it: HEADRACE_EVENT_WEIGHTS=dance=1",
        ),
        (
            {"session_id": "é" * 129},
            "id_too_long",
            "session_id",
            "session_id: 258 bytes; an id has at most 256",
        ),
        ({"user_id": "é" * 200}, "id_too_long", "user_id", "user_id: 400 bytes; an id has at most 256"),
        (
            {"request_id": "é" * 129},
            "id_too_long",
            "request_id",
            "request_id: 258 bytes; an id has at most 256",
        ),
        ({"position": -1}, "bad_value", "position", "position: expected `int` >= 0"),
        ({"consent": "maybe"}, "wrong_type", "consent", "consent: expected `bool | null`, got `str`"),
        (
            {"items": [{"item_id": ""}]},
            "bad_value",
            "items[0].item_id",
            "items[0].item_id: expected `str` of length >= 1",
        ),
        ({"item_id": None}, "missing_field", "item_id", "item_id: a click must name the item acted on"),
        (
            {"event_type": "impression"},
            "missing_field",
            "items",
            'items: an impression must list what was shown, e.g. [{"item_id": "i1"}]',
        ),
        ({"event_type": "search"}, "missing_field", "query", "query: a search must say what was asked"),
        (
            {"record": "thing"},
            "bad_value",
            "record",
            'record: \'thing\'; each object says what it is with "record": "event", "item" or "user"',
        ),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
def test_what_is_wrong_with_an_event(changed: dict[str, Any], code: str, field: str, message: str) -> None:
    for raw in ({**CLICK, **changed}, json.dumps({**CLICK, **changed}).encode()):
        found = refusal(raw)
        assert (found.code, found.field, str(found)) == (code, field, message)


@pytest.mark.parametrize(
    ("number", "shown"), [(float("nan"), "nan"), (float("inf"), "inf"), (float("-inf"), "-inf")]
)
def test_a_number_that_is_none_is_named_with_its_field(number: float, shown: str) -> None:
    """Only tables can hold one: JSON has no such numbers."""
    found = refusal({"record": "item", "item_id": "a", "attributes": {"weight": number}})
    assert (found.code, str(found)) == (
        "not_finite",
        f'attributes["weight"]: {shown} is not a finite number',
    )
    shown_at = {**CLICK, "event_type": "impression", "items": [{"item_id": "a", "score": number}]}
    assert str(refusal(shown_at)) == f"items.score: {shown} of 'a' is not a finite number"


@pytest.mark.parametrize("missing", ["event_id", "event_type", "event_time", "session_id"])
def test_a_field_that_is_absent_is_named(missing: str) -> None:
    found = refusal({k: v for k, v in CLICK.items() if k != missing})
    assert (found.code, found.field) == ("missing_field", missing)
    assert str(found) == f"{missing}: required and absent"
    misspelt = {k if k != missing else f"{missing}s": v for k, v in CLICK.items()}
    assert str(refusal(misspelt)) == f"{missing}: required and absent; rename '{missing}s', which is no field"


@pytest.mark.parametrize(
    ("raw", "code", "message"),
    [
        (b"[1]", "not_an_object", "a JSON array where an object belongs; write one JSON object per line"),
        (b'"x"', "not_an_object", "a JSON string where an object belongs; write one JSON object per line"),
        (b"true", "not_an_object", "a JSON boolean where an object belongs; write one JSON object per line"),
        (b"null", "not_an_object", "a JSON null where an object belongs; write one JSON object per line"),
        (b"1.5", "not_an_object", "a JSON number where an object belongs; write one JSON object per line"),
        (b"{", "not_json", "not valid JSON: Input data was truncated; write one JSON object per line"),
        (
            b'{"a": 1} x',
            "not_json",
            "not valid JSON: JSON is malformed: trailing characters (byte 10); "
            "write one JSON object per line",
        ),
        (
            b'{"a": "\xe4"}',
            "not_utf8",
            "not valid UTF-8 ('utf-8' codec can't decode byte 0xe4 in position 7: "
            "invalid continuation byte); save the file in UTF-8",
        ),
    ],
)
def test_a_line_that_holds_no_object(raw: bytes, code: str, message: str) -> None:
    found = refusal(raw)
    assert (found.code, found.field, str(found)) == (code, "", message)


def test_a_record_in_the_file_of_another_kind() -> None:
    found = refusal({**CLICK, "record": "item"}, "event")
    assert (found.field, str(found)) == ("record", "record: 'item' in a file of events")
    assert str(refusal(b'{"item_id": "a"}')).startswith("record: None; each object says what it is")


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001
def test_any_zone_comes_out_as_the_same_moment_in_utc(naive: datetime, minutes: int) -> None:
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    text = f"{naive.isoformat()}{sign}{hours:02d}:{rest:02d}"
    found = to_utc(text, "t")
    assert found.tzinfo is UTC
    assert found == naive.replace(tzinfo=UTC) - timedelta(minutes=minutes)
    with pytest.raises(ContractError, match="no time zone"):
        to_utc(naive.isoformat(), "t")


@given(st.integers(-2_200_000_000_000, 4_100_000_000_000))
def test_epoch_milliseconds_are_exact(millis: int) -> None:
    """From 1900 to 2099; a clock further away is wrong anyway."""
    assert to_utc(millis, "t") == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=millis)


# Settings, lake and store


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"event_weights": "bookmark"}, "'bookmark' is not name=weight; write e.g. bookmark=2,comment=3"),
        (
            {"dedup_horizon_s": 10.0, "allowed_lateness_s": 60.0},
            "HEADRACE_DEDUP_HORIZON_S (10) must not be less than HEADRACE_ALLOWED_LATENESS_S (60), "
            "or a repeat within the allowed lateness is counted twice",
        ),
        (
            {"store_budget_ms": 50.0, "budget_ms": 30.0},
            "HEADRACE_STORE_BUDGET_MS (50) must not exceed HEADRACE_BUDGET_MS (30)",
        ),
        (
            {"earliest_event_time": "1990-01-01T00:00:00"},
            "HEADRACE_EARLIEST_EVENT_TIME needs a time zone, e.g. 1990-01-01T00:00:00Z",
        ),
    ],
)
def test_settings_that_cannot_be(given_: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(**given_)
    assert message in str(caught.value)


def test_bounds_of_settings_that_just_can_be() -> None:
    assert load_settings(dedup_horizon_s=60.0, allowed_lateness_s=60.0).dedup_horizon_s == 60.0
    assert load_settings(store_budget_ms=30.0, budget_ms=30.0).store_budget_ms == 30.0


def test_a_redis_url_of_another_scheme_is_shown() -> None:
    with pytest.raises((SettingsError, StoreError), match=r"HEADRACE_REDIS_URL: .*'?http'?"):
        redis_connection("http://host")


def test_event_types_that_cannot_be_remembered_say_where(home: Home) -> None:
    gone = home.root / "none"
    with pytest.raises(SettingsError) as caught:
        register(gone, {"bookmark": 2.0})
    assert str(caught.value) == (
        f"{gone / 'event_types.json'}: cannot write (No such file or directory); "
        "point HEADRACE_HOME at a writable folder"
    )


def test_a_damaged_file_and_a_strange_one_are_told_apart(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole, strange, damaged = (tmp_path / f"{name}.parquet" for name in ("whole", "strange", "damaged"))
    pq.write_table(pa.table({"item_id": ["a"], "ingested_at": [1]}), whole)
    pq.write_table(pa.table({"other": ["a"]}), strange)
    damaged.write_bytes(b"PAR1 cut")
    assert unreadable([str(whole)], ["item_id"]) is None
    assert str(unreadable([str(whole), str(strange)], ["item_id", "ingested_at"])) == (
        f"{strange}: no column item_id, ingested_at; it is no file of this lake: move it away"
    )
    found = str(unreadable([str(whole), str(damaged), str(strange)], ["item_id"]))
    assert found.startswith(f"{damaged}: damaged Parquet file (")
    assert "Parquet" in found.split("(", 1)[1], "says what Arrow found"
    assert found.endswith("; move it away and ingest its source again")
    assert "damaged Parquet file" in str(unreadable([str(tmp_path / "absent.parquet")]))


@pytest.mark.parametrize(
    ("content", "why"), [("{", "Expecting property name"), ("{}", "'path'"), ("[]", "list indices")]
)
def test_a_pointer_that_names_no_build_says_why(tmp_path: Path, content: str, why: str) -> None:
    builds = Builds(tmp_path)
    builds.folder("g").mkdir(parents=True)
    pointer = builds.folder("g") / "CURRENT"
    pointer.write_text(content)
    with pytest.raises(LakeError) as caught:
        builds.current("g")
    assert str(caught.value).startswith(f"{pointer}: names no build (")
    assert why in str(caught.value)
    assert str(caught.value).endswith("; remove it; the next build that passes writes it again")


# Records of tables: they may hold what JSON cannot

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
USER = {"record": "user", "user_id": "a"}
ITEM = {"record": "item", "item_id": "a"}


@pytest.mark.parametrize("record", [CLICK, ITEM, USER], ids=["event", "item", "user"])
@given(st.dictionaries(st.sampled_from(["size", "price", "attributes", "properties", "score"]), ANYTHING))
def test_what_is_accepted_can_be_read_from_the_log(record: dict[str, Any], more: dict[str, Any]) -> None:
    """Else it was acknowledged, and ends as an unreadable record behind the door."""
    try:
        accepted = Contract(Settings(), lambda: NOW).parse({**record, **more})
    except ContractError:
        return
    assert decode(encode(accepted)) == accepted


@pytest.mark.parametrize("record", [ITEM, USER], ids=["item", "user"])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_an_attribute_that_is_no_number_is_refused(record: dict[str, Any], number: float) -> None:
    assert refusal({**record, "attributes": {"x": number}}).code == "not_finite"


@pytest.mark.parametrize("record", [CLICK, ITEM, USER], ids=["event", "item", "user"])
def test_a_table_says_with_nan_that_there_is_no_number(record: dict[str, Any]) -> None:
    """It is absent, and not the text "null", which would be an attribute value like others."""
    accepted = Contract(Settings(), lambda: NOW).parse({**record, "size": math.nan, "width": 2.5})
    kept = getattr(accepted, "properties", None) or getattr(accepted, "attributes", None)
    assert kept == {"width": "2.5" if record["record"] == "event" else 2.5}
    assert str(refusal({**record, "size": math.inf})) == "size: inf is not a finite number"
