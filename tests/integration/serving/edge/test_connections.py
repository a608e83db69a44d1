"""Clients that are slow, silent, too many or never stop sending, over real sockets."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn

from feature_repo.settings import Settings
from serving.api.asgi import ARRIVED, ClientGone, read_body, respond, respond_error
from serving.edge.connections import CLOSED, LINGER_S
from serving.schemas.errors import ApiError
from serving.server import config_of, listen

LIMIT = 50
BODY = 10_000
PATIENCE_S = 20.0
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


STALL_S = 0.4
stalling, sent = threading.Event(), threading.Event()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer the size of a body and its waiting time. /unread is refused without reading the body; /stall
    blocks the loop until another request was sent, and for a while after."""
    if scope["path"] == "/unread":
        await respond_error(send, ApiError(401, "unauthorized", "", "no key"))
        return
    try:
        body = await read_body(scope, receive, BODY)
    except ApiError as error:
        await respond_error(send, error)
    except ClientGone:
        pass
    else:
        waited = time.perf_counter() - scope[ARRIVED]
        if scope["path"] == "/stall":
            stalling.set()
            sent.wait(PATIENCE_S)
            threading.Event().wait(STALL_S)
        await respond(send, 200, json.dumps({"size": len(body), "waited": waited}).encode())


@dataclass
class Running:
    port: int
    server: uvicorn.Server

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def ask(self, data: bytes) -> tuple[int, bytes]:
        with closing(self.connect()) as sock:
            sock.sendall(data)
            return answer(sock)

    @property
    def open(self) -> int:
        return len(self.server.server_state.connections)


def answer(sock: socket.socket) -> tuple[int, bytes]:
    """Read status and body of one answer."""
    got = b""
    while b"\r\n\r\n" not in got:
        part = sock.recv(65_536)
        assert part, f"closed after {got!r}"
        got += part
    head, _, body = got.partition(b"\r\n\r\n")
    length = next(
        int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
    )
    while len(body) < length:
        body += sock.recv(65_536)
    return int(head.split(b" ", 2)[1]), body


def code(body: bytes) -> str:
    found: str = json.loads(body)["error"]["code"]
    return found


def ended(sock: socket.socket) -> bool:
    """Wait until the server closes; return whether it did."""
    try:
        while sock.recv(65_536):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def closed(reason: str) -> float:
    return CLOSED.labels(reason)._value.get()


@contextmanager
def running(**limits: Any) -> Iterator[Running]:
    settings = Settings(max_connections=LIMIT, max_body_bytes=BODY, **limits)
    listening = listen("127.0.0.1", 0)
    server = uvicorn.Server(config_of(app, settings, log_config=None, lifespan="off"))  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield Running(listening.getsockname()[1], server)
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()


@pytest.fixture(scope="module")
def patient() -> Iterator[Running]:
    """A server with long timeouts."""
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def strict() -> Iterator[Running]:
    """A server with short timeouts."""
    with running(header_timeout_s=0.4, body_timeout_s=0.4, idle_timeout_s=0.4) as server:
        yield server


def test_idle_connections_are_bounded_and_make_room(patient: Running, until: Callable[..., Any]) -> None:
    before = closed("crowded")
    with ExitStack() as stack:
        idle = [stack.enter_context(closing(patient.connect())) for _ in range(3 * LIMIT)]
        until(lambda: closed("crowded") >= before + 2 * LIMIT)
        assert patient.open <= LIMIT
        for _ in range(5):
            assert patient.ask(GET)[0] == 200
        assert ended(idle[0]), "the one that waited longest is closed first"
        last = idle[-1]
        last.sendall(GET)
        assert answer(last)[0] == 200, "the newest one is still open"


def test_connections_that_are_kept_alive_make_room_too(patient: Running, until: Callable[..., Any]) -> None:
    with ExitStack() as stack:
        kept = [stack.enter_context(closing(patient.connect())) for _ in range(LIMIT)]
        for sock in kept:
            sock.sendall(GET)
            assert answer(sock)[0] == 200
        until(lambda: patient.open == LIMIT)
        assert patient.ask(GET)[0] == 200
        assert ended(kept[0])
        kept[-1].sendall(GET)
        assert answer(kept[-1])[0] == 200


def test_slow_headers(strict: Running, until: Callable[..., Any]) -> None:
    before = closed("head_timeout")
    with ExitStack() as stack:
        slow = [stack.enter_context(closing(strict.connect())) for _ in range(30)]
        for sock in slow:
            sock.sendall(GET[:-4])
        for sock in slow:
            sock.settimeout(PATIENCE_S)
            status, body = answer(sock)
            assert (status, code(body)) == (408, "too_slow")
            assert ended(sock)
    until(lambda: strict.open == 0)
    assert closed("head_timeout") == before + 30


def test_headers_that_trickle_are_as_slow_as_those_that_stop(strict: Running) -> None:
    with closing(strict.connect()) as sock:
        started, sent = time.monotonic(), 0
        sock.sendall(b"GET / HTTP/1.1\r\n")
        sock.settimeout(0.05)
        while time.monotonic() < started + PATIENCE_S:
            try:
                sock.sendall(b"a: b\r\n")
                sent += 1
                if (status := answer(sock)[0]) == 408:
                    break
            except TimeoutError:
                continue
        assert status == 408
        assert sent > 1


def test_a_connection_that_sends_nothing_and_one_that_is_idle(strict: Running) -> None:
    before = closed("idle")
    with closing(strict.connect()) as silent, closing(strict.connect()) as idle:
        idle.sendall(GET)
        assert answer(idle)[0] == 200
        assert ended(silent)
        assert ended(idle)
    assert closed("idle") == before + 2


def test_a_body_that_does_not_come(strict: Running) -> None:
    before = closed("body_timeout")
    status, body = strict.ask(b"POST / HTTP/1.1\r\ncontent-length: 100\r\n\r\nbegun")
    assert (status, code(body)) == (408, "too_slow")
    assert closed("body_timeout") == before + 1


@pytest.mark.parametrize("size", [40_000, 20_000_000])
def test_a_giant_header(patient: Running, size: int) -> None:
    data = b"GET / HTTP/1.1\r\nx: " + b"a" * size + b"\r\n\r\n"
    assert refused(patient, data) == (431, "headers_too_large")


def test_many_headers(patient: Running) -> None:
    data = b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000 + b"\r\n"
    assert refused(patient, data) == (431, "headers_too_large")


@pytest.mark.parametrize("size", [9000, 20_000_000])
def test_a_giant_url(patient: Running, size: int) -> None:
    data = b"GET /" + b"a" * size + b" HTTP/1.1\r\n\r\n"
    assert refused(patient, data) == (414, "url_too_long")


def test_what_fits_is_answered(patient: Running) -> None:
    url = b"/" + b"a" * 8000
    data = b"POST " + url + b" HTTP/1.1\r\nx: " + b"a" * 20_000 + b"\r\ncontent-length: %d\r\n\r\n" % BODY
    status, body = patient.ask(data + b"b" * BODY)
    assert (status, json.loads(body)["size"]) == (200, BODY)


def test_the_time_in_the_socket_of_a_busy_loop_counts(patient: Running) -> None:
    """The arrival of bytes is estimated as the middle of the time the loop was busy."""
    with closing(patient.connect()) as first, closing(patient.connect()) as second:
        for sock in (first, second):  # the loop knows both before it stalls
            sock.sendall(GET)
            assert json.loads(answer(sock)[1])["waited"] < STALL_S / 2
        first.sendall(GET.replace(b"/", b"/stall", 1))
        assert stalling.wait(PATIENCE_S)
        second.sendall(GET)
        sent.set()
        assert answer(first)[0] == 200
        assert json.loads(answer(second)[1])["waited"] >= STALL_S / 2 - 0.01
        second.sendall(GET)
        assert json.loads(answer(second)[1])["waited"] < STALL_S / 2


def test_what_is_no_http(patient: Running) -> None:
    assert refused(patient, b"hello there\r\n\r\n") == (400, "bad_request")


def test_a_chunked_body_without_end(patient: Running) -> None:
    """The route answers 413 as soon as the body is too long, and input is dropped for a moment."""
    started = time.monotonic()
    with closing(patient.connect()) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
        chunk = b"400\r\n" + b"x" * 0x400 + b"\r\n"
        got = threading.Event()
        flooding = threading.Thread(target=flood, args=(sock, chunk, got), daemon=True)
        flooding.start()
        status, body = answer(sock)
        assert (status, code(body)) == (413, "body_too_large")
        flooding.join(PATIENCE_S)
        assert got.is_set(), "the server closes the connection"
    assert time.monotonic() - started < PATIENCE_S


def flood(sock: socket.socket, chunk: bytes, ended: threading.Event) -> None:
    """Send until the server closes."""
    try:
        while True:
            sock.sendall(chunk)
    except OSError:
        ended.set()


def test_what_stands_around_a_body_is_bounded_too(patient: Running) -> None:
    data = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n" + b"1;" + b"e" * 1_000_000 + b"\r\nx"
    assert refused(patient, data) == (413, "body_too_large")


def test_what_is_refused_unread_is_answered_while_it_is_being_sent(patient: Running) -> None:
    with closing(patient.connect()) as sock:
        sock.sendall(b"POST /unread HTTP/1.1\r\ncontent-length: 5000\r\n\r\nbegun")
        status, body = answer(sock)
        assert (status, code(body)) == (401, "unauthorized")
        # The rest may still arrive; then the connection continues.
        sock.sendall(b"x" * 4995)
        sock.sendall(GET)
        assert answer(sock)[0] == 200


def test_what_is_refused_unread_is_not_waited_for(patient: Running) -> None:
    started = time.monotonic()
    with closing(patient.connect()) as sock:
        sock.sendall(b"POST /unread HTTP/1.1\r\ncontent-length: 5000\r\n\r\nbegun")
        assert answer(sock)[0] == 401
        assert ended(sock)
    assert time.monotonic() - started >= LINGER_S / 2


def test_pipelined_requests_are_answered_in_order(patient: Running) -> None:
    with closing(patient.connect()) as sock:
        posts = [b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % n + b"x" * n for n in range(20)]
        sock.sendall(b"".join(posts))
        got = b""
        while got.count(b"waited") < len(posts):
            part = sock.recv(65_536)
            assert part
            got += part
    sizes = [int(part.split(b",")[0]) for part in got.split(b'{"size": ')[1:]]
    assert sizes == list(range(20))


def refused(server: Running, data: bytes) -> tuple[int, str]:
    """Return status and code; the server may close during sending."""
    with closing(server.connect()) as sock:
        sending = threading.Thread(target=send_quietly, args=(sock, data), daemon=True)
        sending.start()
        status, body = answer(sock)
        sending.join(PATIENCE_S)
    assert server.ask(GET)[0] == 200, "the others are served"
    return status, code(body)


def send_quietly(sock: socket.socket, data: bytes) -> None:
    try:
        sock.sendall(data)
    except OSError:
        return


SEEDS = [
    GET,
    GET * 3,
    b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello" * 2,
    b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nt: v\r\n\r\n" + GET,
    b"POST /unread HTTP/1.1\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\nhello",
    b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nmore",
    b"GET / HTTP/1.1\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAA\r\n\r\n",
    b"CONNECT example.com:443 HTTP/1.1\r\nhost: x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET http://[::1 HTTP/1.1\r\n\r\n",
    b"HEAD /%ff%00 HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
    b"\r\n\r\n" + GET,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Change, remove, insert or duplicate some bytes."""
    changed = bytearray(data)
    for _ in range(draw.choice((0, 1, 1, 2, 5))):
        at = draw.randrange(len(changed) or 1)
        match draw.randrange(4):
            case 0:
                changed[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                del changed[at : at + draw.randrange(1, 9)]
            case 2:
                changed[at:at] = bytes(draw.randrange(256) for _ in range(draw.randrange(1, 9)))
            case _:
                changed[at:at] = changed[at : at + 40]
    return bytes(changed)


def test_bytes_of_all_kinds_leave_the_server_as_it_was(
    strict: Running, until: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    draw = random.Random(5)
    with ExitStack() as stack:
        for number in range(600):
            data = mutated(SEEDS[number % len(SEEDS)], draw)
            sock = stack.enter_context(closing(strict.connect()))
            cut = draw.randrange(len(data) + 1)
            send_quietly(sock, data[:cut])
            send_quietly(sock, data[cut:])
            if number % 3 == 0:
                sock.close()
        assert strict.ask(GET)[0] == 200
        until(lambda: strict.open == 0)
    failed = [r.getMessage() for r in caplog.records if r.levelname in {"ERROR", "CRITICAL"}]
    assert failed == []
