"""Text of records and files made safe for a terminal."""

from __future__ import annotations

from unicodedata import category

_BIDI = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of what follows: a line shown is not the line stored."""
_UNSAFE = {"Cc", "Cs", "Zl", "Zp"}


def printable(text: str, keep: str = "") -> str:
    """Escape control characters, which a terminal obeys, as Python writes them (``\\x1b``).

    Args:
        keep: control characters that stay, such as line ends.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c in keep or not (c in _BIDI or category(c) in _UNSAFE) else repr(c)[1:-1] for c in text
    )
