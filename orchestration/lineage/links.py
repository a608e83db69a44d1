"""Browser URLs of Headrace's parts: Dagster's UI, the built pages, serving, Feast's UI."""

from __future__ import annotations

from urllib.parse import quote

from feature_repo.settings import Settings

FEAST_PORT = 8888
"""Default port of `headrace feast ui`."""
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def docs_root(settings: Settings, port: int) -> str:
    """Return the root of the built pages, served at a port."""
    return settings.docs_url.rstrip("/") or _at(settings.ui_host, port)


def docs_url(settings: Settings) -> str:
    """Return the index of the Data Docs."""
    return f"{docs_root(settings, settings.docs_port)}/"


def drift_url(settings: Settings) -> str:
    """Return the index of the drift plots."""
    return f"{docs_url(settings)}drift/index.html"


def asset_url(settings: Settings, asset: str, host: str = "") -> str:
    """Return the page of an asset (``lake/events``) in Dagster's UI; empty if its port is unknown.

    Args:
        host: name under which the reader reached this machine, instead of `ui_host`.
    """
    root = settings.dagster_url.rstrip("/")
    if not root and not settings.dagster_port:
        return ""
    return f"{root or _at(host or settings.ui_host, settings.dagster_port)}/assets/{quote(asset)}"


def api_url(settings: Settings) -> str:
    """Return the documentation page of serving's API."""
    return f"{settings.api_url.rstrip('/') or _at(settings.host, settings.port)}/docs"


def feast_url(settings: Settings, path: str = "") -> str:
    """Return Feast's UI, or a page of it."""
    return f"{settings.feast_url.rstrip('/') or _at('127.0.0.1', FEAST_PORT)}/{path}"


def _at(host: str, port: int) -> str:
    host = _ANY.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
