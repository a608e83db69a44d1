"""The simulated shop: deterministic, within the contract, with the causes it claims."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.contract.validation import Contract, Event, Item, Kind, Record, User
from feature_repo.errors import ContractError, SourceError
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.settings import Settings
from streaming.ingest.files import ingest
from streaming.simulator import Drift, Shop, ShopConfig, make_shop, simulate, simulate_lake, traffic
from streaming.simulator.output import broken_line
from streaming.simulator.shop_events import Day, make_day
from streaming.simulator.traffic import SLOTS, _first_distinct

SMALL = ShopConfig(users=60, items=80, days=3, seed=5, duplicates=0.05, late=0.05, malformed=0.05)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    out = tmp_path_factory.mktemp("shop") / "shop.jsonl.gz"
    return out, simulate(SMALL, out)


@pytest.fixture(scope="module")
def stable() -> tuple[Shop, list[Day]]:
    shop = make_shop(ShopConfig(users=800, items=300, days=6, seed=1))
    return shop, [make_day(shop, n) for n in range(6)]


def parsed(path: Path, settings: Settings) -> tuple[list[Record], list[ContractError]]:
    contract = Contract(settings, lambda: SMALL.end + timedelta(days=1))
    good, bad = [], []
    for line in gzip.decompress(path.read_bytes()).splitlines():
        try:
            good.append(contract.parse(line))
        except ContractError as error:
            bad.append(error)
    return good, bad


def test_the_same_seed_gives_the_same_bytes(written: tuple[Path, Any], tmp_path: Path) -> None:
    again, other = tmp_path / "again.jsonl.gz", tmp_path / "other.jsonl.gz"
    simulate(SMALL, again)
    assert again.read_bytes() == written[0].read_bytes()
    simulate(ShopConfig(**{**SMALL.__dict__, "seed": 6}), other)
    assert other.read_bytes() != again.read_bytes()


def test_every_line_is_accounted_for(written: tuple[Path, Any], settings: Settings) -> None:
    path, counts = written
    good, bad = parsed(path, settings)
    events = [r for r in good if isinstance(r, Event)]
    assert len(bad) == counts.malformed > 0
    assert len({e.event_id for e in events}) == counts.events
    assert len(events) == counts.events + counts.duplicates
    assert counts.duplicates > 0
    distinct = Counter({e.event_id: e.event_type for e in events}.values())
    assert distinct == counts.by_type
    assert sum(isinstance(r, Item) for r in good) == 80
    assert sum(isinstance(r, User) for r in good) == 60


def test_malformed_lines_fail_in_several_ways(written: tuple[Path, Any], settings: Settings) -> None:
    _, bad = parsed(written[0], settings)
    assert len({e.code for e in bad}) >= 4


def test_late_events_arrive_after_later_ones(written: tuple[Path, Any], settings: Settings) -> None:
    path, counts = written
    events = [r for r in parsed(path, settings)[0] if isinstance(r, Event)]
    newest, seen, late = datetime(1, 1, 1, tzinfo=UTC), set(), 0
    for event in events:
        late += event.event_id not in seen and newest - event.event_time > timedelta(minutes=14)
        seen.add(event.event_id)
        newest = max(newest, event.event_time)
    assert 0 < late <= counts.late


def test_the_truth_is_written_beside_the_events(written: tuple[Path, Any]) -> None:
    path, counts = written
    truth = json.loads(path.with_name("shop.truth.json").read_text())
    assert truth["counts"]["events"] == counts.events
    assert truth["counts"]["by_type"]["impression"] == counts.by_type["impression"]
    assert truth["config"]["seed"] == 5
    users = pq.read_table(path.with_name("shop.truth.users.parquet")).to_pylist()
    assert len(users) == 60
    assert all(sum(u["taste"]) == pytest.approx(1) for u in users)
    sessions = pq.read_table(path.with_name("shop.truth.sessions.parquet"))
    assert sum(len(i) for i in sessions["intents"].to_pylist()) == counts.by_type["impression"]


def test_parquet_holds_what_the_lines_hold(
    written: tuple[Path, Any], tmp_path: Path, settings: Settings
) -> None:
    out = tmp_path / "shop.parquet"
    counts = simulate(SMALL, out)
    assert counts == written[1]
    contract = Contract(settings, lambda: SMALL.end + timedelta(days=1))
    good: dict[str, Event] = {}
    bad = 0
    for row in pq.read_table(out).to_pylist():
        fields = {k: v for k, v in row.items() if v is not None}
        fields["properties"] = dict(fields["properties"])
        try:
            record = contract.parse(fields, "event")
        except ContractError as error:
            assert error.code in {"unknown_event_type", "time_out_of_range"}  # noqa: PT017
            bad += 1
        else:
            assert isinstance(record, Event)
            good[record.event_id] = record
    assert bad == counts.malformed
    lines = {r.event_id: r for r in parsed(written[0], settings)[0] if isinstance(r, Event)}
    assert good == lines
    assert pq.read_metadata(tmp_path / "shop.items.parquet").num_rows == 80
    assert pq.read_metadata(tmp_path / "shop.users.parquet").num_rows == 60


@pytest.mark.parametrize("number", range(6))
def test_every_fault_is_rejected(number: int, settings: Settings, clock: Callable[[], datetime]) -> None:
    line = b'{"record":"event","event_id":"e","event_type":"view","event_time":"2024-01-01T00:00:00Z",'
    line += b'"session_id":"s","item_id":"i"}'
    contract = Contract(settings, clock)
    contract.parse(line)
    with pytest.raises(ContractError):
        contract.parse(broken_line(line, number))


def test_first_distinct_equals_the_naive_loop() -> None:
    drawn = np.random.default_rng(0).integers(0, 9, (50, 12))
    for row, got in zip(drawn, _first_distinct(drawn, 6), strict=True):
        naive = list(dict.fromkeys(row.tolist()))[:6]
        assert got.tolist() == naive + [-1] * (6 - len(naive))


def test_lists_hold_distinct_items_best_score_first(stable: tuple[Shop, list[Day]]) -> None:
    for day in stable[1]:
        item, score = day.shown.item, day.shown.score
        assert item.shape[1] == SLOTS
        for row, scores in zip(item[:200], score[:200], strict=True):
            filled = row[row >= 0]
            assert len(set(filled.tolist())) == len(filled)
            assert (np.diff(scores[: len(filled)]) <= 0).all()
        assert not day.shown.clicked[item < 0].any()


def test_sessions_have_no_gap_of_half_an_hour(stable: tuple[Shop, list[Day]]) -> None:
    events = stable[1][0].events
    sessions = np.unique(events.session)
    assert len(sessions) > 100
    for session in sessions:
        times = np.sort(events.time_ms[events.session == session])
        assert (np.diff(times) < 1_800_000).all()


def test_clicks_follow_taste_intent_and_position(stable: tuple[Shop, list[Day]]) -> None:
    shop, days = stable
    clicked = np.concatenate([d.shown.clicked for d in days])
    item = np.concatenate([d.shown.item for d in days])
    intent = np.concatenate([d.pages.intent for d in days])
    user = np.concatenate([d.visits.user[d.pages.session] for d in days])
    fits = shop.items.category[item] == intent[:, None]
    liked = shop.users.taste[user[:, None], shop.items.category[item]] > 0.2
    shown = item >= 0
    assert clicked[fits & shown].mean() > 2 * clicked[~fits & shown].mean()
    assert clicked[liked & ~fits & shown].mean() > 1.5 * clicked[~liked & ~fits & shown].mean()
    assert clicked[:, 0].mean() > 1.5 * clicked[:, -1].mean()


def test_popularity_is_skewed_and_users_return_or_are_cold(stable: tuple[Shop, list[Day]]) -> None:
    shop, days = stable
    shown = np.bincount(np.concatenate([d.shown.item[d.shown.item >= 0] for d in days]), minlength=300)
    assert np.sort(shown)[::-1][:30].sum() > 0.3 * shown.sum()
    visits = np.bincount(np.concatenate([d.visits.user for d in days]), minlength=800)
    assert (visits > 1).sum() > 100
    assert ((shop.users.first_day > 0) & (visits > 0)).sum() > 50
    for number, day in enumerate(days):
        assert (shop.users.first_day[day.visits.user] <= number).all()


def test_intent_starts_from_the_taste_and_wanders(stable: tuple[Shop, list[Day]]) -> None:
    shop, days = stable
    pages = [(d.visits.user[d.pages.session], d.pages.intent, d.pages.number, d.pages.session) for d in days]
    share = np.mean(np.concatenate([shop.users.taste[u, i] for u, i, n, _ in pages]))
    assert share > 0.15  # 0.05 were it drawn evenly
    moves = np.concatenate([(i[1:] != i[:-1])[s[1:] == s[:-1]] for _, i, _, s in pages])
    assert 0.05 < moves.mean() < 0.3


def test_a_new_item_is_not_shown_before_its_day(stable: tuple[Shop, list[Day]]) -> None:
    shop, days = stable
    for number, day in enumerate(days):
        item = day.shown.item[day.shown.item >= 0]
        assert (shop.items.first_day[item] <= number).all()


def test_a_planted_drift_changes_only_the_days_after_it() -> None:
    plain = make_shop(ShopConfig(users=300, items=100, days=4, seed=2))
    for kind in ("taste", "conversion", "activity"):
        config = ShopConfig(users=300, items=100, days=4, seed=2, drift=Drift(2, kind))  # type: ignore[arg-type]
        turned = make_shop(config)
        before, after = make_day(turned, 1), make_day(turned, 3)
        assert (before.events.time_ms == make_day(plain, 1).events.time_ms).all()
        usual = make_day(plain, 3)
        if kind == "activity":
            assert len(after.visits.user) < 0.7 * len(usual.visits.user)
        elif kind == "conversion":
            assert (after.events.type == 5).sum() < 0.8 * (usual.events.type == 5).sum()
        else:
            assert (after.pages.intent != usual.pages.intent).mean() > 0.3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"users": 0}, "--users 0: a shop needs at least 1"),
        ({"late": 1.5}, "--late 1.5: a share is between 0 and 1"),
        ({"end": datetime(2024, 1, 1)}, "--end 2024-01-01T00:00:00: needs a time zone"),  # noqa: DTZ001
    ],
)
def test_impossible_shops_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        ShopConfig(**fields)


def test_an_unknown_ending_and_a_folder_that_is_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"shop.xml: unknown suffix; use .jsonl"):
        simulate(SMALL, tmp_path / "shop.xml")
    (tmp_path / "file").touch()
    with pytest.raises(SourceError, match="cannot be written"):
        simulate(SMALL, tmp_path / "file" / "shop.jsonl")


def test_progress_is_reported_after_each_day(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    counts = simulate(SMALL, tmp_path / "shop.jsonl", lambda days, lines: told.append((days, lines)))
    assert [d for d, _ in told] == [1, 2, 3]
    assert told[-1][1] == counts.lines


def test_a_simulated_lake_is_what_ingesting_the_shop_makes(settings: Settings, tmp_path: Path) -> None:
    config = ShopConfig(users=60, items=80, days=3, seed=5, duplicates=0, late=0.05, malformed=0)
    simulate(config, tmp_path / "shop.jsonl")
    ingest([tmp_path / "shop.jsonl"], "headrace", settings)
    direct, ingested = Lake(tmp_path / "lake"), Lake(Home(settings.home).lake)
    counts = simulate_lake(config, direct)

    def rows(lake: Lake, kind: Kind, key: str) -> list[dict[str, Any]]:
        table = pa.concat_tables(pq.read_table(path, partitioning=None) for path in lake.files(kind))
        return table.drop_columns(["ingested_at"]).sort_by(key).to_pylist()

    assert direct.days() == ingested.days()
    assert len(rows(direct, "event", "event_id")) == counts.events
    kinds: tuple[tuple[Kind, str], ...] = (("event", "event_id"), ("item", "item_id"), ("user", "user_id"))
    for kind, key in kinds:
        assert rows(direct, kind, key) == rows(ingested, kind, key)
    for day in direct.days():
        for path in direct.files("event", day, day + timedelta(days=1)):
            assert {t.date() for t in pq.read_table(path)["event_time"].to_pylist()} == {day}


def test_a_lake_is_simulated_clean_and_empty(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    with pytest.raises(SourceError, match="set both shares to 0"):
        simulate_lake(ShopConfig(users=5, items=5, days=1), lake)
    config = ShopConfig(users=50, items=5, days=1, duplicates=0, malformed=0)
    simulate_lake(config, lake)
    with pytest.raises(SourceError, match="already has events"):
        simulate_lake(config, lake)


def test_memory_bounding_portions_change_nothing_but_the_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = make_shop(ShopConfig(users=300, items=100, days=1, seed=2))
    whole = make_day(shop, 0)
    monkeypatch.setattr(traffic, "CHUNK", 7)
    portions = make_day(shop, 0)
    assert portions.shown.item.shape == whole.shown.item.shape
    assert (portions.pages.intent == whole.pages.intent).all()
