"""Serves the built pages (Data Docs, drift plots) over HTTP, because Dagster's UI cannot link to files."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import AF_INET, AF_INET6
from urllib.parse import quote, unquote, urlsplit

from feature_repo.errors import SettingsError
from feature_repo.home import Home
from feature_repo.settings import Settings
from orchestration.lineage.links import asset_url, docs_root
from orchestration.processes.dagster_ui import ui_names
from quality.pages.docs_index import renew
from quality.pages.drift_index import renew_drift

_ASSET = "/asset/"

logger = logging.getLogger(__name__)


def page_url(settings: Settings, home: Home, page: Path) -> str:
    """Return the URL of a file in ``home.docs``."""
    path = quote(page.resolve().relative_to(home.docs.resolve()).as_posix())
    return f"{docs_root(settings, settings.docs_port)}/{path}"


@contextmanager
def serve_pages(settings: Settings, home: Home) -> Iterator[tuple[str, int]]:
    """Serve ``home.docs`` from a thread until the context ends; yield the address and the port.

    Raises:
        SettingsError: the port is taken or forbidden.
    """
    home.docs.mkdir(parents=True, exist_ok=True)
    renew_drift(home.docs)  # also if nothing was checked yet, or an earlier version wrote the pages
    renew(home.docs)
    names = ui_names(settings) | {urlsplit(settings.docs_url).hostname or ""}
    handler = partial(_Pages, settings=settings, names=names, directory=str(home.docs))
    server = type("Server", (ThreadingHTTPServer,), {"address_family": _family(settings.ui_host)})
    try:
        listening = server((settings.ui_host, settings.docs_port), handler)
    except OSError as error:
        msg = (
            f"HEADRACE_DOCS_PORT={settings.docs_port}: cannot listen on {settings.ui_host} "
            f"({error.strerror}); stop what uses the port, or set HEADRACE_DOCS_PORT to another "
            "(0: any free one)"
        )
        raise SettingsError(msg) from error
    thread = threading.Thread(target=listening.serve_forever, args=(0.05,), name="pages", daemon=True)
    thread.start()
    try:
        port = int(listening.server_address[1])
        yield docs_root(settings, port), port
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


def _family(host: str) -> int:
    return AF_INET6 if ":" in host else AF_INET


class _Pages(SimpleHTTPRequestHandler):
    """Answers GET and HEAD for files in one folder; rejects other host names (DNS rebinding)."""

    server_version, sys_version = "headrace", ""
    index_pages = ("index.html", "index.htm")

    def __init__(self, *args: object, settings: Settings, names: frozenset[str], directory: str) -> None:
        self._settings = settings
        self._names = names
        super().__init__(*args, directory=directory)  # type: ignore[arg-type]

    def send_head(self):  # type: ignore[no-untyped-def]
        asked = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        if asked not in self._names:
            self.send_error(421, "Misdirected Request", "Open the pages at HEADRACE_DOCS_URL.")
            return None
        if self.path.startswith(_ASSET):
            self._to_asset(asked)
            return None
        if not self._inside():
            self.send_error(404, "File not found")
            return None
        return super().send_head()

    def _to_asset(self, host: str) -> None:
        """Redirect to an asset in Dagster's UI, whose address the static pages cannot know."""
        url = asset_url(self._settings, unquote(urlsplit(self.path).path.removeprefix(_ASSET)), host)
        if not url:
            self.send_error(404, "Not known", "Set HEADRACE_DAGSTER_URL, or HEADRACE_DAGSTER_PORT.")
            return
        self.send_response(302)
        self.send_header("Location", url)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def list_directory(self, path: object) -> None:
        """Refuse listings; the index pages list what exists."""
        self.send_error(404, "File not found")

    def _inside(self) -> bool:
        """Return whether the path, links resolved, is in the folder: links must not expose other files."""
        root, path = Path(self.directory).resolve(), Path(self.translate_path(self.path))
        try:
            shown = (path, *(path / name for name in self.index_pages))
            return all(each.resolve().is_relative_to(root) for each in shown)
        except (OSError, RuntimeError, ValueError):  # a link loop, or a byte invalid in file names
            return False

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header(
            "Content-Security-Policy", "default-src 'self' 'unsafe-inline' data:; script-src 'none'"
        )
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        logger.debug(format, *args)
