"""The baseline of the ranking benchmarks: a bare ASGI echo under the same server."""

from __future__ import annotations

import uvicorn

from serving.api.asgi import Receive, Scope, Send, read_body, respond
from serving.server import address_of, listen


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Echo the body."""
    if scope["type"] == "http":
        await respond(send, 200, await read_body(scope, receive, 1 << 24))


if __name__ == "__main__":
    listening = listen("127.0.0.1", 0)
    print(address_of(listening), flush=True)
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", lifespan="off", access_log=False, log_level="warning"
    )
    uvicorn.Server(config).run(sockets=[listening])
