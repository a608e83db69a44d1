"""``headrace up``: runs serving, the stream and Dagster's UI until Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
import socket
import sys
import tempfile
import threading
from datetime import datetime
from pathlib import Path
from types import FrameType

import httpx

from feature_repo.errors import SettingsError, StoreError
from feature_repo.home import Home
from feature_repo.settings import Settings
from orchestration.processes.children import Child, Children, headrace
from orchestration.processes.page_server import serve_pages
from orchestration.processes.supervisor import Supervisor, Tell

READY_S = 120.0
_LOCATION = "orchestration.definitions"
_ADDRESS = re.compile(r"https?://[^\s]+?(?=[\s)]|$)")


def up(settings: Settings, tell: Tell, stop: threading.Event) -> None:
    """Run all three and serve the built pages. Serving starts first, Dagster's UI last.

    A process that exits is restarted; a slow starter does not delay serving.

    Args:
        tell: receives the name and address of each process once it answers, and what happens to it.
        stop: when set, everything stops.

    Raises:
        SettingsError: a port is taken.
        ProcessError: all processes are given up.
    """
    dagster_port = free_port(settings.ui_host, settings.dagster_port)
    settings = settings.model_copy(update={"dagster_port": dagster_port})
    home = Home(settings.home.resolve())
    with (
        serve_pages(settings, home) as (pages, docs_port),
        tempfile.TemporaryDirectory(prefix="headrace-") as sockets,
        Children(stop) as children,
    ):
        crew = Supervisor(children, tell, stop)
        serving = crew.start(_serving_child(settings))
        crew.wait_for(
            "serving",
            lambda: serving_address(serving) is not None,
            lambda: tell(
                "serving", f"{serving_address(serving)} (docs at {serving_address(serving)}/docs)", True
            ),
            READY_S,
        )
        began = settings.clock()
        stream = crew.start(headrace("stream", ["stream"], settings))
        port = settings.stream_metrics_port
        metrics = f"metrics on port {port}" if port else "no metrics"
        crew.wait_for(
            "stream",
            lambda: stream_is_ready(settings, began),
            lambda: tell("stream", f"running ({metrics}, log {stream.log})", True),
            READY_S,
        )
        url = f"http://{settings.ui_host}:{dagster_port}"
        dagster = DagsterProcesses(settings, Path(sockets), docs_port)
        crew.start(dagster.code())
        crew.wait_for("dagster-code", dagster.socket.exists, lambda: None, READY_S)
        crew.start(dagster.daemon())
        ui = crew.start(dagster.webserver(dagster_port))

        def dagster_answers() -> None:
            tell("pages", f"{pages} (check results)")
            tell("dagster", f"{url} (log {ui.log})", True)

        crew.wait_for("dagster", lambda: answers(f"{url}/server_info"), dagster_answers, READY_S)
        crew.run()


def demo_hint(settings: Settings, home: Home) -> str:
    """Return a hint if the home has no event but the demo beside it has some; else an empty string."""
    from orchestration.demo.home import MARKER, open_command  # noqa: PLC0415

    demo = home.root / "demo"
    if any(home.log.glob("*")) or home.lake.exists() or not (demo / MARKER).exists():
        return ""
    report = demo / "report.json"
    try:
        command = json.loads(report.read_text())["open_with"]
    except (OSError, ValueError, KeyError):
        command = open_command(settings.model_copy(update={"home": demo}))
    return f"{home.root} has no event yet. To open the demo's data, run\n    {command}"


def _serving_child(settings: Settings) -> Child:
    """Create the ``headrace serve`` child; it keeps its port across restarts."""
    port = settings.port or free_port(settings.host, 0)
    return headrace("serving", ["serve"], settings, port=port)


class DagsterProcesses:
    """The processes that `dagster dev` would run, each watched separately, with a guard before the webserver.

    Args:
        folder: private folder for the socket on which the code location answers the other two.
        docs_port: port of the built pages, for links to them.
    """

    def __init__(self, settings: Settings, folder: Path, docs_port: int) -> None:
        from orchestration.processes.dagster_home import prepare_instance  # noqa: PLC0415

        self.socket = folder / "code.sock"
        self._settings = settings
        self._docs_port = docs_port
        self._home = prepare_instance(Home(settings.home.resolve()).ensure())
        self._workspace = folder / "workspace.yaml"
        location = {"socket": str(self.socket), "location_name": _LOCATION}
        self._workspace.write_text(json.dumps({"load_from": [{"grpc_server": location}]}))

    def code(self) -> Child:
        """Create the code location, which imports the definitions once for daemon and webserver."""
        where = ("-m", _LOCATION, "--socket", str(self.socket), "--use-python-environment-entry-point")
        return self._child("dagster-code", "dagster", "code-server", "start", *where)

    def daemon(self) -> Child:
        """Create the daemon, which runs schedules, sensors and the run queue."""
        return self._child("dagster-daemon", "dagster._daemon", "run", "-w", str(self._workspace))

    def webserver(self, port: int) -> Child:
        """Create the webserver."""
        address = ("--host", self._settings.ui_host, "--port", str(port))
        return self._child(
            "dagster", "orchestration.processes.dagster_ui", "-w", str(self._workspace), *address
        )

    def _child(self, name: str, module: str, *arguments: str) -> Child:
        ports = {"docs_port": self._docs_port, "dagster_port": self._settings.dagster_port}
        child = headrace(name, [], self._settings, **ports)
        args = [sys.executable, "-m", module, *arguments]
        return Child(name=name, args=args, log=child.log, env={**child.env, "DAGSTER_HOME": str(self._home)})


def serving_address(serving: Child) -> str | None:
    """Return the address that serving printed, once it reports ready there; else `None`."""
    found = _ADDRESS.search(serving.said())
    return found.group(0) if found and answers(f"{found.group(0)}/readyz") else None


def wait_for_serving(children: Children, serving: Child, timeout_s: float) -> str | None:
    """Return serving's address once it is ready; `None` if asked to stop."""
    ready = children.wait_for("serving", lambda: serving_address(serving) is not None, timeout_s)
    return serving_address(serving) if ready else None


def stream_is_ready(settings: Settings, since: datetime) -> bool:
    """Return whether the stream has read every partition to its end since a time (on the settings' clock)."""
    from feature_repo.online import open_store  # noqa: PLC0415
    from streaming.sessions.heartbeat import read_heartbeats  # noqa: PLC0415

    store = open_store(settings, Home(settings.home))
    try:
        beats = read_heartbeats(store)
    except StoreError:
        return False
    finally:
        store.close()
    live = [beat for beat in beats if beat.wall_time >= since and beat.behind_s == 0]
    return len(live) == settings.log_partitions


def answers(url: str) -> bool:
    """Return whether a GET succeeds."""
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


def free_port(host: str, port: int) -> int:
    """Check that the port is free and return it; for 0, return one that the system chose.

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
    """Return an event that Ctrl-C and SIGTERM set."""
    stop = threading.Event()

    def handler(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGTERM, handler)
    return stop
