"""Proposes a mapping from a sample: which column is which field, by names, types and values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from feature_repo.contract.validation import Kind
from streaming.mapping.dependence import depends
from streaming.mapping.profile import Column, Profile
from streaming.mapping.roles import roles_of
from streaming.mapping.synonyms import PERSONAL, PERSONAL_VALUE, event_type_of, normalized

MOST_PROPERTIES = 30
_EVENT_ROLES = (
    "event_time",
    "event_type",
    "event_id",
    "session_id",
    "user_id",
    "item_id",
    "request_id",
    "position",
    "query",
    "consent",
)
_ITEM_ROLES = ("item_id", "title", "categories", "price", "created_at")
_FEW_VALUES = 0.2
_SEPARATORS = ("|", ";", " > ", ">", "/", ",")


@dataclass
class Proposal:
    """A mapping under construction.

    Attributes:
        top: keys before the sections.
        sections: fields by section.
        types: targets of the source's event types.
        notes: assumptions that a person should check.
    """

    top: dict[str, Any] = field(default_factory=dict)
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    types: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def propose(profile: Profile, rows: Iterable[Mapping[str, Any]], kind: Kind | None = None) -> Proposal:
    """Propose a mapping.

    Args:
        profile: profile of a sample.
        rows: the sample itself, to find dependent columns.
        kind: kind of record, if known.
    """
    columns = {path: column for path, column in profile.columns.items() if column.filled}
    roles = roles_of(columns, _EVENT_ROLES, profile.rows)
    proposal = Proposal()
    is_event = "event_time" in roles and ({"user_id", "session_id", "event_type"} & roles.keys())
    if kind == "event" or (kind is None and is_event):
        if "event_time" not in roles:
            proposal.notes.append("no column looks like the time of an event")
            return proposal
        _event(proposal, profile, columns, roles, list(rows))
        used = {c for path in roles.values() for c in (path,)}
        for path in sorted(profile.lists):
            if any(c.startswith(f"{path}.") for c in used):
                proposal.top["explode"] = path
                proposal.notes.append(f"each element of {path} becomes a separate row")
                break
        return proposal
    items = roles_of(columns, _ITEM_ROLES, profile.rows)
    users = roles_of(columns, ("user_id",), profile.rows)
    if kind != "user" and (
        "item_id" in items
        or ("user_id" not in users and (key := _first_unique(columns, profile.rows, items)))
    ):
        _item(proposal, columns, items if "item_id" in items else {**items, "item_id": key or ""})
    elif "user_id" in users:
        rest = _rest(proposal, columns, users)
        proposal.sections["user"] = {"user_id": users["user_id"], **({"attributes": rest} if rest else {})}
    else:
        proposal.notes.append("no column looks like the time of an event or the id of an item or user")
    return proposal


def _event(
    proposal: Proposal,
    profile: Profile,
    columns: Mapping[str, Column],
    roles: dict[str, str],
    rows: list[Mapping[str, Any]],
) -> None:
    event: dict[str, Any] = {}
    if "event_type" in roles:
        event["event_type"] = roles["event_type"]
        _types(proposal, columns[roles["event_type"]], has_query="query" in roles)
    else:
        event["event_type"] = {"value": "view"}
        proposal.notes.append("no column of event types: every row is taken as view")
    event["event_time"] = time_value(proposal, columns[roles["event_time"]])
    users = roles.get("user_id")
    if "session_id" in roles:
        gaps = columns[roles["session_id"]].filled < profile.rows and users is not None
        event["session_id"] = [roles["session_id"], {"day_of": users}] if gaps else roles["session_id"]
    elif users is not None:
        event["session_id"] = {"day_of": users}
        proposal.notes.append("no session: one user's day (UTC) is taken as a session")
    else:
        event["session_id"] = {"value": "none"}
        proposal.notes.append(
            "neither session nor user: write session_id yourself; all rows are one session now"
        )
    if "event_id" in roles:
        event["event_id"] = roles["event_id"]
    else:
        event["event_id"] = {"hash": True}
        proposal.notes.append(
            "no unique id: it is a hash of time, type, session, user and item; repeats count once"
        )
    for name in ("user_id", "item_id", "request_id", "position", "query", "consent"):
        if name in roles:
            event[name] = roles[name]
    proposal.sections["event"] = event
    _items_of_events(proposal, columns, roles, rows)
    used = {*roles.values(), *_columns(proposal.sections.get("item", {}))}
    rest = _rest(proposal, columns, dict.fromkeys(used, ""), used)
    if rest:
        event["properties"] = rest


def _items_of_events(
    proposal: Proposal, columns: Mapping[str, Column], roles: dict[str, str], rows: list[Mapping[str, Any]]
) -> None:
    """Add an item section if rows of events describe their items."""
    key = roles.get("item_id")
    if key is None:
        return
    left = {p: c for p, c in columns.items() if p not in roles.values()}
    found = roles_of(left, ("title", "categories", "price"), len(rows))
    fixed = {role: path for role, path in found.items() if depends(rows, key, path)}
    if fixed:
        proposal.sections["item"] = {
            "item_id": key,
            **{r: _item_value(r, columns[p]) for r, p in fixed.items()},
        }


def _item(proposal: Proposal, columns: Mapping[str, Column], roles: dict[str, str]) -> None:
    item: dict[str, Any] = {"item_id": roles["item_id"]}
    for role in _ITEM_ROLES[1:]:
        if role in roles:
            column = columns[roles[role]]
            item[role] = time_value(proposal, column) if role == "created_at" else _item_value(role, column)
    if rest := _rest(proposal, columns, roles):
        item["attributes"] = rest
    if not columns[roles["item_id"]].is_unique:
        proposal.notes.append(f"{roles['item_id']} repeats: the last row of an item wins")
    proposal.sections["item"] = item


def _item_value(role: str, column: Column) -> Any:
    if role == "price" and column.has_comma:
        return {"column": column.path, "decimal": ","}
    if role == "categories" and not column.lists:
        for sign in _SEPARATORS:
            if sum(n for text, n in column.values.items() if sign in text) > column.filled * _FEW_VALUES:
                return {"column": column.path, "split": sign}
        if sum("." in text and " " not in text for text in column.values) > len(column.values) / 2:
            return {"column": column.path, "split": "."}
    return column.path


def time_value(proposal: Proposal, column: Column) -> Any:
    """Return how to read a column's times; note what is assumed."""
    assert column.time is not None
    form, lacks_zone, other = column.time
    value = {"column": column.path, "format": form}
    if lacks_zone:
        value["zone"] = "UTC"
        proposal.notes.append(
            f"{column.path} has no time zone: UTC is assumed; change zone if it is local time"
        )
    if other is not None:
        proposal.notes.append(f"{column.path} fits {form} and {other}: is day or month first?")
    return value


def _types(proposal: Proposal, column: Column, *, has_query: bool) -> None:
    for name, count in column.values.most_common():
        kind, weight, sure = event_type_of(name)
        skipped = kind is None or (kind == "search" and not has_query)
        if skipped:
            why = "a search needs its query" if kind == "search" else "not engagement"
            if normalized(name) == "impression":
                why = "an impression must list its items"
            proposal.notes.append(f"{name!r} ({count:,} rows) is left out: {why}")
            proposal.types[name] = {"skip": True}
            continue
        proposal.types[name] = kind if weight is None else {"type": kind, "weight": weight}
        if not sure:
            proposal.notes.append(f"{name!r} ({count:,} rows) is not a known type: weight 1 is a guess")


def _rest(
    proposal: Proposal, columns: Mapping[str, Column], roles: Mapping[str, str], used: Iterable[str] = ()
) -> list[str]:
    """Return further columns; leave out what looks personal."""
    taken = {*roles.values(), *used}
    found = [column for path, column in columns.items() if path not in taken]
    personal = [c.path for c in found if _is_personal(c)]
    if personal:
        proposal.notes.append(f"left out as personal data: {', '.join(personal)}")
    rest = [c.path for c in found if c.path not in personal]
    last = [p.rsplit(".", 1)[-1] for p in rest]
    rest = [p for place, p in enumerate(rest) if last[place] not in last[:place]]
    if len(rest) > MOST_PROPERTIES:
        proposal.notes.append(
            f"{len(rest) - MOST_PROPERTIES} further columns are left out: {rest[MOST_PROPERTIES]}, …"
        )
    return rest[:MOST_PROPERTIES]


def _is_personal(column: Column) -> bool:
    texts = [v for v in column.samples[:100] if isinstance(v, str)]
    return bool(PERSONAL.search(normalized(column.path))) or (
        bool(texts) and sum(PERSONAL_VALUE.fullmatch(t) is not None for t in texts) > len(texts) / 2
    )


def _first_unique(columns: Mapping[str, Column], rows: int, roles: Mapping[str, str]) -> str | None:
    taken = set(roles.values())
    return next((p for p, c in columns.items() if p not in taken and c.is_unique and c.filled == rows), None)


def _columns(section: Mapping[str, Any]) -> list[str]:
    return [v["column"] if isinstance(v, dict) else v for v in section.values() if isinstance(v, str | dict)]
