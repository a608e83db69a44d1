"""A training set from a real lake and real builds: features as of the decision, and no look-ahead."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from feature_repo.contract.validation import Event, Item, ShownItem
from feature_repo.errors import BuildError, LakeError
from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.settings import Settings
from orchestration.builds.build import build_group, end_of
from orchestration.defs.assembly import build_definitions
from orchestration.defs.jobs import TRAINING
from orchestration.defs.training import TrainingConfig
from orchestration.evaluation.history import History
from orchestration.evaluation.session_features import ReplaySessions
from orchestration.runtime import Runtime
from orchestration.training.dataset import TrainingSet, training_folder
from orchestration.training.logged import logged_rows
from orchestration.training.spec import GROUPS, TrainingSpec
from serving.decisions.record import Decision, UsedRow
from tests.support.offline import event, rows_of, write_events, write_records

DAY = date(2024, 5, 29)
T0 = datetime(2024, 5, 29, tzinfo=UTC)
NOW = datetime(2024, 6, 1, tzinfo=UTC)
SPEC = TrainingSpec(DAY + timedelta(days=1), DAY + timedelta(days=1), shares=(0.5, 0.25, 0.25))


def shop(day: date) -> list[Event]:
    """Every half hour a list of three to one of five users, who clicks the second ten minutes later."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    found = []
    for n in range(48):
        time, number = start + timedelta(minutes=30 * n), day.toordinal() * 1_000 + n
        items = [f"i{(n + k) % 7}" for k in range(3)]
        same = {"session_id": f"s{number // 4}", "user_id": f"u{n // 4 % 5}", "request_id": f"r{number}"}
        shown = tuple(ShownItem(i, score=1.0 / (k + 1)) for k, i in enumerate(items))
        found.append(event(number * 2, time, event_type="impression", item_id=None, items=shown, **same))
        found.append(event(number * 2 + 1, time + timedelta(minutes=10), item_id=items[1], **same))
    return found


@pytest.fixture
def lake(home: Home, settings: Settings) -> Lake:
    found = Lake(home.lake)
    for n in range(2):
        write_events(found, DAY + timedelta(days=n), shop(DAY + timedelta(days=n)))
    items = [
        Item(item_id=f"i{n}", title=f"T{n}", categories=(f"c{n % 2}",), price=1.0 + n, created_at=T0)
        for n in range(7)
    ]
    write_records(found, items)
    for name in ("user_profile", "segment_profile", "item_profile"):
        build_group(all_groups()[name], settings, home, end_of(DAY), lambda: NOW)
    return found


def made(settings: Settings, home: Home, **more: Any) -> list[dict[str, Any]]:
    TrainingSet(SPEC, settings, home, lambda: NOW, **more).make()
    table = pq.read_table(training_folder(home) / "data.parquet", partitioning=None)
    return table.to_pylist()


@pytest.mark.usefixtures("zone")
def test_rows_have_features_as_of_the_decision(settings: Settings, home: Home, lake: Lake) -> None:
    rows = made(settings, home)
    assert {row["position"] for row in rows} == {0, 1, 2}
    assert all(row["label_click"] == (row["position"] == 1) for row in rows)
    users = rows_of(home.features / "user_profile" / "v1" / "as_of=20240530T000000Z" / "data.parquet")
    items = rows_of(home.features / "item_profile" / "v1" / "as_of=20240530T000000Z" / "data.parquet")
    for row in rows:
        assert row["user_profile__source"] == row["item_profile__source"] == "point_in_time"
        for name in ("click_rate", "attr_keys", "segment"):
            assert row[f"user_profile__{name}"] == users[row["user_id"]][name]
        assert row["item_profile__ctr"] == items[row["item_id"]]["ctr"]
        assert row["segment_profile__source"] == "point_in_time"
        for group in GROUPS:
            assert row[f"{group}__event_time"] is None or row[f"{group}__event_time"] <= row["decision_time"]


@pytest.mark.usefixtures("zone")
def test_session_features_are_those_of_the_live_fold(settings: Settings, home: Home, lake: Lake) -> None:
    rows = made(settings, home)
    events = [e for n in range(2) for e in shop(DAY + timedelta(days=n))]
    history = History((), {}, {}, dict(settings.weights))
    seen = 0
    for row in rows:
        before = [
            e for e in events if e.session_id == row["session_id"] and e.event_time < row["decision_time"]
        ]
        replay = ReplaySessions(history, settings)
        replay.add(before)
        expected = replay.row(row["session_id"], row["decision_time"])
        assert (row["session_profile__source"] == "fold") == (expected is not None)
        if expected is not None:
            seen += 1
            for name in ("item_ids", "event_count", "click_count", "last_event_time"):
                assert row[f"session_profile__{name}"] == expected[name]
    assert seen > 50


def test_a_build_of_the_future_is_not_used(settings: Settings, home: Home, lake: Lake) -> None:
    before = made(settings, home)
    build_group(all_groups()["user_profile"], settings, home, end_of(DAY + timedelta(days=1)), lambda: NOW)
    assert made(settings, home) == before


def decision(request: str, **features: UsedRow) -> Decision:
    fields: dict[str, Any] = dict.fromkeys(Decision.__struct_fields__)
    return Decision(**{**fields, "request_id": request, "features": features})


def test_what_was_logged_comes_first(settings: Settings, home: Home, lake: Lake) -> None:
    plain = made(settings, home)
    request = plain[0]["request_id"]
    time = plain[0]["decision_time"] - timedelta(minutes=3)
    logged = UsedRow(
        {"click_rate": 42.0, "segment": "likes:c0", "last_event_time": "2024-05-29T01:02:03Z"}, time, False
    )
    session = UsedRow({"user_id": "hash", "event_count": 7}, time, True)
    rows = made(settings, home, decisions=[decision(request, user=logged, session=session)] * 2)
    assert len(rows) == len(plain)
    for row, was in zip(rows, plain, strict=True):
        if row["request_id"] != request:
            assert row == was
            continue
        assert row["user_profile__source"] == row["session_profile__source"] == "logged"
        assert row["user_profile__click_rate"] == 42.0
        assert row["user_profile__last_event_time"] == datetime(2024, 5, 29, 1, 2, 3, tzinfo=UTC)
        assert row["user_profile__event_time"] == time
        assert row["session_profile__event_count"] == 7
        assert row["session_profile__user_id"] is None
        assert row["item_profile__source"] == "point_in_time"


def test_the_card_says_what_the_set_is(settings: Settings, home: Home, lake: Lake) -> None:
    card = TrainingSet(SPEC, settings, home, lambda: NOW).make()
    rows = pq.read_table(training_folder(home) / "data.parquet", partitioning=None)
    assert sum(card.rows.values()) == rows.num_rows
    assert sum(card.rows.values()) + card.embargoed == 48 * 3
    assert card.columns == rows.num_columns
    assert list(card.rows) == ["train", "validation", "test"]
    assert card.labels["label_click"]["test"] == pytest.approx(1 / 3)
    assert card.sources["user_profile"] == {"point_in_time": rows.num_rows}
    saved = json.loads((training_folder(home) / "card.json").read_text())
    assert saved["inputs"] == card.inputs
    page = (training_folder(home) / "card.md").read_text()
    assert f"`{card.inputs}`" in page
    assert "| test | 12 | 36 | 33.33% |" in page
    # The same inputs have the same hash; a further file has another.
    assert TrainingSet(SPEC, settings, home, lambda: NOW).make().inputs == card.inputs
    write_events(lake, DAY, [event(9, T0)], "part-7")
    assert TrainingSet(SPEC, settings, home, lambda: NOW).make().inputs != card.inputs


def test_requests_keep_to_one_split_and_splits_to_their_time(
    settings: Settings, home: Home, lake: Lake
) -> None:
    rows = made(settings, home)
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row["request_id"], set()).add(row["split"])
    assert all(len(names) == 1 for names in splits.values())
    ends = max(r["decision_time"] for r in rows if r["split"] == "train")
    begins = min(r["decision_time"] for r in rows if r["split"] == "validation")
    assert begins - ends >= SPEC.embargo


def test_without_builds_the_columns_are_there_and_empty(settings: Settings, home: Home) -> None:
    write_events(Lake(home.lake), SPEC.first, shop(SPEC.first))
    rows = made(settings, home)
    assert {row["user_profile__source"] for row in rows} == {"none"}
    assert {row["user_profile__click_rate"] for row in rows} == {None}


def test_days_without_impressions_say_so_and_the_set_before_stays(
    settings: Settings, home: Home, lake: Lake
) -> None:
    before = made(settings, home)
    far = TrainingSpec(date(2024, 7, 1), date(2024, 7, 2))
    with pytest.raises(BuildError, match="no event of these days in the lake"):
        TrainingSet(far, settings, home, lambda: NOW).make()
    write_events(lake, date(2024, 7, 1), [event(1, datetime(2024, 7, 1, 1, tzinfo=UTC))])
    with pytest.raises(BuildError, match="these days have no impression; choose days on which lists"):
        TrainingSet(far, settings, home, lambda: NOW).make()
    folder = training_folder(home)
    assert pq.read_table(folder / "data.parquet", partitioning=None).to_pylist() == before
    assert sorted(p.name for p in folder.iterdir()) == ["card.json", "card.md", "data.parquet"]


def test_a_damaged_lake_file_is_named(settings: Settings, home: Home, lake: Lake) -> None:
    Path(lake.files_of(DAY)[0]).write_bytes(b"PAR1")
    with pytest.raises(LakeError, match=r"part-0\.parquet: damaged Parquet file"):
        TrainingSet(SPEC, settings, home, lambda: NOW).make()


def test_logged_rows_come_in_batches() -> None:
    groups = {"user_profile": all_groups()["user_profile"]}
    used = UsedRow({"click_rate": 1.0}, T0, False)
    found = list(logged_rows([decision(f"r{n}", user=used) for n in range(5)], groups, size=2))
    assert [batch.num_rows for _, batch in found] == [2, 2, 1]


def test_a_feature_computed_from_the_label_is_caught(settings: Settings, home: Home, lake: Lake) -> None:
    from quality.checks.training_set import check_training_set

    made(settings, home)
    path = training_folder(home) / "data.parquet"
    assert check_training_set(path).blocking_failures == ()
    table = pq.read_table(path, partitioning=None)
    leaked = pc.if_else(table["label_click"], pa.scalar(0.9), pa.scalar(0.1))
    pq.write_table(table.append_column("item_profile__tomorrow", leaked), path)
    [failure] = check_training_set(path).blocking_failures
    assert failure.column == "item_profile__tomorrow"


def test_the_asset_makes_the_set_its_config_asks_for(settings: Settings, home: Home, lake: Lake) -> None:
    runtime = Runtime(settings, home, lambda: NOW, lambda *_: frozenset())
    job = build_definitions(runtime, ()).resolve_job_def(TRAINING)
    config = {"first": "2024-05-30", "last": "2024-05-30", "embargo_hours": 2.0}
    with dg.DagsterInstance.ephemeral() as instance:
        done = job.execute_in_process(
            instance=instance, run_config={"ops": {"training__training_set": {"config": config}}}
        )
    assert done.success
    [made_] = done.asset_materializations_for_node("training__training_set")
    card = json.loads((training_folder(home) / "card.json").read_text())
    assert made_.metadata["dagster/row_count"].value == sum(card["rows"].values())
    assert "# Training set" in str(made_.metadata["card"].value)
    assert card["spec"]["embargo"] == "PT7200S"
    [check] = done.get_asset_check_evaluations()
    assert check.passed


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"first": "yesterday"}, "first: 'yesterday' is not a date; write e.g. 2024-05-31"),
        ({"embargo_hours": 0.1}, "embargo of .* is shorter than the attribution window"),
    ],
)
def test_a_config_that_cannot_be_right_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(BuildError, match=message):
        TrainingConfig(**config).spec(DAY)


def test_the_default_is_the_last_two_weeks() -> None:
    spec = TrainingConfig().spec(DAY)
    assert (spec.first, spec.last) == (DAY - timedelta(days=13), DAY)
