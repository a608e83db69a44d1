"""The client against real sockets: a service that is slow, down, cut off or invalid."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from serving.client import AsyncRankClient, ClientError, RankClient, Ranking
from tests.conftest import free_port
from tests.support.tls import Authority, tls_proxy

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
def service(answer: Answer, *, kept: bool = False) -> Iterator[str]:
    """A service that gives scripted answers and optionally keeps connections alive."""
    version = "HTTP/1.1" if kept else "HTTP/1.0"
    handler = type("Handler", (_Handler,), {"answer": staticmethod(answer), "protocol_version": version})
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


TRICKLE_S = 0.02


def trickling(handler: _Handler, body: dict[str, object], release: threading.Event, part: str) -> None:
    """Send a valid answer whose `part` takes five seconds, in pauses of less than a tenth of a second."""
    candidates = body["candidates"]
    assert isinstance(candidates, list)
    items = [
        {"item_id": c["item_id"], "score": 0.0, "position": n, "base_position": n}
        for n, c in enumerate(candidates)
    ]
    content = json.dumps({"request_id": "r", "items": items, "x": "." * 250}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(content)}\r\nx: {'.' * 250}\r\n\r\n".encode()
    slow = head if part == "head" else content
    try:
        if slow is content:
            handler.wfile.write(head)
        for byte in slow:
            handler.wfile.write(bytes([byte]))
            release.wait(TRICKLE_S)
        if slow is head:
            handler.wfile.write(content)
    except OSError:  # the client disconnected, as it should
        handler.close_connection = True


def asked_sync(url: str, timeout_s: float) -> Ranking:
    with RankClient(url, rank_timeout_s=timeout_s) as client:
        return client.rank(["a", "b"])


def asked_async(url: str, timeout_s: float) -> Ranking:
    async def run() -> Ranking:
        async with AsyncRankClient(url, rank_timeout_s=timeout_s) as client:
            return await client.rank(["a", "b"])

    return asyncio.run(run())


@pytest.mark.parametrize("part", ["head", "body"])
@pytest.mark.parametrize("asked", [asked_sync, asked_async])
def test_an_answer_that_trickles_in_is_not_waited_for(
    part: str, asked: Callable[[str, float], Ranking]
) -> None:
    release = threading.Event()

    def answer(handler: _Handler, body: dict[str, object]) -> None:
        trickling(handler, body, release, part)

    with service(answer) as url:
        try:
            ranking = asked(url, 0.2)
        finally:
            release.set()
    assert ranking.fallback == "ReadTimeout"


def test_a_kept_connection_is_bounded_by_each_request_anew() -> None:
    release, asked = threading.Event(), []

    def answer(handler: _Handler, body: dict[str, object]) -> None:
        asked.append(handler.client_address)
        if len(asked) <= 2:
            turned(handler, body)
        else:
            trickling(handler, body, release, "body")

    with service(answer, kept=True) as url, RankClient(url, rank_timeout_s=30.0) as client:
        assert ids(client)[1] is None
        assert ids(client)[1] is None
        client._run().client._protocol.rank_timeout_s = 0.2
        try:
            assert ids(client)[1] == "ReadTimeout"
        finally:
            release.set()
    assert len(set(asked)) == 1


def test_a_body_longer_than_what_is_written_at_once_arrives_whole() -> None:
    taken: list[object] = []

    def store(handler: _Handler, body: dict[str, object]) -> None:
        taken.extend(body)
        handler.reply(202, b'{"accepted": 3, "rejected": []}')

    records = [{"event_id": f"{n}", "note": chr(97 + n) * 70_000} for n in range(3)]
    with service(store) as url, RankClient(url, events_timeout_s=60.0) as client:
        assert client.send(records).accepted == len(records)
    assert taken == records


@pytest.mark.parametrize("asked", [asked_sync, asked_async])
def test_over_tls_answers_are_used_and_trickling_ones_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Callable[[str, float], Ranking]
) -> None:
    authority, release = Authority(tmp_path), threading.Event()
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    slow: list[str] = []

    def answer(handler: _Handler, body: dict[str, object]) -> None:
        if slow:
            trickling(handler, body, release, "head")
        else:
            turned(handler, body)

    with service(answer) as url, tls_proxy(authority.server(), int(url.rsplit(":", 1)[1])) as proxy:
        over_tls = f"https://127.0.0.1:{proxy.port}"
        assert [item.item_id for item in asked(over_tls, 30.0).items] == ["b", "a"]
        slow.append("now")
        try:
            assert asked(over_tls, 1.0).fallback in {"ReadTimeout", "ConnectTimeout"}
        finally:
            release.set()
    assert proxy.handshakes
