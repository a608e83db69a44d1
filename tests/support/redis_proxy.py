"""A TCP proxy for a real Redis that drops, doubles, delays or swaps single replies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

Fault: TypeAlias = Callable[[bytes], list[bytes]]
"""Turns one reply into the replies to send."""


def drop(_: bytes) -> list[bytes]:
    return []


def double(reply: bytes) -> list[bytes]:
    return [reply, reply]


class RedisProxy:
    """Forwards everything except the replies listed in `faults`, counted from 0 over all connections.

    Attributes:
        url: address of the proxy.
        seen: number of replies from Redis.
        opened: number of accepted connections.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self.faults: dict[int, Fault] = {}
        self.delays: dict[int, asyncio.Event] = {}
        self.seen = self.opened = 0
        self.url = ""
        self._talks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> RedisProxy:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._talks:
            task.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        task = asyncio.current_task()
        assert task is not None
        self._talks.append(task)
        answers, commands = await asyncio.open_connection("127.0.0.1", self._to)
        sending = asyncio.create_task(_pump(reader, commands))
        try:
            while reply := await _reply(answers):
                number, self.seen = self.seen, self.seen + 1
                if number in self.delays:
                    await self.delays[number].wait()
                for each in self.faults.get(number, lambda r: [r])(reply):
                    writer.write(each)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # one of the two hung up, or the test ends
        finally:
            sending.cancel()
            for end in (writer, commands):
                end.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()


async def _reply(reader: asyncio.StreamReader) -> bytes:
    """Read one whole reply in Redis's protocol (RESP 2); return nothing at the end."""
    line = await reader.readline()
    if line[:1] in b"$*" and line:
        length = int(line[1:])
        if line[:1] == b"$" and length >= 0:
            return line + await reader.readexactly(length + 2)
        for _ in range(length if line[:1] == b"*" else 0):
            line += await _reply(reader)
    return line
