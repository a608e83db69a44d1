"""Runs the flow as a service: one or several workers, one stream per home."""

from __future__ import annotations

import fcntl
import logging
import sys
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path

from bytewax.dataflow import Dataflow

from feature_repo.errors import HeadraceError, SettingsError
from feature_repo.home import Home, keep_private
from feature_repo.settings import Settings, load_settings
from streaming.dataflow.flow_metrics import serve_metrics
from streaming.dataflow.opening import open_stream
from streaming.dataflow.recovery_files import prepare_recovery, set_aside
from streaming.dataflow.stream_errors import RecoveryError
from streaming.dataflow.worker import LOG_FORMAT, quiet_collector, run_worker, stop_on_signals
from streaming.dataflow.workers import run_workers

_log = logging.getLogger(__name__)
PORTS_TRIED = 64
_cluster_lock: list[TextIOWrapper] = []


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
        SettingsError: a metrics port is taken, or another stream runs on this home.
        StreamError: a worker died.
    """
    home = Home(settings.home).ensure()
    with lock(home.stream, fcntl.LOCK_EX):

        def run() -> bool:
            if workers == 1:
                return run_worker(settings, to_end, started)
            return run_workers(settings, workers, to_end, started)

        prepare_recovery(home.stream)
        try:
            whole = run()
        except RecoveryError as error:
            set_aside(home.stream, str(error))
            whole = run()
    if not whole:
        _log.warning("stopped while the online store was away; what it lacks is read again at the next start")


def cluster_flow() -> Dataflow:
    """The flow for Bytewax's own command (``python -m bytewax.run streaming.flow:flow``), ready to run.

    Processes of a cluster share a home: none of them may run beside a `run_stream`. Each serves its metrics
    on the first free port from HEADRACE_STREAM_METRICS_PORT on, and says which.
    """
    keep_private()
    try:
        settings = load_settings()
        logging.basicConfig(level=settings.log_level, format=LOG_FORMAT)
        home = Home(settings.home).ensure()
        _cluster_lock.append(lock(home.stream, fcntl.LOCK_SH))
        stream = open_stream(settings)
        if port := settings.stream_metrics_port:
            serve_metrics(settings.stream_metrics_host, port, tries=PORTS_TRIED)
    except HeadraceError as error:  # Bytewax would show a stack
        sys.exit(f"headrace: {error}")
    stop_on_signals(stream)
    quiet_collector()
    return stream.flow


def lock(folder: Path, kind: int) -> TextIOWrapper:
    """Hold the stream's folder until the file returned is closed: two streams would fight over its state.

    Args:
        kind: ``LOCK_EX`` for a stream, ``LOCK_SH`` for each process of a cluster.

    Raises:
        SettingsError: another stream runs here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = (folder / ".lock").open("a")
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        msg = f"HEADRACE_HOME={folder.parent}: a stream is running here already; stop it first"
        raise SettingsError(msg) from error
    return handle
