"""The client against real sockets: a service that is slow, gone, cut off, or talks nonsense."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from serving.client import ClientError, RankClient
from tests.conftest import free_port

Answer = Callable[["_Handler", dict[str, object]], None]


class _Handler(BaseHTTPRequestHandler):
    answer: Answer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        type(self).answer(self, body)

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def service(answer: Answer) -> Iterator[str]:
    """A service on a port of its own that answers as it is told."""
    handler = type("Handler", (_Handler,), {"answer": staticmethod(answer)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def turned(handler: _Handler, body: dict[str, object]) -> None:
    candidates = body["candidates"]
    assert isinstance(candidates, list)
    items = [
        {"item_id": c["item_id"], "score": 0.0, "position": n, "base_position": len(candidates) - 1 - n}
        for n, c in enumerate(candidates[::-1])
    ]
    handler.reply(200, json.dumps({"request_id": body["request_id"], "items": items}).encode())


def ids(client: RankClient) -> tuple[list[str], str | None]:
    ranking = client.rank(["a", "b", "c"])
    return [item.item_id for item in ranking.items], ranking.fallback


def test_an_answer_is_used() -> None:
    with service(turned) as url, RankClient(url, rank_timeout_s=30.0) as client:
        assert ids(client) == (["c", "b", "a"], None)
        assert ids(client) == (["c", "b", "a"], None)


def test_a_service_that_stays_silent_is_not_waited_for() -> None:
    release = threading.Event()

    def silent(handler: _Handler, body: dict[str, object]) -> None:
        release.wait(60)

    with service(silent) as url, RankClient(url, rank_timeout_s=0.05) as client:
        try:
            assert ids(client) == (["a", "b", "c"], "ReadTimeout")
        finally:
            release.set()


def test_a_service_that_is_gone_leaves_the_order_given() -> None:
    with RankClient(f"http://127.0.0.1:{free_port()}", rank_timeout_s=5.0) as client:
        assert ids(client) == (["a", "b", "c"], "ConnectError")
        with pytest.raises(ClientError, match="not reached"):
            client.send([{"event_id": "e"}])


def test_an_answer_cut_off_leaves_the_order_given() -> None:
    def cut(handler: _Handler, body: dict[str, object]) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"request_id"')
        handler.close_connection = True

    with service(cut) as url, RankClient(url, rank_timeout_s=5.0, attempts=2) as client:
        assert ids(client) == (["a", "b", "c"], "RemoteProtocolError")


def test_nonsense_leaves_the_order_given() -> None:
    def nonsense(handler: _Handler, body: dict[str, object]) -> None:
        handler.reply(200, b"<html>")

    with service(nonsense) as url, RankClient(url, rank_timeout_s=30.0) as client:
        assert ids(client) == (["a", "b", "c"], "bad_answer")


def test_a_service_that_was_busy_is_asked_again_and_no_event_is_lost() -> None:
    taken: list[object] = []
    busy = [2]

    def store(handler: _Handler, body: dict[str, object]) -> None:
        if busy[0]:
            busy[0] -= 1
            handler.reply(503, b'{"error": {"code": "log_unavailable", "field": "", "message": "later"}}')
            return
        taken.extend(body)
        handler.reply(202, b'{"accepted": 1, "rejected": []}')

    with service(store) as url, RankClient(url, events_timeout_s=60.0) as client:
        assert client.send([{"event_id": "e1"}]).accepted == 1
    assert taken == [{"event_id": "e1"}]
