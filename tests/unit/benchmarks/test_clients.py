"""The clients of the benchmarks ask the same and understand the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice

import pytest

from benchmarks._clients import Client, Ordinary, Posts, exchanges, milliseconds


class Echo(BaseHTTPRequestHandler):
    """Answers the body; what begins with ``no`` is refused."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(422 if body.startswith(b"no") else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    serving.join()


@pytest.mark.parametrize("kind", [Ordinary, Client])
def test_bodies_come_back_in_turn_and_a_refusal_ends_the_measurement(
    port: int, kind: type[Ordinary | Client]
) -> None:
    client: Posts = kind(port)
    sent = [b"a", b"b" * 100_000]
    assert [answer for _, answer in islice(exchanges(client, "/", sent), 3)] == [*sent, b"a"]
    assert all(spent > 0 for spent in islice(milliseconds(client, "/", sent), 2))
    assert client.post("/", b"no") == (422, b"no")
    refused = exchanges(client, "/", [b"no"])
    next(refused)
    with pytest.raises(AssertionError):
        next(refused)
    client.close()


def test_a_server_that_is_gone_is_an_error() -> None:
    with pytest.raises(ConnectionError):
        Client(1)
