"""A decision record in which nothing happened, to test readers of such records."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from serving.control.flags import Flags
from serving.control.rules import Rules
from serving.decisions.record import Decision, Versions
from serving.schemas.rank_response import Tier


def decision(request_id: str, time: datetime, **fields: Any) -> Decision:
    """Create the record of a request without candidates, answered in the base order."""
    given: dict[str, Any] = {
        "request_id": request_id,
        "time": time,
        "user": None,
        "session": None,
        "query": None,
        "candidates": [],
        "limit": None,
        "explain": False,
        "features": {},
        "flags": Flags(),
        "rules": Rules(),
        "versions": Versions(None, None, "f"),
        "arms": {},
        "held_out": False,
        "seed": request_id,
        "completed": [],
        "tier": Tier.BASE,
        "degraded": [],
        "ages": {},
        "timings_ms": {},
        "items": [],
        "dropped": [],
        **fields,
    }
    return Decision(**given)
