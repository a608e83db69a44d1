"""Text of records on a terminal: nothing in it is obeyed."""

from __future__ import annotations

from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("Schuhe für Größe 42, 靴 👟", "Schuhe für Größe 42, 靴 👟"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("a\rb\nc\td", "a\\rb\\nc\\td"),
        ("\x9b31m", "\\x9b31m"),
        ("abc\u202edef\u2066", "abc\\u202edef\\u2066"),
        ("half \ud800", "half \\ud800"),
        ("line\u2028end", "line\\u2028end"),
        ("👩\u200d💻 non\u00a0break", "👩\u200d💻 non\u00a0break"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters()), st.sampled_from(["", "\n", "\n\t"]))
def test_no_control_character_is_left(text: str, keep: str) -> None:
    shown = printable(text, keep)
    assert {c for c in shown if category(c) in {"Cc", "Cs"}} <= set(keep)
    assert shown.encode().decode() == shown, "can be printed"
    if text.isprintable():
        assert shown == text
