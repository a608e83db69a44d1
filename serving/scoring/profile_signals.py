"""Tastes of profiles and sessions in attribute values, computed once per row and cached."""

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
"""Maximum number of cached rows of each kind; the reader caches as many users."""
_NO_NUMBERS, _NO_WEIGHTS = np.zeros(0, np.intp), np.zeros(0)


def taste_of(profile: Row | None, attributes: Attributes, numeric_names: tuple[str, ...]) -> Taste:
    """Compute the taste of a profile in the catalogue's attribute values and numeric attributes."""
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
    """Compute the weights of a session on the catalogue's attribute values."""
    if session is None or not (keys := session.get("attr_keys")):
        return Leaning(False, _NO_NUMBERS, _NO_WEIGHTS)
    values, found = attributes.numbers(keys)
    return Leaning(True, values, np.asarray(session["attr_weights"], np.float64)[found])


def _medians(profile: Row, numeric_names: tuple[str, ...]) -> Floats:
    keys = profile.get("numeric_keys") or ()
    medians = dict(zip(keys, profile["numeric_medians"], strict=True)) if keys else {}
    return signed_log(np.array([medians.get(name, np.nan) for name in numeric_names], np.float64))


class Kept(Generic[T]):
    """Caches a function of a row by the identity of row and attributes.

    The reader returns the same row object until the store holds another, so the row of a user who views
    several pages, or of a segment, is evaluated once.
    """

    def __init__(
        self, make: Callable[[Row | None, Attributes, tuple[str, ...]], T], size: int = KEPT
    ) -> None:
        self._make = make
        self._size = size
        self._kept: dict[int, tuple[Row | None, Attributes, T]] = {}

    def __call__(self, row: Row | None, attributes: Attributes, numeric_names: tuple[str, ...]) -> T:
        """Return the cached result of `make`, or compute it."""
        held = self._kept.get(id(row))
        # The cache keeps the row alive, so no other row can have the same id.
        if held is None or held[1] is not attributes:
            if len(self._kept) >= self._size:
                self._kept.clear()
            made = self._make(row, attributes, numeric_names)
            held = self._kept[id(row)] = (row, attributes, made)
        return held[2]


class Tastes:
    """`taste_of` and `leaning_of` without a cache."""

    def __init__(self) -> None:
        self.of_profile: Callable[[Row | None, Attributes, tuple[str, ...]], Taste] = taste_of
        self.of_session: Callable[[Row | None, Attributes, tuple[str, ...]], Leaning] = leaning_of


class KeptTastes(Tastes):
    """`taste_of` and `leaning_of` with a cache."""

    def __init__(self) -> None:
        self.of_profile = Kept(taste_of)
        self.of_session = Kept(leaning_of)
