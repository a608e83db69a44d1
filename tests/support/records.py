"""A record as a caller would send it."""

from __future__ import annotations

from typing import Any

CLICK: dict[str, Any] = {
    "record": "event",
    "event_id": "e1",
    "event_type": "click",
    "event_time": "2024-06-01T11:00:00Z",
    "session_id": "s1",
    "item_id": "i1",
}
