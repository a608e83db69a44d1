"""No request is answered before the warm-up is done, and the first answer is complete."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import uvicorn

from serving.app import create_app
from serving.pipeline.context import RankContext
from serving.server import listen

Body = Callable[..., dict[str, Any]]


def ask(port: int, method: str, path: str, content: bytes = b"") -> socket.socket:
    """A request in flight."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
    connection.sendall(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
    return connection


def answer_of(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Read until the end."""
    raw = b""
    while part := connection.recv(65_536):
        raw += part
    head, _, content = raw.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), json.loads(content)


def test_who_comes_during_the_warm_up_waits_for_its_end(
    shop: Any, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(shop.settings)
    services, warming, go = app.state.services, threading.Event(), threading.Event()
    states: list[tuple[str | None, bool]] = []
    warm, rank = services.warm, services.ranker.rank

    async def held() -> None:
        warming.set()
        await asyncio.to_thread(go.wait, 60)
        await warm()

    async def noted(context: RankContext) -> Any:
        states.append((context.request.user_id, services.ready))
        return await rank(context)

    monkeypatch.setattr(services, "warm", held)
    monkeypatch.setattr(services.ranker, "rank", noted)
    listening = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    port = listening.getsockname()[1]
    connections = []
    try:
        assert warming.wait(60), "the first start on a machine compiles"
        content = json.dumps(body(user_id="u", session_id="s")).encode()
        connections = [
            ask(port, "GET", "/readyz"),
            ask(port, "GET", "/healthz"),
            ask(port, "POST", "/v1/rank", content),
        ]
        answered, _, _ = select.select(connections, [], [], 0.5)
        assert answered == [], "they are accepted and wait"
        assert states == []
        go.set()
        ready, alive, ranked = [answer_of(connection) for connection in connections]
    finally:
        go.set()
        for connection in connections:
            connection.close()
        server.should_exit = True
        thread.join(20)
        listening.close()
    assert (ready[0], ready[1]["ready"], alive[0]) == (200, True, 200)
    assert (ranked[0], ranked[1]["tier"], ranked[1]["degraded"]) == (200, "session+long_term", [])
    assert ("u", True) in states
    assert {state for user, state in states if user == "-"} == {False}, "the warm-up ranks first"
    assert {state for user, state in states if user == "u"} == {True}


def test_readiness_is_said_only_while_it_is_so(shop: Any, serve_app: Callable[..., Any]) -> None:
    app = create_app(shop.settings)

    def ready() -> tuple[int, bool]:
        async def get() -> httpx.Response:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.get("/readyz")

        response = asyncio.run(get())
        return response.status_code, response.json()["ready"]

    assert ready() == (503, False), "not started"
    with serve_app(app) as client:
        assert client.get("/readyz").status_code == 200
    assert ready() == (503, False), "ended"
