"""Compiles loops over candidates to machine code.

With NumPy a request of a hundred candidates takes about two hundred calls of 1 to 2 µs each and hardly any
arithmetic, so the number of calls dominates. A loop compiled by numba is a single call (docs/adr/0065).
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
    """Compile a function of arrays and numbers at its first call, and cache the machine code on disk.

    Division by zero gives inf or nan as in NumPy. Indices are not checked: the caller must pass valid ones.
    If neither the package's folder nor the user's cache is writable (a read-only image), each process
    compiles again during its warm-up, which takes some seconds.
    """
    try:
        return cast(Callable[P, R], numba.njit(function, cache=True, error_model="numpy"))
    except RuntimeError as error:  # numba: "cannot cache function: no locator available for file …"
        log.info("%s is compiled again in each process: %s", function.__name__, error)
        return cast(Callable[P, R], numba.njit(function, error_model="numpy"))
