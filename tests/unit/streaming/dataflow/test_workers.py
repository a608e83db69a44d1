"""Waiting for the workers of a stream: who ended how is never missed."""

from __future__ import annotations

import os
from multiprocessing.process import BaseProcess
from typing import cast

import pytest

from streaming.dataflow.workers import _join


class Worker:
    """A process whose exit code becomes known only after it was asked for some times."""

    def __init__(self, name: str, code: int, asked_before: int) -> None:
        self.name, self.killed = name, False
        self._code, self._left = code, asked_before
        self.sentinel, told = os.pipe()
        os.close(told)  # ready at once, as a process closes its end before it can be waited for

    @property
    def exitcode(self) -> int | None:
        self._left -= 1
        return self._code if self._left < 0 else None

    def kill(self) -> None:
        self.killed = True

    def join(self, timeout: float | None = None) -> None:
        pass

    def close(self) -> None:
        os.close(self.sentinel)


@pytest.mark.parametrize("asked_before", range(5))
def test_a_worker_that_dies_between_two_questions_is_told_of(asked_before: int) -> None:
    dying, idle = Worker("stream-0", 2, asked_before), Worker("stream-1", 0, 1000)
    try:
        died = _join([cast("BaseProcess", dying), cast("BaseProcess", idle)])
    finally:
        dying.close()
        idle.close()
    assert died == {"stream-0": 2}
    assert idle.killed
    assert not dying.killed


def test_workers_that_end_in_order_leave_nobody_to_tell_of() -> None:
    workers = [Worker("stream-0", 0, 3), Worker("stream-1", 0, 6)]
    try:
        assert _join([cast("BaseProcess", worker) for worker in workers]) == {}
    finally:
        for worker in workers:
            worker.close()
