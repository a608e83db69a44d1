"""The Bytewax flow for loaders, as `streaming.flow:flow`; `streaming.dataflow.graph` builds it."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """`flow`, made ready from the environment when a loader asks for it; an import alone does no I/O."""
    if name == "flow":
        from streaming.dataflow.service import cluster_flow  # noqa: PLC0415

        return cluster_flow()
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
