"""A file format: what it reads, in a sentence, and how to open it."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass

from streaming.sources.source import Source


@dataclass(frozen=True)
class Format:
    """One format. Its name is the name of its file.

    Attributes:
        sentence: what it reads, for people.
        open: makes the reader, given the event types that the contract knows.
    """

    sentence: str
    open: Callable[[Container[str]], Source]
