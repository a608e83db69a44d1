"""Profile of a sample's columns: how full and how distinct they are, and which are times or numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from typing import Any

from feature_repo.errors import ContractError
from streaming.mapping.paths import find, inner
from streaming.mapping.times import to_time
from streaming.mapping.values import as_text, is_empty

DEEPEST, MOST_COLUMNS, MOST_TIMES = 4, 300, 500
_MOST, _MOST_TIMES = 0.95, 0.8
_EPOCHS = {
    "epoch_s": (1e8, 4e9),
    "epoch_ms": (1e11, 4e12),
    "epoch_us": (1e14, 4e15),
    "epoch_ns": (1e17, 4e18),
}
PATTERNS = (
    "iso",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y",
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M",
    "%m/%d/%Y %I:%M:%S %p",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d",
    "%a, %d %b %Y %H:%M:%S %Z",
    "%a %b %d %H:%M:%S %z %Y",
    "%d/%b/%Y:%H:%M:%S %z",
    "%b %d, %Y %H:%M:%S",
)
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_COMMA = re.compile(r"[+-]?\d+,\d{1,2}")


@dataclass
class Column:
    """A column, or a path inside the rows.

    Attributes:
        path: path as written in a mapping.
        values: count of each text.
        samples: some raw values.
        filled: number of rows with a value.
        lists: number of rows with a list.
    """

    path: str
    values: Counter[str] = field(default_factory=Counter)
    samples: list[Any] = field(default_factory=list)
    filled: int = 0
    lists: int = 0

    def add(self, value: Any) -> None:
        """Count one value."""
        self.filled += 1
        self.lists += isinstance(value, list)
        self.values[as_text(value)[:200]] += 1
        if len(self.samples) < MOST_TIMES:
            self.samples.append(value)

    @property
    def is_unique(self) -> bool:
        """Whether no value repeats."""
        return len(self.values) == self.filled

    @cached_property
    def is_number(self) -> bool:
        """Whether nearly all values are numbers."""
        return self._share(_NUMBER) > _MOST

    @cached_property
    def has_comma(self) -> bool:
        """Whether the values are numbers with a decimal comma."""
        return not self.is_number and self._share(_COMMA) > 0 and self._share(_COMMA, _NUMBER) > _MOST

    def _share(self, *patterns: re.Pattern[str]) -> float:
        texts = [as_text(v) for v in self.samples]
        return sum(any(p.fullmatch(t) for p in patterns) for t in texts) / max(len(texts), 1)

    @cached_property
    def time(self) -> tuple[str, bool, str | None] | None:
        """Time format, whether the zone is missing, and another format that fits; `None` if not times."""
        if not self.samples:
            return None
        if all(isinstance(v, date) for v in self.samples):
            naive = any(not isinstance(v, datetime) or v.tzinfo is None for v in self.samples)
            return "iso", naive, None
        if self.is_number:
            numbers = [float(as_text(v)) for v in self.samples if _NUMBER.fullmatch(as_text(v))]
            for form, (low, high) in _EPOCHS.items():
                if all(low <= n < high for n in numbers):
                    return form, False, None
            return None
        texts = [v for v in self.samples if isinstance(v, str)]
        shares = {form: _fit(texts, form) for form in PATTERNS} if texts else {}
        fits = [form for form, share in shares.items() if share > _MOST_TIMES]
        if not fits and shares:
            # A few bad cells do not change the column's type; only their rows go to quarantine.
            best = max(shares, key=lambda form: shares[form])
            fits = [best] if shares[best] * len(texts) > len(self.samples) / 2 else []
        return (fits[0], _lacks_zone(texts, fits[0]), fits[1] if len(fits) > 1 else None) if fits else None


@dataclass(frozen=True)
class Profile:
    """A sample of rows and a profile of its columns.

    Attributes:
        rows: number of rows.
        columns: columns by path.
        lists: paths of lists of objects, with their number of elements.
    """

    rows: int
    columns: Mapping[str, Column]
    lists: Mapping[str, int]


def profile(rows: Iterable[Mapping[str, Any]]) -> Profile:
    """Profile rows."""
    columns: dict[str, Column] = {}
    lists: Counter[str] = Counter()
    count = 0
    for row in rows:
        count += 1
        for path, value in _places(row, "", DEEPEST, lists):
            if path in columns or len(columns) < MOST_COLUMNS:
                columns.setdefault(path, Column(path)).add(value)
    return Profile(count, columns, lists)


def _places(
    row: Mapping[str, Any], before: str, depth: int, lists: Counter[str]
) -> Iterator[tuple[str, Any]]:
    for name, cell in row.items():
        path = f"{before}{name}"
        value = inner(cell)
        if isinstance(value, Mapping) and depth:
            typed = find({"v": value}, "v")
            if typed is not value:
                yield from [] if is_empty(typed) else [(path, typed)]
                continue
            yield from _places(value, f"{path}.", depth - 1, lists)
        elif isinstance(value, list) and value and all(isinstance(e, Mapping) for e in value) and depth:
            yield from _elements(path, value, depth, lists)
        elif not is_empty(found := find({"v": value}, "v")):
            yield path, cell if isinstance(cell, str) and not isinstance(value, list) else found


def _elements(path: str, value: list[Any], depth: int, lists: Counter[str]) -> Iterator[tuple[str, Any]]:
    if all(element.keys() == {"key", "value"} for element in value):
        yield from _places({str(e["key"]): e["value"] for e in value}, f"{path}.", depth - 1, lists)
        return
    lists[path] += len(value)
    for element in value:
        yield from _places(element, f"{path}.", depth - 1, lists)


def _fit(texts: list[str], form: str) -> float:
    # An integer passes as an epoch in every format, which would turn ids or sizes into times.
    return sum(isinstance(_parsed(text, form), datetime) for text in texts) / len(texts)


def _lacks_zone(texts: list[str], form: str) -> bool:
    for text in texts:
        try:
            to_time(text, form, None, "event_time")
        except ContractError:
            if _parsed(text, form) is not None:
                return True
    return False


def _parsed(text: str, form: str) -> Any:
    try:
        return to_time(text, form, "UTC", "event_time")
    except ContractError:
        return None
