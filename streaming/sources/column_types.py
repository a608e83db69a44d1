"""Which columns of a text table are numbers or truth values: those whose every cell reads back the same.

Text has no types, so the whole column has to show one. ``02138`` does not read back (the number is 2138), and
so a column with it is text; nor do ``1_000``, ``12E5``, ``Nan`` or 20 digits. Different texts of a column
must stay different: a column with both ``1.5`` and ``1.50``, or ``1`` and ``1.0``, is text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from feature_repo.contract.records import EXACT
from streaming.sources.plain import PlainRow

_PLAIN = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.([0-9]+))?")
_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
_LONGEST = 40
_TRUTHS = {
    "true": "lower",
    "false": "lower",
    "True": "title",
    "False": "title",
    "TRUE": "upper",
    "FALSE": "upper",
}


def column_types(
    rows: Iterable[PlainRow], columns: Iterable[str], declared: Iterable[str], *, comma: bool
) -> dict[str, str]:
    """The types of the columns that are not text: ``number``, ``number,`` (decimal comma) or ``boolean``.

    Args:
        rows: all rows of the file; those that cannot be read do not count.
        columns: those to look at.
        declared: those that are numbers by declaration; only their decimal comma is in question.
        comma: whether a decimal comma is possible, since the cells are separated by something else.
    """
    left: dict[str, set[str] | None] = dict.fromkeys(columns)
    dotted = set(declared) if comma else set()
    found: dict[str, str] = {}
    for row in rows:
        if row.error is not None or isinstance(row.fields, bytes):
            continue
        for name in [name for name in dotted if _COMMA.fullmatch(row.fields[name])]:
            found[name] = "number,"
            dotted.remove(name)
        for name, seen in list(left.items()):
            if (text := row.fields[name]) == "":
                continue
            forms = _forms(text, comma=comma)
            if seen is not None:
                forms &= seen
            if forms:
                left[name] = forms
            else:
                del left[name]
        if not left and not dotted:
            break
    return found | {name: _type(forms) for name, forms in left.items() if forms}


def typed_cell(text: str, kind: str | None) -> Any:
    """A cell as the type of its column; one that does not fit stays text."""
    if kind == "boolean":
        return text.lower() == "true" if text in _TRUTHS else text
    if kind is None:
        return text
    dotted = text.replace(",", ".") if kind == "number," else text
    try:
        return int(dotted) if dotted.lstrip("-").isdigit() else float(dotted)
    except ValueError:
        return text


def _type(forms: set[str]) -> str:
    if not forms.isdisjoint(_TRUTHS.values()):
        return "boolean"
    return "number," if all(form.startswith(",") for form in forms) else "number"


def _forms(text: str, *, comma: bool) -> set[str]:
    """The forms a cell may be written in; of one form, no two texts are the same number."""
    if text in _TRUTHS:
        return {_TRUTHS[text]}
    if len(text) > _LONGEST:
        return set()
    forms = _number_forms(text)
    if comma and "." not in text and "," in text:
        forms |= {f",{form}" for form in _number_forms(text.replace(",", "."))}
    elif comma and forms and "." not in text:
        forms |= {f",{form}" for form in forms}
    return forms


def _number_forms(text: str) -> set[str]:
    match = _PLAIN.fullmatch(text)
    if match is None:
        return {"repr"} if _is_repr(text) else set()
    if text.startswith("-0") and float(text) == 0:
        return set()
    decimals = match.group(1)
    if decimals is None:
        return {"short"} if abs(int(text)) <= EXACT else set()
    if Decimal(repr(float(text))) != Decimal(text):
        return set()
    forms = {f"fixed{len(decimals)}"}
    if not decimals.endswith("0"):
        forms.add("short")
    return forms | ({"repr"} if repr(float(text)) == text else set())


def _is_repr(text: str) -> bool:
    """Whether it is how Python, pandas and NumPy write a float, such as ``1e-05``."""
    try:
        value = float(text)
    except ValueError:
        return False
    return math.isfinite(value) and repr(value) == text
