"""Loops over candidates as machine code.

A request of a hundred candidates is some two hundred numpy calls of a microsecond or two each, and next to no
arithmetic: what counts is the number of calls. A loop compiled by numba is one of them (docs/adr/0065).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")
log = logging.getLogger(__name__)


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function of arrays and numbers at its first call; the machine code is kept on disk.

    Division by zero gives inf or nan as in numpy. Indices are not checked: who calls hands in such as are
    within bounds. Where neither the package's folder nor the user's cache can be written (a read-only image),
    each process compiles for itself, which takes some seconds of its warm-up.
    """
    try:
        return cast(Callable[P, R], numba.njit(function, cache=True, error_model="numpy"))
    except RuntimeError as error:  # numba: "cannot cache function: no locator available for file …"
        log.info("%s is compiled in each process anew: %s", function.__name__, error)
        return cast(Callable[P, R], numba.njit(function, error_model="numpy"))
