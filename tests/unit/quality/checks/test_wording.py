from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from quality.checks.measure import Measured, Measurement
from quality.checks.suites import ANY_VALUE, Rule, Suite, Where
from quality.checks.wording import bounds_text, observed_text, wanted_text

SUITE = Suite("s", pa.schema([("a", pa.int64()), ("b", pa.string())]), ())
DAY = datetime(2024, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (Rule("row_count_between", minimum=1000), "≥ 1,000 rows"),
        (Rule("row_count_between", minimum=1, maximum=5), "1 … 5 rows"),
        (Rule("row_count_between"), "any rows"),
        (Rule("not_null", ("a",)), "no nulls"),
        (Rule("not_null", ("a",), mostly=0.9), "a share of nulls of at most 0.1"),
        (Rule("not_null", ("a",), mostly=ANY_VALUE), "a value in at least one row"),
        (Rule("between", ("a",), maximum=0.5), "values ≤ 0.5"),
        (Rule("between", ("a",), minimum=DAY), "values ≥ 2024-06-01T00:00:00+00:00"),
        (Rule("between", ("a",), minimum=0, mostly=0.95), "values ≥ 0 in at least 0.95 of the rows"),
        (Rule("in_set", ("b",), values=("x", "y")), "one of x, y"),
        (Rule("length_between", ("b",), minimum=1, maximum=256), "a length 1 … 256"),
        (Rule("unique", ("a",)), "each value once"),
        (Rule("finite", ("a",)), "finite numbers"),
        (Rule("same_length", ("a", "b")), "lists of equal length in each row"),
        (Rule("not_null", ("a",), where=Where("b", ("x",))), "no nulls where b is x"),
    ],
)
def test_what_is_wanted_in_words(rule: Rule, text: str) -> None:
    assert bounds_text(rule) == text
    assert wanted_text(rule, SUITE) == text


def test_columns_are_wanted_exactly_or_at_least() -> None:
    loose = Suite("s", SUITE.schema, (), exact=False)
    assert wanted_text(Rule("columns"), SUITE) == "exactly the 2 columns declared"
    assert wanted_text(Rule("columns"), loose) == "the 2 columns declared"


@pytest.mark.parametrize(
    ("rule", "measured", "text"),
    [
        (Rule("row_count_between"), Measured(1234), "1,234 rows"),
        (Rule("not_null", ("a",)), Measured(10, 3, 3), "3 of 10 rows null (0.3)"),
        (Rule("between", ("a",)), Measured(10, 2, 0), "0 of 8 rows outside"),
        (Rule("between", ("a",)), Measured(10, 2, 4, (1, 9)), "4 of 8 rows outside (0.5), e.g. 1, 9"),
        (
            Rule("between", ("a",)),
            Measured(2, 0, 1, (DAY,)),
            "1 of 2 rows outside (0.5), e.g. 2024-06-01T00:00:00+00:00",
        ),
        (
            Rule("in_set", ("b",)),
            Measured(1, 0, 1, ("x" * 99,)),
            f"1 of 1 rows not known (1), e.g. '{'x' * 58}…",
        ),
        (Rule("finite", ("a",)), Measured(5, fault="column a is absent"), "column a is absent"),
        (Rule("unique", ("a",)), Measured(0), "0 of 0 rows repeating another's value"),
    ],
)
def test_what_was_observed_in_words(rule: Rule, measured: Measured, text: str) -> None:
    assert observed_text(rule, measured, SUITE, Measurement(measured.rows, (), ())) == text


@pytest.mark.parametrize(
    ("found", "exact", "text"),
    [
        (("a int64", "b string"), True, "2 columns"),
        (("a int64",), True, "missing b string"),
        (("a double", "b string"), True, "missing a int64; found a double"),
        (("a int64", "b string", "c bool"), True, "found c bool"),
        (("a int64", "b string", "c bool"), False, "3 columns"),
    ],
)
def test_columns_observed_are_named_where_they_differ(found: tuple[str, ...], exact: bool, text: str) -> None:
    suite = Suite("s", SUITE.schema, (), exact)
    assert observed_text(Rule("columns"), Measured(0), suite, Measurement(0, found, ())) == text
