"""Runs the flow as a service: recovery partitions, signals, metrics endpoint, one or several workers."""

from __future__ import annotations

import fcntl
import gc
import logging
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from feature_repo.errors import HeadraceError, SettingsError
from feature_repo.home import Home
from feature_repo.settings import Settings
from streaming.flow import open_stream, own_error
from streaming.metrics import serve_metrics

_log = logging.getLogger(__name__)
RECOVERY_PARTITIONS = 4


class StreamError(HeadraceError):
    """The stream cannot run, or a worker of it died; the log holds everything it had not committed."""


def run_stream(
    settings: Settings,
    workers: int = 1,
    started: Callable[[str], None] = lambda metrics: None,
    to_end: bool = False,
) -> None:
    """Run the flow until it is told to stop (SIGTERM, SIGINT), or to the end of the log.

    Args:
        workers: processes; partitions of the log are spread over them. State of any earlier number is taken
            over.
        started: called once with the address of the metrics, or ``""``.
        to_end: stop at the end of the log.

    Raises:
        SettingsError: the metrics port is taken, or another stream runs on this home.
        StreamError: a worker died.
    """
    home = Home(settings.home).ensure()
    with ExitStack() as stack:
        stack.enter_context(_only_one(home.stream))
        prepare_recovery(home.stream)
        if workers == 1:
            _run_worker(settings, to_end, started)
        else:
            _run_workers(settings, workers, to_end, started)


def quiet_collector() -> None:
    """Let Python's garbage collector look at new objects only, and seldom: the stream makes no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


def prepare_recovery(folder: Path) -> Path:
    """Bytewax's recovery partitions below the stream's folder, made at the first start."""
    found = folder / "recovery"
    if not any(found.glob("*.sqlite3")):
        found.mkdir(parents=True, exist_ok=True)
        init_db_dir(found, RECOVERY_PARTITIONS)
    return found


def _run_worker(
    settings: Settings,
    to_end: bool,
    started: Callable[[str], None],
    process: int | None = None,
    addresses: list[str] | None = None,
) -> None:
    stream = open_stream(settings, to_end)
    port = settings.stream_metrics_port
    if port and process:
        port += process
    stop_metrics = serve_metrics(settings.host, port) if port else None
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stream.stop.set())
    started(f"http://{settings.host}:{port}/metrics" if port else "")
    quiet_collector()
    try:
        cli_main(
            stream.flow,
            process_id=process,
            addresses=addresses,
            epoch_interval=timedelta(seconds=settings.snapshot_s),
            recovery_config=RecoveryConfig(Home(settings.home).stream / "recovery"),
        )
    except Exception as error:  # Bytewax wraps what its parts raise
        cause = own_error(error)
        if cause is None:
            raise
        if not stream.stop.is_set():
            raise cause from None
        _log.warning("stopped while the online store was away; what it lacks is read again at the next start")
    finally:
        if stop_metrics is not None:
            stop_metrics()
        stream.close()


def _worker_main(settings: Settings, to_end: bool, process: int, addresses: list[str]) -> None:
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    _run_worker(settings, to_end, lambda metrics: None, process, addresses)


def _run_workers(settings: Settings, workers: int, to_end: bool, started: Callable[[str], None]) -> None:
    context = multiprocessing.get_context("spawn")
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(workers)]
    processes = [
        context.Process(target=_worker_main, args=(settings, to_end, n, addresses), name=f"stream-{n}")
        for n in range(workers)
    ]

    def forward(*_: Any) -> None:
        for process in processes:
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, signal.SIGTERM)

    for process in processes:
        process.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    port = settings.stream_metrics_port
    started(" ".join(f"http://{settings.host}:{port + n}/metrics" for n in range(workers)) if port else "")
    if died := _join(processes):
        msg = f"stream: {', '.join(died)} died; its message is above; start again to go on where it stopped"
        raise StreamError(msg)


def _join(processes: Sequence[BaseProcess]) -> list[str]:
    """Wait for every worker; who died. The others cannot go on without one of them and are ended as well."""
    running = list(processes)
    while running:
        wait([process.sentinel for process in running])
        for process in running:
            process.join(0)
        died = [f"{p.name} (exit code {p.exitcode})" for p in running if p.exitcode]
        running = [process for process in running if process.exitcode is None]
        if died:
            for process in running:
                process.kill()  # as safe as a crash; asked politely it would wait for its peer
                process.join()
            return died
    return []


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Two streams on one home would fight over its state."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            msg = f"HEADRACE_HOME={folder.parent}: a stream is running here already; stop it first"
            raise SettingsError(msg) from error
        yield
