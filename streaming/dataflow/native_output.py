"""Keeps what native code writes to the terminal apart from what Headrace says."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType


@contextmanager
def native_output_to(path: Path) -> Iterator[None]:
    """Send file descriptors 1 and 2 to a file, and `sys.stderr` and its log handlers where 2 went before.

    An exception that native code prints goes to the file too: of a worker whose peer died it is a panic.

    Bytewax announces each error of a flow as a panic with a page of stack before Python learns of it. Whoever
    reads the terminal is to find the one line that says what is wrong; the rest waits in the file.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    output, errors, was = os.dup(1), os.dup(2), sys.stderr
    ours = os.fdopen(errors, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    moved = [h for h in logging.getLogger().handlers if getattr(h, "stream", None) is was]
    _point(moved, ours)
    sys.stderr = ours
    hook, sys.excepthook = sys.excepthook, _print_natively
    try:
        yield
    finally:
        sys.stderr, sys.excepthook = was, hook
        _point(moved, was)
        sys.stdout.flush()
        ours.flush()
        os.dup2(output, 1)
        os.dup2(errors, 2)
        os.close(output)
        ours.close()


def _print_natively(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an exception to file descriptor 2, wherever that goes."""
    os.write(2, "".join(traceback.format_exception(kind, error, trace)).encode(errors="backslashreplace"))


def _point(handlers: list[logging.Handler], stream: object) -> None:
    for handler in handlers:
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(stream)
