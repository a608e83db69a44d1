"""What profiles and sessions say of attribute values: reckoned once, for as long as a row stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np

from feature_repo.arrays import Floats
from serving.items.item_attributes import Attributes
from serving.items.item_rows import signed_log
from serving.scoring.signal import Leaning, Taste

Row: TypeAlias = Mapping[str, Any]
"""A feature row: feature names to values (`feature_repo/groups/*`)."""
T = TypeVar("T")

KEPT = 10_000
"""Rows of each kind whose numbers are kept: as many as the reader keeps copies of users."""
_NO_NUMBERS, _NO_WEIGHTS = np.zeros(0, np.intp), np.zeros(0)


def taste_of(profile: Row | None, attributes: Attributes, numeric_names: tuple[str, ...]) -> Taste:
    """The taste of a profile among the values and numeric attributes of some items."""
    if profile is None:
        return Taste(False, _NO_NUMBERS, _NO_WEIGHTS, np.full(len(numeric_names), np.nan))
    medians = _medians(profile, numeric_names)
    if not (keys := profile.get("attr_keys")):
        return Taste(False, _NO_NUMBERS, _NO_WEIGHTS, medians)
    values, found = attributes.numbers(keys)
    clicks = np.asarray(profile["attr_clicks"], np.float64)
    expected = np.asarray(profile["attr_expected"], np.float64)
    rate = profile.get("click_rate")
    odds = np.log((clicks + 1.0) / (expected * (1.0 if rate is None else rate) + 1.0))
    return Taste(True, values, odds[found], medians)


def leaning_of(session: Row | None, attributes: Attributes, _: tuple[str, ...] = ()) -> Leaning:
    """What a session leans to among the values of some items."""
    if session is None or not (keys := session.get("attr_keys")):
        return Leaning(False, _NO_NUMBERS, _NO_WEIGHTS)
    values, found = attributes.numbers(keys)
    return Leaning(True, values, np.asarray(session["attr_weights"], np.float64)[found])


def _medians(profile: Row, numeric_names: tuple[str, ...]) -> Floats:
    keys = profile.get("numeric_keys") or ()
    medians = dict(zip(keys, profile["numeric_medians"], strict=True)) if keys else {}
    return signed_log(np.array([medians.get(name, np.nan) for name in numeric_names], np.float64))


class Kept(Generic[T]):
    """A function of a row, remembered by the identity of row and attributes.

    The reader hands out the same row until the store holds another, so a user who pages on, and a segment,
    are reckoned once.
    """

    def __init__(
        self, make: Callable[[Row | None, Attributes, tuple[str, ...]], T], size: int = KEPT
    ) -> None:
        self._make = make
        self._size = size
        self._kept: dict[int, tuple[Row | None, Attributes, T]] = {}

    def __call__(self, row: Row | None, attributes: Attributes, numeric_names: tuple[str, ...]) -> T:
        """What `make` gives, new or kept."""
        held = self._kept.get(id(row))
        # What is kept holds its row, so another one cannot have come to bear the same identity.
        if held is None or held[1] is not attributes:
            if len(self._kept) >= self._size:
                self._kept.clear()
            made = self._make(row, attributes, numeric_names)
            held = self._kept[id(row)] = (row, attributes, made)
        return held[2]


class Tastes:
    """`taste_of` and `leaning_of`, reckoned anew each time."""

    def __init__(self) -> None:
        self.of_profile: Callable[[Row | None, Attributes, tuple[str, ...]], Taste] = taste_of
        self.of_session: Callable[[Row | None, Attributes, tuple[str, ...]], Leaning] = leaning_of


class KeptTastes(Tastes):
    """The same, remembered."""

    def __init__(self) -> None:
        self.of_profile = Kept(taste_of)
        self.of_session = Kept(leaning_of)
