"""Runs the flow as a service: recovery partitions, signals, metrics endpoint, one or several workers."""

from __future__ import annotations

import atexit
import fcntl
import gc
import logging
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from io import TextIOWrapper
from pathlib import Path

from bytewax.dataflow import Dataflow
from bytewax.recovery import (
    InconsistentPartitionsError,
    MissingPartitionsError,
    NoPartitionsError,
    RecoveryConfig,
)
from bytewax.run import cli_main

from feature_repo.errors import HeadraceError, SettingsError
from feature_repo.home import Home, keep_private
from feature_repo.settings import Settings, load_settings
from streaming.dataflow.flow_metrics import serve_metrics
from streaming.dataflow.native_output import native_output_to
from streaming.dataflow.recovery_files import prepare_recovery, set_aside
from streaming.flow import OpenStream, open_stream, own_error

_log = logging.getLogger(__name__)
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
PORTS_TRIED = 64
PROBE_BYTES = 128 << 10
_NO_ROOM = (
    "database or disk is full",
    "No space left on device",
    "attempt to write a readonly database",
    "disk I/O error",
    "unable to open database file",
)
_cluster_lock: list[TextIOWrapper] = []


class StreamError(HeadraceError):
    """The stream cannot run, or a worker of it died; the log holds everything it had not committed."""


class PeerLostError(StreamError):
    """A worker ended because another one did."""


class RecoveryError(StreamError):
    """Bytewax could not resume from its recovery files."""


_UNUSABLE = (InconsistentPartitionsError, MissingPartitionsError, NoPartitionsError)


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
    from streaming.dataflow.workers import run_workers  # noqa: PLC0415 - it runs what is below

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


def quiet_collector() -> None:
    """Let Python's garbage collector look at new objects only, and seldom: the stream makes no cycles."""
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # what stays frozen is never freed, which DuckDB reports as a page of leaks
    gc.set_threshold(100_000, 20, 50)


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
        RecoveryError: it could not resume from the recovery files.
    """
    home = Home(settings.home)
    with ExitStack() as stack:
        stream = open_stream(settings, to_end)
        stack.callback(stream.close)
        port = settings.stream_metrics_port and settings.stream_metrics_port + (process or 0)
        if port:
            stack.callback(serve_metrics(settings.stream_metrics_host, port))
        stop_on_signals(stream)
        started(f"http://{settings.stream_metrics_host}:{port}/metrics" if port else "")
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
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of Bytewax is no `Exception`
            if stream.stop.is_set():
                _log.debug("could not end in order", exc_info=error)
                return False
            raise _cause(error, stream, said, alone=addresses is None) from error
    return True


def _cause(error: BaseException, stream: OpenStream, said: Path, alone: bool) -> HeadraceError:
    """Why the flow ended, in one line; Bytewax's own account of it is in a file."""
    if (ours := own_error(error) or next(iter(stream.failures), None)) is not None:
        return ours
    panicked = not isinstance(error, Exception)
    if isinstance(error, _UNUSABLE):
        return RecoveryError(_first_line(error))
    if (full := _no_room(said, str(error))) is not None:
        return StreamError(
            f"{said.parent}: Bytewax cannot write its recovery files ({full}); free space or make the folder "
            "writable, then start again: the stream goes on where it stopped"
        )
    if panicked and not stream.begun.is_set():
        return RecoveryError(f"Bytewax failed while it resumed; see {said}")
    if panicked and not alone:
        return PeerLostError(f"another worker is gone; what Bytewax says of it is in {said}")
    return StreamError(
        f"the flow failed ({type(error).__name__}: {_first_line(error)}); what Bytewax says of it is in "
        f"{said}; start again to go on where it stopped"
    )


def _no_room(said: Path, told: str) -> str | None:
    """Why the disk takes no more, by Bytewax's account or as a write of ours finds it; `None` if it does."""
    try:
        text = told + said.read_text(errors="replace")
        if (found := next((reason for reason in _NO_ROOM if reason in text), None)) is not None:
            return found
        with tempfile.NamedTemporaryFile(dir=said.parent) as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")


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
