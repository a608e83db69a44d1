"""Runs the application under uvicorn. It binds the address first, so a port in use is one clear error."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import Callable
from typing import Any, cast

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from feature_repo.errors import SettingsError
from feature_repo.home import Home
from feature_repo.settings import Settings
from serving.api.api_keys import Keys
from serving.app import create_app
from serving.edge.connections import Edge
from serving.edge.limits import limits_of, raise_descriptors
from serving.monitoring.metrics import MULTIPROCESS

BACKLOG = 512
GRACE_S = 10
"""How long in-flight requests may take after a shutdown was requested."""
HEALTH_S = 30
"""How long a worker may leave its supervisor unanswered before it is restarted; busy machines need slack."""


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket.

    Args:
        port: 0 lets the system choose.

    Raises:
        SettingsError: the address is in use, forbidden, or does not belong to this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.socket(family, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((host, port))
        server.listen(BACKLOG)
    except OSError as error:
        server.close()
        msg = (
            f"HEADRACE_HOST={host} HEADRACE_PORT={port}: cannot listen ({error.strerror}); "
            "stop what uses the port, or set HEADRACE_PORT to another (0: any free one)"
        )
        raise SettingsError(msg) from error
    server.set_inheritable(True)
    return server


def address_of(server: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = server.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(settings: Settings, announce: Callable[[str], None], workers: int = 1) -> None:
    """Serve until SIGINT or SIGTERM, then finish the requests in flight.

    Args:
        announce: called with the address once the socket listens.
        workers: number of processes; they share the socket, the flags and their metrics.
    """
    Keys.of(settings)
    app = create_app(settings) if workers == 1 else None
    server = listen(settings.host, settings.port)
    announce(address_of(server))
    # uvicorn re-raises the signal after an orderly shutdown, which would make us exit as if we had failed.
    held = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if app is not None:
            uvicorn.Server(config_of(app, settings)).run(sockets=[server])
        else:
            _supervise(settings, server, workers)
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)


def _supervise(settings: Settings, server: socket.socket, workers: int) -> None:
    """Run the workers and restart any that dies. Each reads its settings from the environment."""
    folder = Home(settings.home).ensure().metrics
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ[MULTIPROCESS] = str(folder)
    config = config_of("serving.app:app_of_environment", settings, factory=True, workers=workers)
    Multiprocess(config, sockets=[server]).run()


def config_of(app: FastAPI | str, settings: Settings, **more: Any) -> uvicorn.Config:
    """Return uvicorn's configuration for the application."""
    # A whole backlog of connections may be accepted before the first one is checked against the limit.
    limits = limits_of(settings, raise_descriptors() - BACKLOG)
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=cast("type[asyncio.Protocol]", Edge(limits)),
        ws="none",
        log_level=settings.log_level.lower(),
        access_log=False,
        server_header=False,
        date_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE_S,
        timeout_worker_healthcheck=HEALTH_S,
        **more,
    )
