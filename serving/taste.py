"""What a profile says of attribute values: reckoned once, used for as long as the profile stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from serving.attributes import Attributes, Floats, Ints
from serving.items import signed_log

Row: TypeAlias = Mapping[str, Any]
"""A feature row: feature names to values (`feature_repo/groups/*`)."""

KEPT = 10_000
"""Tastes kept: as many as the reader keeps copies of users."""


@dataclass(frozen=True, slots=True)
class Taste:
    """A user's or a segment's, in the numbers of a snapshot.

    Attributes:
        values: attribute values (`Attributes.ids`) that the profile knows.
        odds: log((clicks + 1) / (expected · r + 1)) of each: clicked beyond what anyone would; `None` where
            the profile has no attributes at all.
        medians: `signed_log` of the median of what was engaged with, by numeric attribute, nan where unknown;
            `None` where the profile has none.
    """

    values: Ints
    odds: Floats | None
    medians: Floats | None


Tastes: TypeAlias = Callable[[Row, Attributes, tuple[str, ...]], Taste]


def taste_of(profile: Row, attributes: Attributes, numeric_names: tuple[str, ...]) -> Taste:
    """The taste of a profile among the values and numeric attributes of some items."""
    values, odds = np.zeros(0, np.intp), None
    if keys := profile.get("attr_keys"):
        values, found = attributes.numbers(keys)
        clicks = np.asarray(profile["attr_clicks"], np.float64)
        expected = np.asarray(profile["attr_expected"], np.float64)
        rate = profile.get("click_rate")
        odds = np.log((clicks + 1.0) / (expected * (1.0 if rate is None else rate) + 1.0))[found]
    return Taste(values, odds, _medians(profile, numeric_names))


def _medians(profile: Row, numeric_names: tuple[str, ...]) -> Floats | None:
    if not (keys := profile.get("numeric_keys")):
        return None
    medians = dict(zip(keys, profile["numeric_medians"], strict=True))
    return signed_log(np.array([medians.get(name, np.nan) for name in numeric_names], np.float64))


class KeptTastes:
    """`taste_of`, remembered by the identity of profile and attributes.

    The reader hands out the same row until the store holds another, so a user who pages on, and a segment,
    are reckoned once.
    """

    def __init__(self, size: int = KEPT) -> None:
        self._size = size
        self._kept: dict[int, tuple[Row, Attributes, Taste]] = {}

    def __call__(self, profile: Row, attributes: Attributes, numeric_names: tuple[str, ...]) -> Taste:
        """The taste, new or kept."""
        held = self._kept.get(id(profile))
        # What is kept holds its profile, so another one cannot have come to bear the same identity.
        if held is None or held[1] is not attributes:
            if len(self._kept) >= self._size:
                self._kept.clear()
            made = taste_of(profile, attributes, numeric_names)
            held = self._kept[id(profile)] = (profile, attributes, made)
        return held[2]
