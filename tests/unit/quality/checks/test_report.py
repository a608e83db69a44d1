"""Each kind of rule, passing and failing, through Great Expectations, and the words of its message."""

from __future__ import annotations

import math
import re
import socket
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.contract.validation import Contract, to_arrow
from feature_repo.errors import LakeError
from feature_repo.group import DType, Expectation, Feature
from feature_repo.groups import all_groups
from feature_repo.settings import Settings
from quality.checks.report import check, check_events, check_group
from quality.checks.results import CheckReport, CheckResult
from quality.checks.suites import Rule, Suite, Where, event_suite, group_suite
from tests.support.quality_data import taste

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
GROUP = taste(
    Feature("share", DType.FLOAT64, "", "", (Expectation("between", minimum=0, maximum=1),)),
    Feature("mood", DType.STRING, "", "", (Expectation("in_set", values=("calm", "wild"), mostly=0.5),)),
    Feature("keys", DType.STRINGS, ""),
    Feature("weights", DType.FLOAT64S, "", "", (Expectation("between", minimum=0, severity="warn"),)),
    Feature("born", DType.TIMESTAMP, "", "", (Expectation("not_null"),)),
    expectations=(
        Expectation("row_count_between", minimum=2, maximum=4),
        Expectation("same_length", columns=("keys", "weights")),
    ),
)
GOOD: dict[str, Any] = {
    "share": 0.5,
    "mood": "calm",
    "keys": ["a"],
    "weights": [1.0],
    "born": NOW,
    "event_timestamp": NOW,
    "created_timestamp": NOW,
}


def rows_of(count: int = 3, **first: Any) -> pa.Table:
    rows = [{**GOOD, "user_id": f"u{i}"} for i in range(count)]
    if rows:
        rows[0].update(first)
    return pa.Table.from_pylist(rows, schema=GROUP.arrow_schema)


def failed(report: CheckReport) -> dict[str, CheckResult]:
    return {r.key: r for r in report.failures}


def test_good_rows_pass_every_check() -> None:
    report = check_group(GROUP, rows_of())
    assert report.failures == ()
    assert report.passed
    assert report.rows == 3
    assert report.target == "taste"
    assert len(report.results) == len(group_suite(GROUP).rules)


@pytest.mark.parametrize(
    ("change", "key", "severity", "message"),
    [
        (
            {"share": 1.5},
            "expect_column_values_to_be_between__share",
            "block",
            "share: 1 of 3 rows outside (0.3333), e.g. 1.5; wanted values 0 … 1",
        ),
        (
            {"share": math.nan},
            "expect_column_values_to_be_finite__share",
            "block",
            "share: 1 of 3 rows NaN or infinite (0.3333), e.g. nan; wanted finite numbers",
        ),
        (
            {"born": None},
            "expect_column_values_to_not_be_null__born",
            "block",
            "born: 1 of 3 rows null (0.3333); wanted no nulls",
        ),
        (
            {"user_id": "u1"},
            "expect_column_values_to_be_unique__user_id",
            "block",
            "user_id: 1 of 3 rows repeating another's value (0.3333), e.g. 'u1'; wanted each value once",
        ),
        (
            {"weights": [-1.0]},
            "expect_column_values_to_be_between__weights",
            "warn",
            "weights: 1 of 3 rows outside (0.3333), e.g. [-1.0]; wanted values ≥ 0",
        ),
        (
            {"weights": []},
            "expect_multicolumn_list_lengths_to_be_equal__keys_weights",
            "block",
            "keys,weights: 1 of 3 rows with lists of different lengths (0.3333), e.g. (['a'], []); "
            "wanted lists of equal length in each row",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and "__" in value else "",
)
def test_a_bad_row_fails_the_check_that_speaks_of_it(
    change: dict[str, Any], key: str, severity: str, message: str
) -> None:
    found = failed(check_group(GROUP, rows_of(**change)))[key]
    assert (found.severity, found.message) == (severity, message)


def test_a_warning_alone_does_not_block() -> None:
    report = check_group(GROUP, rows_of(weights=[-1.0]))
    assert [r.severity for r in report.failures] == ["warn"]
    assert report.blocking_failures == ()
    assert report.passed


def test_mostly_lets_a_share_of_rows_break_a_rule() -> None:
    assert failed(check_group(GROUP, rows_of(3, mood="odd"))) == {}
    found = check_group(GROUP, rows_of(1, mood="odd"))
    message = failed(found)["expect_column_values_to_be_in_set__mood"].message
    assert message == (
        "mood: 1 of 1 rows not known (1), e.g. 'odd'; wanted one of calm, wild in at least 0.5 of the rows"
    )


@pytest.mark.parametrize(("count", "passes"), [(0, False), (1, False), (2, True), (4, True), (5, False)])
def test_the_row_count_is_bounded(count: int, passes: bool) -> None:
    found = failed(check_group(GROUP, rows_of(count))).get("expect_table_row_count_to_be_between")
    assert (found is None) == passes
    if found is not None:
        assert found.message == f"table: {count} rows; wanted 2 … 4 rows"


def test_an_empty_batch_passes_value_checks_and_fails_the_row_count() -> None:
    report = check_group(GROUP, rows_of(0))
    assert list(failed(report)) == ["expect_table_row_count_to_be_between"]
    assert not report.passed


def test_a_feature_gone_null_is_a_warning() -> None:
    table = rows_of().set_column(2, "mood", pa.nulls(3, pa.string()))
    found = failed(check_group(GROUP, table))["expect_column_values_to_not_be_null__mood"]
    assert found.severity == "warn"
    assert found.message == "mood: 3 of 3 rows null (1); wanted a value in at least one row"


def test_a_column_missing_and_one_too_many_are_named() -> None:
    table = rows_of().drop_columns(["born"]).append_column("<b>bold</b>", pa.array([1, 2, 3]))
    report = check_group(GROUP, table)
    assert failed(report)["expect_table_columns_to_match_set"].message == (
        "table: missing born timestamp[us, UTC]; found <b>bold</b> int64; wanted "
        "exactly the 8 columns declared"
    )
    assert failed(report)["expect_column_values_to_not_be_null__born"].observed == "column born is absent"


def test_a_mistyped_column_is_named() -> None:
    table = rows_of()
    table = table.set_column(1, "share", pa.array(["much"] * 3))
    found = failed(check_group(GROUP, table))
    assert "missing share double; found share string" in found["expect_table_columns_to_match_set"].message
    message = found["expect_column_values_to_be_finite__share"].message
    assert message == "share: column share is string, not double; wanted finite numbers"


def test_accepted_bounds_are_judged_instead_of_the_declared_ones() -> None:
    wide = Rule("between", ("share",), minimum=0, maximum=2)
    assert check_group(GROUP, rows_of(share=1.5), overrides=[wide]).failures == ()


def test_a_file_a_folder_and_a_table_give_one_report(tmp_path: Path) -> None:
    table = rows_of(share=1.5)
    pq.write_table(table, tmp_path / "data.parquet")
    reports = [check_group(GROUP, s) for s in (table, tmp_path, tmp_path / "data.parquet")]
    assert reports[0] == reports[1] == reports[2]
    with pytest.raises(LakeError, match="no such file"):
        check_group(GROUP, tmp_path / "none")


def test_every_declared_group_can_be_judged() -> None:
    for group in all_groups().values():
        report = check_group(group, group.arrow_schema.empty_table())
        assert {r.name for r in report.failures} == {"expect_table_row_count_to_be_between"}
        assert len({r.key for r in report.results}) == len(report.results)


# Events

EVENTS: tuple[dict[str, Any], ...] = (
    {"event_id": "e1", "event_type": "click", "session_id": "s", "user_id": "u", "item_id": "i"},
    {"event_id": "e2", "event_type": "search", "session_id": "s", "query": "shoes"},
    {"event_id": "e3", "event_type": "impression", "session_id": "s", "items": [{"item_id": "i"}]},
)


@pytest.fixture
def day_file(tmp_path: Path, settings: Settings, clock: Callable[[], datetime]) -> Callable[..., str]:
    contract = Contract(settings, clock)

    def write(**changes: list[Any]) -> str:
        records = [contract.parse({**e, "event_time": NOW}, "event") for e in EVENTS]
        table = to_arrow("event", records, NOW)
        for name, values in changes.items():
            field = table.schema.field(name)
            table = table.set_column(
                table.schema.get_field_index(name), field.with_nullable(True), pa.array(values, field.type)
            )
        path = tmp_path / "part-0.parquet"
        pq.write_table(table, path)
        return str(path)

    return write


def test_events_of_the_contract_pass(day_file: Callable[..., str], settings: Settings) -> None:
    report = check_events([day_file()], settings=settings, day=date(2024, 6, 1))
    assert report.failures == ()
    assert (report.target, report.rows) == ("events 2024-06-01", 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"event_id": ["e1", "e1", "e3"]},
            "event_id: 1 of 3 rows repeating another's value (0.3333), e.g. 'e1'",
        ),
        ({"event_id": ["e1", "", "e3"]}, "event_id: 1 of 3 rows too short or too long (0.3333), e.g. ''"),
        ({"session_id": [None, "s", "s"]}, "session_id: 1 of 3 rows null (0.3333); wanted no nulls"),
        (
            {"item_id": [None, None, None]},
            "item_id: 1 of 1 rows null (1); wanted no nulls where event_type is not",
        ),
        (
            {"query": [None, None, None]},
            "query: 1 of 1 rows null (1); wanted no nulls where event_type is search",
        ),
        (
            {"items": [[], [], []]},
            "items: 1 of 1 rows too short or too long (1), e.g. []; wanted a length ≥ 1 where",
        ),
        (
            {"event_type": ["click", "search", "yawn"]},
            "event_type: 1 of 3 rows not known (0.3333), e.g. 'yawn'",
        ),
        (
            {"position": [-1, 0, 1]},
            "position: 1 of 3 rows outside (0.3333), e.g. -1; wanted values 0 … 1,000,000",
        ),
        (
            {"event_time": [NOW, NOW, NOW + timedelta(days=1)]},
            "event_time: 1 of 3 rows outside (0.3333), e.g. 2024-06-02T12:00:00+00:00; wanted values",
        ),
    ],
)
def test_events_that_break_the_contract_block(
    day_file: Callable[..., str], settings: Settings, changes: dict[str, Any], message: str
) -> None:
    report = check_events([day_file(**changes)], settings=settings, day=date(2024, 6, 1))
    assert [m for m in (r.message for r in report.blocking_failures) if m.startswith(message)], (
        report.failures
    )


def test_a_day_without_files_blocks() -> None:
    report = check_events([])
    assert "table: 0 rows; wanted ≥ 1 rows" in [r.message for r in report.blocking_failures]


def test_event_columns_of_a_later_contract_are_let_through(
    day_file: Callable[..., str], tmp_path: Path
) -> None:
    table = pq.read_table(day_file()).append_column("mood", pa.array(["a", "b", "c"]))
    pq.write_table(table, tmp_path / "later.parquet")
    assert check_events([str(tmp_path / "later.parquet")]).passed


# Data Docs


def test_the_page_shows_results_and_names_no_other_host(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    report = check_group(GROUP, rows_of(2, mood=hostile, share=7.25, user_id="u1"), tmp_path / "docs")
    strict = check(
        Suite("odd/name", GROUP.arrow_schema, (Rule("in_set", ("mood",), values=("x",)),)),
        rows_of(mood=hostile),
        tmp_path / "docs",
    )
    assert report.docs == tmp_path / "docs" / "taste.html"
    page = report.docs.read_text()
    assert "7.25" in page
    assert not re.search(r"(src|href)=\"(https?:)?//[^\"]*\.(js|css|png)", page)
    assert strict.docs is not None
    assert hostile not in strict.docs.read_text()
    assert "&lt;script&gt;alert(1)" in strict.docs.read_text()
    index = (tmp_path / "docs" / "index.html").read_text()
    assert 'href="taste.html"' in index
    assert 'href="odd_name.html"' in index


def test_without_docs_no_page_is_promised() -> None:
    report = check_group(GROUP, rows_of())
    assert report.docs is None


def test_checking_opens_no_connection(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*args: object) -> None:
        msg = f"a check tried to connect to {args[1:]}"
        raise AssertionError(msg)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert check_group(GROUP, rows_of(), tmp_path).passed


def test_the_suites_conditions_reach_great_expectations() -> None:
    from quality.checks.expectations import expectation_of

    rule = Rule("not_null", ("query",), severity="warn", where=Where("event_type", ("search",)))
    expectation = expectation_of(rule, event_suite())
    assert expectation.configuration.type == "expect_column_values_to_not_be_null"
    assert expectation.configuration.kwargs["row_condition"]
    assert str(expectation.severity.value) == "warning"
