"""``headrace up``: Dagster's UI, the stream and serving as one, until Ctrl-C or until one of them ends."""

from __future__ import annotations

import re
import signal
import socket
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from types import FrameType

import httpx

from feature_repo.errors import SettingsError
from feature_repo.home import Home
from feature_repo.settings import Settings
from orchestration.children import Child, Children, headrace
from orchestration.pages import serve_pages

READY_S = 120.0
_ADDRESS = re.compile(r"https?://[^\s]+?(?=[\s)]|$)")


def up(settings: Settings, tell: Callable[[str, str], None], stop: threading.Event) -> None:
    """Run all three, and serve the built pages beside them.

    Args:
        tell: told the name and the address of each once it answers.
        stop: ends everything when set.

    Raises:
        SettingsError: a port is taken.
        ProcessError: one of them ended or did not come up; the others have been stopped.
    """
    dagster_port = free_port(settings.host, settings.dagster_port)
    began = settings.clock()
    home = Home(settings.home.resolve())
    with serve_pages(settings, home) as (pages, docs_port), Children(stop) as children:
        stream = children.start(headrace("stream", ["stream"], settings))
        serving = children.start(headrace("serving", ["serve"], settings))
        ui = children.start(dagster_child(settings, dagster_port, docs_port))
        if address := wait_for_serving(children, serving, READY_S):
            tell("serving", f"{address} (docs at {address}/docs)")
        if children.wait_for("stream", lambda: stream_is_ready(settings, began), READY_S):
            port = settings.stream_metrics_port
            metrics = f"metrics on port {port}" if port else "no metrics"
            tell("stream", f"running ({metrics}, log {stream.log})")
        url = f"http://{settings.host}:{dagster_port}"
        if children.wait_for("Dagster's UI", lambda: answers(f"{url}/server_info"), READY_S):
            tell("pages", f"{pages} (what the checks found)")
            tell("dagster", f"{url} (log {ui.log})")
        children.run()


def dagster_child(settings: Settings, port: int, docs_port: int) -> Child:
    """``dagster dev``: webserver and daemon, on the definitions of this installation.

    Args:
        docs_port: where the built pages are served, for the links to them.
    """
    from orchestration.instance import prepare_instance  # noqa: PLC0415 - imports Dagster

    child = headrace("dagster", [], settings, docs_port=docs_port)
    folder = prepare_instance(Home(settings.home.resolve()).ensure())
    return Child(
        name="dagster",
        args=[
            *(sys.executable, "-m", "dagster", "dev", "-m", "orchestration.definitions"),
            *("--host", settings.host, "--port", str(port)),
        ],
        log=child.log,
        env={**child.env, "DAGSTER_HOME": str(folder)},
    )


def wait_for_serving(children: Children, serving: Child, timeout_s: float) -> str | None:
    """The address of serving, once it says that it is ready; `None` when asked to stop."""

    def address() -> str | None:
        found = _ADDRESS.search(serving.said())
        return found.group(0) if found else None

    def ready() -> bool:
        url = address()
        return url is not None and answers(f"{url}/readyz")

    return address() if children.wait_for("serving", ready, timeout_s) else None


def stream_is_ready(settings: Settings, since: datetime) -> bool:
    """Whether the stream has read every partition to its end since a time (of the settings' clock)."""
    from feature_repo.online import open_store  # noqa: PLC0415
    from streaming.heartbeat import read_heartbeats  # noqa: PLC0415

    store = open_store(settings, Home(settings.home))
    try:
        beats = read_heartbeats(store)
    finally:
        store.close()
    live = [beat for beat in beats if beat.wall_time >= since and beat.behind_s == 0]
    return len(live) == settings.log_partitions


def answers(url: str) -> bool:
    """Whether a GET is answered with success."""
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


def free_port(host: str, port: int) -> int:
    """The port, proven free; 0 becomes one the system chose.

    Raises:
        SettingsError: it is taken or forbidden.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            msg = (
                f"HEADRACE_DAGSTER_PORT={port}: cannot listen on {host} ({error.strerror}); "
                "stop what uses the port, or set HEADRACE_DAGSTER_PORT to another (0: any free one)"
            )
            raise SettingsError(msg) from error
        return int(probe.getsockname()[1])


def stop_on_signals() -> threading.Event:
    """An event that Ctrl-C and SIGTERM set."""
    stop = threading.Event()

    def handler(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGTERM, handler)
    return stop
