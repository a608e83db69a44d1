"""Check pages that need no rewrite: same rules, all of which held, and recent."""

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
    """Return the path of a suite's page."""
    return docs / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', name)}.html"


def mark(suite: Suite, passed: bool) -> str:
    """Return the comment that ends a page on which everything held; otherwise an empty string."""
    rules = f"{suite.name} {suite.exact} {suite.may_lack} {suite.schema} {suite.rules}"
    return _MARK.format(xxhash.xxh3_64_hexdigest(rules.encode())) if passed else ""


def kept_page(
    docs: Path, suite: Suite, longest: timedelta, now: Callable[[], float] = time.time
) -> Path | None:
    """Return the page if it shows that all of these rules held and is recent enough; else `None`.

    Args:
        now: the clock that stamps files.
    """
    path = page_path(docs, suite.name)
    try:
        age, content = now() - path.stat().st_mtime, path.read_bytes()
    except OSError:
        return None
    young = age <= longest.total_seconds()
    return path if young and mark(suite, True).encode() in content[-_TAIL:] else None
