"""Which columns of a text table are numbers: those whose every cell reads back the same."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.errors import ContractError
from streaming.sources.column_types import column_types, typed_cell
from streaming.sources.plain import PlainRow


def type_of(cells: Sequence[str], *, comma: bool = False) -> str:
    rows = [PlainRow({"c": cell}, n) for n, cell in enumerate(cells)]
    return column_types(rows, ["c"], [], comma=comma).get("c", "text")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["240", "", "7"], "number"),
        (["1.50", "2.00", "10.25"], "number"),
        (["1.5", "2", "10.25"], "number"),
        (["240.0", "1.5", "1e-05"], "number"),
        (["-1", "0", "9007199254740992"], "number"),
        (["true", "false"], "boolean"),
        (["True", "False"], "boolean"),
        (["TRUE"], "boolean"),
        (["", ""], "text"),
        (["02138", "10001"], "text"),
        (["01", "1"], "text"),
        (["1.5", "1.50"], "text"),
        (["1", "1.0"], "text"),
        (["1.10", "1.9"], "text"),
        (["1_000"], "text"),
        (["12E5"], "text"),
        (["1e5"], "text"),
        (["Nan"], "text"),
        (["nan"], "text"),
        (["Infinity"], "text"),
        (["inf"], "text"),
        (["-0"], "text"),
        (["+1"], "text"),
        ([" 1"], "text"),
        (["1,5"], "text"),
        (["١٢"], "text"),
        (["9" * 5000], "text"),
        (["12345678901234567890"], "text"),
        (["0.12345678901234567890"], "text"),
        (["true", "1"], "text"),
        (["true", "True"], "text"),
        (["1", "x"], "text"),
    ],
)
def test_a_column_is_a_number_where_every_cell_reads_back(cells: list[str], expected: str) -> None:
    assert type_of(cells) == expected
    assert type_of(list(reversed(cells))) == expected


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1,5", "2"], "number,"),
        (["1,50", "2,00"], "number,"),
        (["1.5", "2"], "number"),
        (["1", "2"], "number"),
        (["1.5", "1,5"], "text"),
        (["1.000,50"], "text"),
    ],
)
def test_a_decimal_comma_is_read_where_commas_do_not_part_cells(cells: list[str], expected: str) -> None:
    assert type_of(cells, comma=True) == expected


@given(
    st.lists(
        st.floats(allow_nan=False, allow_infinity=False).map(repr)
        | st.decimals(allow_nan=False, allow_infinity=False, places=2).map(str)
        | st.integers().map(str)
        | st.text(st.sampled_from("0123456789.-eE_,"), max_size=6),
        max_size=5,
    ),
    st.booleans(),
)
def test_no_two_texts_of_a_column_become_one_number(cells: list[str], comma: bool) -> None:
    found = type_of(cells, comma=comma)
    if not found.startswith("number"):
        return
    numbers = {cell: typed_cell(cell, found) for cell in cells if cell}
    assert len(set(numbers.values())) == len(numbers)
    for cell, number in numbers.items():
        assert Decimal(repr(number)) == Decimal(cell.replace(",", "."))


def test_rows_that_cannot_be_read_do_not_count() -> None:
    rows = [PlainRow({"c": "x"}, 1, None, ContractError("bad_csv_row", "", "")), PlainRow({"c": "1"}, 2)]
    assert column_types(rows, ["c"], [], comma=False) == {"c": "number"}


def test_a_declared_number_has_a_decimal_comma_where_one_cell_shows_it() -> None:
    rows = [PlainRow({"p": "1"}, 1), PlainRow({"p": "1.000"}, 2), PlainRow({"p": "2,50"}, 3)]
    assert column_types(rows, [], ["p"], comma=True) == {"p": "number,"}
    assert column_types(rows, [], ["p"], comma=False) == {}
