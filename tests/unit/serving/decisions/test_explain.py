"""Explanations in words."""

from __future__ import annotations

import pytest

from serving.decisions.explain import Standing, in_words, part_in_words
from serving.scoring.signal_groups import GROUPS
from serving.scoring.signal_matrix import signal_names


def standing(**fields: object) -> Standing:
    values = {"item_id": "i7", "position": 2, "base_position": 2, "score": 0.5, "parts": {}, **fields}
    return Standing(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("position", "base", "words"),
    [
        (2, 2, "Item i7 is at 3, where its base score puts it."),
        (0, 6, "Item i7 is at 1, 6 places up from 7."),
        (3, 2, "Item i7 is at 4, 1 place down from 3."),
    ],
)
def test_it_says_where_the_item_went(position: int, base: int, words: str) -> None:
    assert in_words(standing(position=position, base_position=base)).startswith(words)


def test_the_largest_reasons_come_first_and_small_ones_not_at_all() -> None:
    parts = {
        "log_odds:genre": 0.5,
        "session_affinity:category": 1.25,
        "log_ctr": -0.25,
        "base": 0.1,
        "covisit": 0.001,
        "popularity:short": 0.2,
    }
    words = in_words(standing(parts=parts))
    assert (
        "For it: the category this session looks at (+1.250), the user's taste in genre (+0.500), "
        "its recent popularity (short half-life) (+0.200)." in words
    )
    assert "Against it: its click-through rate (-0.250)." in words
    assert "also touched" not in words


def test_exploration_and_rules_are_named() -> None:
    words = in_words(standing(explored=True, propensity=0.0125, rule="campaign"))
    assert (
        "Its slot explores: the item was drawn for it, not ranked (it had a chance of 1.25% for it)." in words
    )
    assert "The rule 'campaign' placed it." in words
    assert words.endswith("Nothing speaks for or against it.")


def test_every_signal_and_group_has_words() -> None:
    for name in (*signal_names(("genre",), ("price",)), *GROUPS):
        words = part_in_words(name)
        assert words
        assert words != name
        assert "{" not in words


def test_a_part_nobody_knows_is_named_as_it_is() -> None:
    assert part_in_words("moon_phase") == "moon_phase"
