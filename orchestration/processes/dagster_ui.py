"""Dagster's webserver behind a guard. Run it as ``python -m orchestration.processes.dagster_ui``, with the
webserver's usual options.

Dagster's UI needs no key and answers any page open in a browser on this machine, even mutations by GET. The
guard refuses requests from other origins, requests for other host names (DNS rebinding), and GraphQL by
GET.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from feature_repo.settings import Settings, load_settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_POLICY_VIOLATION = 1008


def ui_names(settings: Settings) -> frozenset[str]:
    """Return the host names under which the UI and the pages may be opened."""
    further = (name.strip().lower() for name in settings.ui_names.split(","))
    return LOOPBACK | {settings.ui_host, *filter(None, further)}


class BrowserGuard:
    """ASGI middleware that rejects requests from foreign origins or for foreign host names.

    Args:
        names: host names allowed as target and as origin.
    """

    def __init__(self, app: App, names: Iterable[str]) -> None:
        self._app = app
        self._names = frozenset(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on, or reject it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": refusal[1]})
        else:
            await _answer(send, *refusal)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = scope["headers"]
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1 or self._foreign(f"//{hosts[0].decode('latin-1')}"):
            return 421, "This host name is not allowed; add it to HEADRACE_UI_NAMES, or open 127.0.0.1."
        for name, value in headers:
            if name == b"origin" and self._foreign(value.decode("latin-1")):
                return 403, "Pages of other sites may not use Dagster's API; add yours to HEADRACE_UI_NAMES."
        if scope["type"] == "http" and scope["method"] not in {"POST", "OPTIONS"}:
            asked = parse_qs(scope.get("query_string", b"").decode("latin-1"))
            if "query" in asked and scope["path"].rstrip("/").endswith("/graphql"):
                return 405, "GraphQL requests must use POST."
        return None

    def _foreign(self, url: str) -> bool:
        try:
            return (urlsplit(url).hostname or "") not in self._names
        except ValueError:
            return True


async def _answer(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": f"{text}\n".encode()})


def main(arguments: list[str]) -> None:
    """Run Dagster's webserver with the guard in front of its application."""
    from dagster_webserver import cli  # noqa: PLC0415
    from dagster_webserver.app import create_app_from_workspace_process_context as create  # noqa: PLC0415

    names = ui_names(load_settings())

    def guarded(*args: Any, **options: Any) -> Any:
        app = create(*args, **options)
        app.add_middleware(BrowserGuard, names=names)
        return app

    # The webserver has no option for middleware; it creates its application only here.
    vars(cli)[create.__name__] = guarded
    cli.cli(arguments, prog_name="dagster-webserver")


if __name__ == "__main__":
    main(sys.argv[1:])
