"""Several workers of the flow on one host, each a process: started, told to stop, and ended together."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn

from feature_repo.errors import HeadraceError
from feature_repo.settings import Settings
from streaming.dataflow.stream_errors import PeerLostError, RecoveryError, StreamError
from streaming.dataflow.worker import LOG_FORMAT, run_worker

_log = logging.getLogger(__name__)
FAILED, PEER_LOST, UNUSABLE, STORE_AWAY = 2, 3, 4, 75
"""Exit codes of a worker: it said why; another one is gone; it cannot resume from the recovery files; it
stopped while the online store was away."""


def run_workers(settings: Settings, workers: int, to_end: bool, started: Callable[[str], None]) -> bool:
    """Run workers until they are told to stop, or to the end of the log; arguments as of `run_stream`.

    Returns:
        whether all that was read is in the online store.

    Raises:
        RecoveryError: the recovery files cannot be used.
        StreamError: one of them died.
    """
    context = multiprocessing.get_context("spawn")
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(workers)]
    processes = [
        context.Process(target=_worker_main, args=(settings, to_end, n, addresses), name=f"stream-{n}")
        for n in range(workers)
    ]
    stop = threading.Event()

    def forward(*_: Any) -> None:
        stop.set()
        for process in processes:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: a Ctrl-C reaches the workers through us only
    for process in processes:
        process.start()
    signal.signal(signal.SIGINT, forward)
    if stop.is_set():  # told so while starting them
        forward()
    host, port = settings.stream_metrics_host, settings.stream_metrics_port
    started(" ".join(f"http://{host}:{port + n}/metrics" for n in range(workers)) if port else "")
    died = _join(processes)
    if stop.is_set() and set(died.values()) <= {STORE_AWAY, PEER_LOST, -signal.SIGTERM}:
        return not {STORE_AWAY, PEER_LOST} & set(died.values())
    if UNUSABLE in died.values() and set(died.values()) <= {UNUSABLE, PEER_LOST}:
        msg = "Bytewax could not resume from them; a worker says why above"
        raise RecoveryError(msg)
    if died:
        first = {name: code for name, code in died.items() if code != PEER_LOST} or died
        names = ", ".join(f"{name} (exit code {code})" for name, code in first.items())
        msg = f"stream: {names} died; its message is above; start again to go on where it stopped"
        raise StreamError(msg)
    return True


def _worker_main(settings: Settings, to_end: bool, process: int, addresses: list[str]) -> None:
    logging.basicConfig(level=settings.log_level, format=LOG_FORMAT)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    try:
        whole = run_worker(settings, to_end, lambda metrics: None, process, addresses)
    except PeerLostError as error:
        _log.info("stream-%d: %s", process, error)
        _exit(PEER_LOST)
    except RecoveryError as error:
        _log.warning("stream-%d: %s", process, error)
        _exit(UNUSABLE)
    except HeadraceError as error:
        _log.error("stream-%d: %s", process, error)
        _exit(FAILED)
    if not whole:
        _exit(STORE_AWAY)


def _exit(code: int) -> NoReturn:
    """End at once: threads of a flow that failed may still run, and abort an interpreter that shuts down."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_with_parent() -> None:
    """A worker left alone would go on beside the next stream: it ends at once, as safe as a crash."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(PEER_LOST)


def _join(processes: Sequence[BaseProcess]) -> Mapping[str, int]:
    """Wait for every worker; who died, with its exit code.

    The others cannot go on without one of them and are ended as well.
    """
    running = list(processes)
    while running:
        wait([process.sentinel for process in running])
        # Each is asked once: one that ends between two questions would be in neither answer.
        codes = {process: process.exitcode for process in running}
        died = {process.name: code for process, code in codes.items() if code}
        running = [process for process, code in codes.items() if code is None]
        if died:
            for process in running:
                process.kill()  # as safe as a crash; asked politely it would wait for its peer
                process.join()
            return died
    return {}


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
