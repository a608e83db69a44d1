"""A user's sessions of the last day, joined. Pure: bytes in, bytes out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from feature_repo.groups.session_profile import Profile, SessionRules
from feature_repo.groups.user_recent import WINDOW
from feature_repo.online import EncodedRow
from feature_repo.online.row_encoder import RowEncoder

SESSIONS = 50
"""Sessions kept per user; beyond them the oldest go."""
_WINDOW_US = int(WINDOW.total_seconds() * 1e6)

_encoder = msgspec.msgpack.Encoder()
_profile = msgspec.msgpack.Decoder(Profile)


class Contribution(Struct, frozen=True, array_like=True, gc=False):
    """What one session says of one user.

    Attributes:
        started_us: with the session id, names the run; a later contribution of the same run replaces it.
        profile: the encoded profile; `None` takes the run back; for an empty session id, all of the
            user's runs.
    """

    user_id: str
    session_id: str = ""
    started_us: int = 0
    last_us: int = 0
    profile: bytes | None = None


class _Run(Struct, array_like=True, gc=False):
    last_us: int
    profile: bytes


class _Held(Struct, array_like=True, gc=False):
    last_us: int
    runs: dict[str, _Run] = {}


_held = msgspec.msgpack.Decoder(_Held)


@dataclass(slots=True)
class UserChanges:
    """Each user's row in each group of users, in the order of these groups, and users to delete."""

    rows: list[EncodedRow] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)


def apply(raw: bytes | None, contributions: Iterable[Contribution]) -> bytes | None:
    """A user's held state after contributions, in whatever order; `None` when nothing is left."""
    held = _held.decode(raw) if raw is not None else _Held(0)
    for contribution in contributions:
        if contribution.profile is None:
            if contribution.session_id:
                held.runs.pop(_name(contribution), None)
            else:
                held.runs.clear()
            continue
        held.runs[_name(contribution)] = _Run(contribution.last_us, contribution.profile)
    if not held.runs:
        return None
    held.last_us = max(run.last_us for run in held.runs.values())
    horizon = held.last_us - _WINDOW_US
    if len(held.runs) > SESSIONS or any(run.last_us < horizon for run in held.runs.values()):
        newest = sorted(held.runs.items(), key=lambda entry: (-entry[1].last_us, entry[0]))[:SESSIONS]
        held.runs = {name: run for name, run in newest if run.last_us >= horizon}
    return _encoder.encode(held)


def _name(contribution: Contribution) -> str:
    return f"{contribution.started_us}/{contribution.session_id}"


def rows_of(user_id: str, raw: bytes, rules: SessionRules, groups: Iterable[RowEncoder]) -> list[EncodedRow]:
    """The online row of a user's held state in each of the groups."""
    held = _held.decode(raw)
    profiles = [_profile.decode(run.profile) for run in held.runs.values()]
    return [group.encode(user_id, held.last_us, profiles, rules) for group in groups]
