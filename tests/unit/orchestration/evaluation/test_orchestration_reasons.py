"""What the offline side says of builds, lakes and options that cannot be, word for word."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.errors import BuildError, LakeError, SettingsError, SourceError
from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.lake.lake import Builds
from feature_repo.settings import Settings
from orchestration.builds.build import _needed, as_of_day, end_of, read_build
from orchestration.evaluation.fit_blend import fit_blend
from orchestration.evaluation.history import read_history
from orchestration.evaluation.ranking_tasks import PopularCandidates, parse_candidates
from orchestration.materialize.materialize import read_batches
from orchestration.monitoring.recompute import _query
from orchestration.training.spec import TrainingSpec

DAY = date(2024, 5, 30)


def test_a_file_that_is_no_build_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "as_of=20240531T000000Z"
    folder.mkdir()
    path = folder / "data.parquet"
    cases = {"absent": "No such file", "cut": "Parquet", "strange": "", "misplaced": ""}
    for case, why in cases.items():
        at = path
        if case == "cut":
            path.write_bytes(b"PAR1 cut")
        elif case == "strange":
            pq.write_table(pa.table({"a": [1]}), path)
        elif case == "misplaced":
            stamped = pa.table({"a": [1]}).replace_schema_metadata(
                {b"headrace:created": b"2024-05-31T00:00:00+00:00"}
            )
            at = tmp_path / "data.parquet"
            pq.write_table(stamped, at)
        with pytest.raises(BuildError) as caught:
            read_build(at)
        message = str(caught.value)
        assert message.startswith(f"{at}: not a readable build (")
        assert message.endswith("); remove it and rebuild its partition")
        found = message.removeprefix(f"{at}: not a readable build (").split("); remove")[0]
        assert why in found
        assert found, "says what was found"


def test_a_build_that_cannot_be_read_to_its_end_says_what_arrow_found(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    path.write_bytes(b"PAR1 cut")
    with pytest.raises(BuildError) as caught:
        list(read_batches(path))
    assert str(caught.value).startswith(f"{path}: not a readable build (Parquet")
    assert str(caught.value).endswith("); rebuild its partition")


def test_a_group_that_reads_another_names_the_one_that_is_missing(home: Home) -> None:
    reading = [g for g in all_groups().values() if g.depends_on]
    assert reading, "a group that reads another"
    for group in reading:
        with pytest.raises(BuildError) as caught:
            _needed(group, home, end_of(DAY))
        name = group.depends_on[0]
        assert str(caught.value) == (
            f"{group.name} of {DAY}: reads {name}, which has no build of that day; build {name} first"
        )


def test_a_day_that_has_not_begun_is_not_built() -> None:
    now = datetime(2024, 5, 30, tzinfo=UTC)
    with pytest.raises(BuildError) as caught:
        as_of_day(DAY, now)
    assert str(caught.value) == (
        "partition 2024-05-30: the day has not begun (it is 2024-05-30T00:00:00Z); build it once it has"
    )
    # A microsecond in, it is built as of now; once it is over, as of its end and no later.
    assert as_of_day(DAY, now + timedelta(microseconds=1)) == now
    assert as_of_day(DAY, now + timedelta(hours=5)) == now + timedelta(hours=5)
    assert as_of_day(DAY, now + timedelta(days=9)) == end_of(DAY) == now + timedelta(days=1)


def test_nothing_to_fit_on_names_the_lake(settings: Settings, home: Home) -> None:
    with pytest.raises(BuildError) as caught:
        fit_blend(settings, home)
    assert str(caught.value) == f"{home.lake}: no event to fit on; ingest some first: headrace ingest PATH"


def test_a_file_without_a_valid_event_is_named_with_how_many_it_held(
    tmp_path: Path, settings: Settings
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b"[]\n{}\n3\n")
    with pytest.raises(SourceError) as caught:
        read_history(path, "headrace", settings)
    assert str(caught.value) == (
        f"{path}: no valid event in it (3 records rejected); is --format headrace right?"
    )


def test_a_file_of_the_lake_that_cannot_be_recomputed_from_is_named_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    path.write_bytes(b"PAR1 cut")
    with pytest.raises(LakeError) as caught:
        _query("SELECT * FROM read_parquet($1)", [str(path)])
    message = str(caught.value)
    assert message.startswith(f"{path}: cannot be read (")
    assert "part.parquet" in message.split("cannot be read (")[1]
    assert "\n" not in message


# Options


@pytest.mark.parametrize(
    "text",
    [
        "",
        "popular",
        "popular:0:1h",
        "popular:10",
        "popular:10:1w",
        "popular:10:0h",
        "random:10:1h",
        "popular:10:1h ",
    ],
)
def test_candidates_that_cannot_be(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_candidates(text)
    assert str(caught.value) == (
        f"--candidates {text!r}: write popular:COUNT:SPAN with a span in s, m, h or d: popular:100:1h"
    )


@given(st.integers(1, 99_999), st.integers(1, 999_999), st.sampled_from("smhd"))
def test_candidates_as_they_are_written(count: int, span: int, unit: str) -> None:
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86_400}[unit]
    expected = PopularCandidates(count, timedelta(seconds=span * seconds))
    assert parse_candidates(f"popular:{count}:{span}{unit}") == expected


def test_a_training_set_that_cannot_be_specified() -> None:
    with pytest.raises(BuildError) as caught:
        TrainingSpec(DAY, DAY, attribution=timedelta(hours=2), embargo=timedelta(hours=1))
    assert str(caught.value) == (
        "embargo of 1:00:00 is shorter than the attribution window of 2:00:00; "
        "labels of one split would fall in the time of the next"
    )
    with pytest.raises(BuildError) as caught:
        TrainingSpec(DAY, DAY - timedelta(days=1))
    assert str(caught.value) == "last day 2024-05-29 is before the first, 2024-05-30; swap them"
    for shares in ((0.8, 0.1, 0.2), (1.2, -0.1, -0.1), (0.5, 0.25, 0.2)):
        with pytest.raises(BuildError) as caught:
            TrainingSpec(DAY, DAY, shares=shares)
        assert str(caught.value) == (f"shares {shares} must be at least 0 and sum to 1, e.g. (0.8, 0.1, 0.1)")
    assert TrainingSpec(DAY, DAY, attribution=timedelta(hours=1), embargo=timedelta(hours=1)).first == DAY


def test_builds_of_a_group_lie_by_version(tmp_path: Path) -> None:
    builds = Builds(tmp_path)
    assert (
        builds.path("g", end_of(DAY), 2) == tmp_path / "g" / "v2" / "as_of=20240531T000000Z" / "data.parquet"
    )
