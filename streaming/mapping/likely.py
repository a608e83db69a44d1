"""Presets that match a file."""

from __future__ import annotations

from streaming.mapping.model import Section
from streaming.mapping.profile import Profile
from streaming.mapping.records import columns_of
from streaming.mapping.saved import by_name, presets

_ENOUGH = 0.5
_NEEDED = ("event_type", "event_time", "item_id")


def fitting(profile: Profile) -> list[str]:
    """List the presets whose columns match the sample."""
    found = []
    for name in presets():
        mapping = by_name(name)
        events = [s for s in mapping.sections if s.kind == "event"]
        if not mapping.columns and not mapping.typed_header and events and _fits(events[0], profile):
            found.append(name)
    return found


def _fits(section: Section, profile: Profile) -> bool:
    for field in _NEEDED:
        columns = [c for v in section.fields[field] for c in v.columns]
        if columns and not any(c in profile.columns for c in columns):
            return False
    named = set(columns_of(section))
    return sum(c in profile.columns for c in named) > len(named) * _ENOUGH
