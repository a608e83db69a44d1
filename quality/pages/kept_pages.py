"""Pages of checks that may stay as they are: of the same rules, all of which held, and not old."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import xxhash

from quality.checks.suites import Suite

_MARK = "<!-- all held: {} -->"
_TAIL = 200


def page_path(docs: Path, name: str) -> Path:
    """The page of a suite."""
    return docs / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', name)}.html"


def mark(suite: Suite, passed: bool) -> str:
    """What a page ends with when everything held; empty otherwise."""
    rules = f"{suite.name} {suite.exact} {suite.may_lack} {suite.schema} {suite.rules}"
    return _MARK.format(xxhash.xxh3_64_hexdigest(rules.encode())) if passed else ""


def kept_page(
    docs: Path, suite: Suite, longest: timedelta, now: Callable[[], float] = time.time
) -> Path | None:
    """The page, if it says of these rules that all held, and was written within a time; else `None`.

    Args:
        now: of the clock that files are stamped by.
    """
    path = page_path(docs, suite.name)
    try:
        age, content = now() - path.stat().st_mtime, path.read_bytes()
    except OSError:
        return None
    young = age <= longest.total_seconds()
    return path if young and mark(suite, True).encode() in content[-_TAIL:] else None
