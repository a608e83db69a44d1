"""The clients of the serving benchmarks: an ordinary one and a bare socket."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import httpx


class Posts(Protocol):
    """A kept-alive HTTP client."""

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of a POST."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class Ordinary:
    """httpx, the base of Headrace's own client, on one keep-alive connection."""

    def __init__(self, port: int) -> None:
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30.0)

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of a POST."""
        answer = self._client.post(path, content=body, headers={"content-type": "application/json"})
        return answer.status_code, answer.content

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class Client:
    """HTTP over one keep-alive socket: the minimal cost of a client."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of a POST."""
        head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        return self._exchange(head.encode() + b"content-length: %d\r\n\r\n%b" % (len(body), body))

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of a GET."""
        return self._exchange(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _exchange(self, request: bytes) -> tuple[int, bytes]:
        self._socket.sendall(request)
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._receive()
        head = received[:end]
        length = int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE).group(1))  # type: ignore[union-attr]
        body = bytearray(received[end + 4 :])
        while len(body) < length:
            body += self._receive()
        return int(head[9:12]), bytes(body)

    def _receive(self) -> bytes:
        data = self._socket.recv(1 << 18)
        if not data:
            msg = "the server closed the connection"
            raise ConnectionError(msg)
        return data


def exchanges(client: Posts, path: str, sent: Sequence[bytes]) -> Iterator[tuple[float, bytes]]:
    """Yield milliseconds and answer of each exchange, cycling through the bodies. Statuses must be 200."""
    number = 0
    while True:
        body = sent[number % len(sent)]
        started = time.perf_counter()
        status, answer = client.post(path, body)
        yield (time.perf_counter() - started) * 1e3, answer
        assert status == 200, answer
        number += 1


def milliseconds(client: Posts, path: str, sent: Sequence[bytes]) -> Iterator[float]:
    """Yield the milliseconds of each exchange, cycling through the bodies."""
    return (spent for spent, _ in exchanges(client, path, sent))
