"""Runs the application under uvicorn; the address is taken first, so that a taken port is one clear line."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from feature_repo.errors import SettingsError
from feature_repo.settings import Settings
from serving.app import create_app

BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Args:
        port: 0 lets the system choose.

    Raises:
        SettingsError: the address is taken, forbidden or not of this machine.
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
    """URL of a listening socket."""
    host, port = server.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; requests in flight are finished first.

    Args:
        announce: told the address once the socket listens.
    """
    app = create_app(settings)
    server = listen(settings.host, settings.port)
    announce(address_of(server))
    run(app, settings, server)


def run(app: FastAPI, settings: Settings, server: socket.socket) -> None:
    """Run one process on a listening socket."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_level=settings.log_level.lower(),
        access_log=False,
        server_header=False,
        date_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=10,
    )
    # uvicorn raises the signal again once it has shut down in order; that would end us as if we had failed.
    held = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        uvicorn.Server(config).run(sockets=[server])
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
