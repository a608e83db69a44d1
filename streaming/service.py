"""Runs the flow as a service: recovery partitions, signals, metrics endpoint, one or several workers."""

from __future__ import annotations

import atexit
import fcntl
import gc
import logging
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from io import TextIOWrapper
from pathlib import Path

from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from feature_repo.errors import HeadraceError, SettingsError
from feature_repo.home import Home, keep_private
from feature_repo.settings import Settings, load_settings
from streaming.aside import native_output_to
from streaming.flow import OpenStream, open_stream, own_error
from streaming.metrics import serve_metrics

_log = logging.getLogger(__name__)
RECOVERY_PARTITIONS = 4
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
PORTS_TRIED = 64
_cluster_lock: list[TextIOWrapper] = []


class StreamError(HeadraceError):
    """The stream cannot run, or a worker of it died; the log holds everything it had not committed."""


class PeerLostError(StreamError):
    """A worker ended because another one did."""


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
    from streaming.workers import run_workers  # noqa: PLC0415 - it runs what is below

    home = Home(settings.home).ensure()
    with lock(home.stream, fcntl.LOCK_EX):
        prepare_recovery(home.stream)
        if workers == 1:
            whole = run_worker(settings, to_end, started)
        else:
            whole = run_workers(settings, workers, to_end, started)
    if not whole:
        _log.warning("stopped while the online store was away; what it lacks is read again at the next start")


def quiet_collector() -> None:
    """Let Python's garbage collector look at new objects only, and seldom: the stream makes no cycles."""
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # what stays frozen is never freed, which DuckDB reports as a page of leaks
    gc.set_threshold(100_000, 20, 50)


def prepare_recovery(folder: Path) -> Path:
    """Bytewax's recovery partitions below the stream's folder, made at the first start."""
    found = folder / "recovery"
    if not any(found.glob("*.sqlite3")):
        found.mkdir(parents=True, exist_ok=True)
        init_db_dir(found, RECOVERY_PARTITIONS)
    return found


def run_worker(
    settings: Settings,
    to_end: bool,
    started: Callable[[str], None],
    process: int | None = None,
    addresses: list[str] | None = None,
) -> bool:
    """Run one worker in this process.

    Args:
        process, addresses: its number among these workers.

    Returns:
        whether all that was read is in the online store; false when it was told to stop while that was away.

    Raises:
        HeadraceError: what made it end.
        PeerLostError: another worker is gone.
    """
    home = Home(settings.home)
    with ExitStack() as stack:
        stream = open_stream(settings, to_end)
        stack.callback(stream.close)
        port = settings.stream_metrics_port and settings.stream_metrics_port + (process or 0)
        if port:
            stack.callback(serve_metrics(settings.host, port))
        stop_on_signals(stream)
        started(f"http://{settings.host}:{port}/metrics" if port else "")
        quiet_collector()
        said = home.stream / f"bytewax-{process or 0}.log"
        try:
            with native_output_to(said):
                cli_main(
                    stream.flow,
                    process_id=process,
                    addresses=addresses,
                    epoch_interval=timedelta(seconds=settings.snapshot_s),
                    recovery_config=RecoveryConfig(home.stream / "recovery"),
                )
        except BaseException as error:  # a panic of Bytewax is no `Exception`
            cause = own_error(error) or next(iter(stream.failures), None)
            if stream.stop.is_set():
                _log.debug("could not end in order", exc_info=error)
                return False
            if cause is not None:
                raise cause from None
            if addresses is not None and not isinstance(error, Exception):
                msg = f"another worker is gone; what Bytewax says of it is in {said}"
                raise PeerLostError(msg) from error
            _log.error("the flow failed; what Bytewax says of it is in %s", said)
            raise
    return True


def stop_on_signals(stream: OpenStream) -> None:
    """Let SIGTERM and SIGINT end the input of the flow, so that all it has read is written and committed."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stream.stop.set())


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
            serve_metrics(settings.host, port, tries=PORTS_TRIED)
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
