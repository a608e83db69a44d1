"""Runs whose process has died and which would block the queue's only slot forever."""

from __future__ import annotations

import fcntl
import json
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster._core.storage.tags import GRPC_INFO_TAG

from feature_repo.lock import locked

LOCK_TAG = "headrace/lock"
"""Tag of a run executed in this process: the path of a file that stays locked until the process ends."""
_RUNNING = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
_CONNECT_S = 1.0


@contextmanager
def held(folder: Path) -> Iterator[dict[str, str]]:
    """Yield tags for runs of this process; they are alive until the context or the process ends."""
    path = folder.resolve() / "running" / f"{uuid.uuid4().hex}.lock"
    with locked(path):
        try:
            yield {LOCK_TAG: str(path)}
        finally:
            path.unlink(missing_ok=True)


def end_orphans(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs as failed if their process has died; return their ids.

    A launched run is a child of the code server that started it and ends with it. Dagster's own monitoring
    does not query its default launcher, so after everything was killed the run would still count as running.
    """
    gone = [run for run in instance.get_runs(_RUNNING) if not _alive(run)]
    for run in gone:
        instance.report_run_failed(run, "The process of this run died or was killed.")
    return [run.run_id for run in gone]


def _alive(run: dg.DagsterRun) -> bool:
    if (lock := run.tags.get(LOCK_TAG)) is not None:
        return _is_locked(Path(lock))
    server = run.tags.get(GRPC_INFO_TAG)
    return server is None or _answers(json.loads(server))


def _is_locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    path.unlink(missing_ok=True)
    return False


def _answers(server: dict[str, object]) -> bool:
    path, port = server.get("socket"), server.get("port")
    try:
        if isinstance(path, str):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(_CONNECT_S)
                client.connect(path)
        elif isinstance(port, int):
            host = str(server.get("host") or "127.0.0.1")
            socket.create_connection((host, port), _CONNECT_S).close()
    except OSError:
        return False
    return True
