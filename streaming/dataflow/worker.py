"""One worker of the flow: runs it in this process and says why it ended."""

from __future__ import annotations

import atexit
import gc
import logging
import signal
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from bytewax.recovery import (
    InconsistentPartitionsError,
    MissingPartitionsError,
    NoPartitionsError,
    RecoveryConfig,
)
from bytewax.run import cli_main

from feature_repo.errors import HeadraceError
from feature_repo.home import Home
from feature_repo.settings import Settings
from streaming.dataflow.flow_metrics import serve_metrics
from streaming.dataflow.native_output import native_output_to
from streaming.dataflow.opening import OpenStream, open_stream
from streaming.dataflow.stream_errors import PeerLostError, RecoveryError, StreamError, own_error

_log = logging.getLogger(__name__)
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
PROBE_BYTES = 128 << 10
_NO_ROOM = (
    "database or disk is full",
    "No space left on device",
    "attempt to write a readonly database",
    "disk I/O error",
    "unable to open database file",
)
_UNUSABLE = (InconsistentPartitionsError, MissingPartitionsError, NoPartitionsError)


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
