"""Measures a call in its own process: seconds, peak memory, bytes spilled to disk."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import BenchmarkError, timed

SAMPLE_S = 0.05
_PEAK = "VmHWM:"


@dataclass(frozen=True)
class Cost:
    """The cost of a call. `peak_mib` is the peak of the whole process, including Python and libraries."""

    seconds: float
    peak_mib: float
    spilled_mib: float


def apart(call: Callable[..., None], *args: Any, warm: Sequence[Any] = (), spill: Path | None = None) -> Cost:
    """Run a function (found by name in its module) in a fresh process.

    Args:
        warm: arguments of a warm-up call before the clock starts, for imports and first compilations.
        spill: folder whose largest size during the call is reported.

    Raises:
        BenchmarkError: the process ended with a non-zero exit code.
    """
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    process = context.Process(target=_measured, args=(call, args, warm, answers))
    with _largest(spill) as largest:
        process.start()
        process.join()
    if process.exitcode:
        msg = f"{call.__name__} ended with {process.exitcode}"
        raise BenchmarkError(msg)
    seconds, peak = answers.get()
    return Cost(seconds, peak, largest[0] / 2**20)


def _measured(call: Callable[..., None], args: tuple[Any, ...], warm: Sequence[Any], answers: Any) -> None:
    if warm:
        call(*warm)
    seconds = timed(lambda: call(*args))()
    answers.put((seconds, peak_mib()))


def peak_mib() -> float:
    """Return the peak resident set of this process (MiB), or NaN without ``/proc``.

    Not ``ru_maxrss``, because a process inherits its parent's value through ``exec``.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(_PEAK):
                return int(line.split()[1]) / 1024
    return float("nan")


@contextmanager
def _largest(folder: Path | None) -> Iterator[list[float]]:
    """Tracks the largest size of a folder (bytes), sampled every `SAMPLE_S`."""
    found, stop = [0.0], threading.Event()

    def watch(folder: Path) -> None:
        while not stop.wait(SAMPLE_S):
            found[0] = max(found[0], folder_bytes(folder))

    thread = None if folder is None else threading.Thread(target=watch, args=(folder,))
    if thread is not None:
        thread.start()
    try:
        yield found
    finally:
        stop.set()
        if thread is not None:
            thread.join()


def folder_bytes(folder: Path) -> int:
    """Return the bytes on disk of the files in a folder, ignoring files that disappear meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_blocks * 512
    return total
