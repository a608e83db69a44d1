from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_repo.contract.normalization import normalized
from feature_repo.contract.validation import Event, Item
from feature_repo.errors import LakeError
from feature_repo.lake.lake import Lake
from quality.drift.day_rates import FAMILIAR, day_rates
from quality.drift.rates import Sums
from tests.support.offline import event, write_events, write_records

DAY = date(2024, 5, 30)
NOON = datetime(2024, 5, 30, 12, tzinfo=UTC)
ENGAGING = ("click", "add_to_cart", "it's")
CATEGORY = {"i0": "a", "i1": "b", "i2": "c", "i3": "d", "i4": None}
LIKED = {"u0": ["a", "b", "c", "d"], "u1": ["d"], "u2": []}

actions = st.lists(
    st.tuples(
        st.sampled_from(["click", "click", "add_to_cart", "impression", "search", "it's"]),
        st.integers(0, 4),
        st.sampled_from(["u0", "u1", "u2", "u3", None]),
        st.sampled_from([*CATEGORY, "unlisted"]),
    ),
    min_size=1,
    max_size=40,
)


def events_of(found: Sequence[tuple[str, int, str | None, str]]) -> list[Event]:
    return [
        event(n, NOON, event_type=kind, session_id=f"s{session}", user_id=user, item_id=item)
        for n, (kind, session, user, item) in enumerate(found)
    ]


def profiles(folder: Path) -> Path:
    path = folder / "profiles.parquet"
    table = pa.table({"user_id": list(LIKED), "categories": pa.array(LIKED.values(), pa.list_(pa.string()))})
    pq.write_table(table, path)
    return path


def naive(events: Sequence[Event]) -> tuple[dict[str, Sums], dict[str, float]]:
    """The same by hand, session by session."""
    sessions: dict[str, list[Event]] = defaultdict(list)
    for one in events:
        sessions[one.session_id].append(one)
    kinds = {e.event_type for e in events}
    rates = {"sessions": Sums(1, len(sessions), 0, 0, len(sessions))}
    counts = [Counter(e.event_type for e in of) for of in sessions.values()]
    for kind in kinds:
        base = {"impression": "session", "search": "session", "click": "impression"}.get(kind, "click")
        base = base if base in kinds else "session"
        rates[f"{kind}_per_{base}"] = summed([(1 if base == "session" else c[base], c[kind]) for c in counts])
    mix: dict[str, float] = defaultdict(float)
    known = []
    for of in sessions.values():
        engaged = [(e, CATEGORY.get(e.item_id or "")) for e in of if e.event_type in ENGAGING]
        met = [(e, category) for e, category in engaged if category]
        for _, category in met:
            mix[str(category)] += 1 / len(met)
        told = [category in LIKED[e.user_id][:3] for e, category in met if e.user_id and LIKED.get(e.user_id)]
        known.append((len(told), sum(told)))
    if any(x for x, _ in known):
        rates[FAMILIAR] = summed(known)
    return rates, mix


def summed(pairs: Sequence[tuple[int, int]]) -> Sums:
    columns = [(x, y, x * x, x * y, y * y) for x, y in pairs]
    return Sums(*(float(sum(c)) for c in zip(*columns, strict=True)))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions)
def test_the_rates_of_any_day_are_those_counted_by_hand(tmp_path: Path, found: Any) -> None:
    lake = Lake(tmp_path / "lake")
    write_records(lake, [Item(item_id=i, categories=(c,) if c else ()) for i, c in CATEGORY.items()])
    events = events_of(found)
    write_events(lake, DAY, events)
    measured = day_rates(DAY, lake.files_of(DAY), lake.files("item"), profiles(tmp_path), ENGAGING)
    rates, mix = naive(events)
    assert measured.rates == rates
    assert measured.categories == pytest.approx(mix, abs=1e-5)


def only(lake: Lake, built: Path | None = None) -> Mapping[str, Sums]:
    return day_rates(DAY, lake.files_of(DAY), lake.files("item"), built, ENGAGING).rates


def test_without_items_or_profiles_nothing_is_known_of_tastes(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    write_events(lake, DAY, events_of([("click", 0, "u0", "i0")]))
    assert set(only(lake)) == {"sessions", "click_per_session"}
    assert set(only(lake, profiles(tmp_path))) == {"sessions", "click_per_session"}
    write_records(lake, [Item(item_id="i0", categories=("a",))])
    assert FAMILIAR not in only(lake)
    assert only(lake, profiles(tmp_path))[FAMILIAR] == Sums(1, 1, 1, 1, 1)


def test_the_newest_record_of_an_item_says_its_category(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    write_events(lake, DAY, events_of([("click", 0, "u0", "i0")]))
    write_records(lake, [Item(item_id="i0", categories=("old",))])
    table = pq.read_table(lake.files("item")[0])
    later = [t + timedelta(days=1) for t in table["ingested_at"].to_pylist()]
    table = table.set_column(
        table.column_names.index("ingested_at"), "ingested_at", pa.array(later, table["ingested_at"].type)
    )
    index = table.column_names.index("categories")
    table = table.set_column(index, "categories", pa.array([["new"]], table["categories"].type))
    pq.write_table(table, lake.folder("item") / "part-1.parquet")
    found = day_rates(DAY, lake.files_of(DAY), lake.files("item"), None, ENGAGING)
    assert found.categories == {"new": 1.0}


def test_a_category_is_familiar_however_it_is_spelled(tmp_path: Path) -> None:
    """Profiles hold it normalized, items as it came."""
    lake = Lake(tmp_path / "lake")
    write_events(lake, DAY, events_of([("click", 0, "u0", "i0"), ("click", 1, "u0", "i1")]))
    write_records(
        lake, [Item(item_id="i0", categories=("ΧΕΙΡΟΣ",)), Item(item_id="i1", categories=("χειρος",))]
    )
    built = tmp_path / "built.parquet"
    pq.write_table(pa.table({"user_id": ["u0"], "categories": [[normalized("ΧΕΙΡΟΣ")]]}), built)
    found = day_rates(DAY, lake.files_of(DAY), lake.files("item"), built, ENGAGING)
    assert (found.rates[FAMILIAR].x, found.rates[FAMILIAR].y) == (2, 2)
    assert found.categories == {normalized("ΧΕΙΡΟΣ"): 2.0}


@pytest.mark.parametrize("torn", ["events", "profiles"])
def test_a_damaged_file_is_named(tmp_path: Path, torn: str) -> None:
    lake = Lake(tmp_path / "lake")
    path = write_events(lake, DAY, events_of([("click", 0, "u0", "i0")]))
    built = profiles(tmp_path)
    (path if torn == "events" else built).write_bytes(b"PAR1")
    with pytest.raises(LakeError, match=r"(part-0|profiles)\.parquet: damaged Parquet file"):
        only(lake, built)


def test_an_unrelated_file_is_not_a_day(tmp_path: Path) -> None:
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"a": [1]}), other)
    with pytest.raises(LakeError, match=r"behaviour of 2024-05-30: cannot be measured"):
        day_rates(DAY, [str(other)], [], None, ENGAGING)
