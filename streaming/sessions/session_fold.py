"""The session fold made idempotent and order-proof, one session at a time. Pure: bytes in, bytes out.

An event is folded at once, so that it shows within milliseconds. What makes it safe to see it twice or late:

- Its id is remembered for the dedup horizon; a repeat changes nothing.
- Events within the allowed lateness of the session's newest are kept beside the profile, and so is the
  profile as it was before them (`base`). One that comes out of order is put in its place and the kept events
  are folded again onto `base`: the result equals the fold over the sorted events.
- One that is later than that is left out. But consent withdrawn within the dedup horizon counts, from now on.

Lateness is measured within a session: the delay of one device does not depend on what others send. An event
stamped ahead of the present counts as of when it came: else every true event after it would be late. A
session is held as bytes from one batch to the next: that makes snapshots and a million sessions cheap.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec
from msgspec import Struct, structs

from feature_repo.catalogue import ItemFacts
from feature_repo.groups.session_profile import Profile, SessionRules, Touch, step
from feature_repo.settings import Settings
from streaming.sessions.seen_ids import among, code_of, with_id

Outcome = Literal["folded", "duplicate", "late"]

RECENT_EVENTS = 256
"""Events kept per session for re-ordering; beyond them the oldest count as settled, however young."""
_SETTLE_EVERY = 32
_SECOND_US = 1_000_000


class Held(Struct, array_like=True, gc=False):
    """What is kept of a session between batches.

    Attributes:
        last_us: time of the newest event; first, so that `last_of` finds it without decoding the rest.
        live: the encoded profile, every event folded.
        base: the encoded profile before the `recent` events; empty if there was none.
        base_us, base_id: the newest event folded into `base`; nothing before it can be put in order any more.
        recent: encoded touches since, in order.
        seen: event ids folded within the dedup horizon: a hash of 8 bytes and the event time in seconds each.
    """

    last_us: int
    last_id: str
    live: bytes
    base: bytes = b""
    base_us: int = -(2**62)
    base_id: str = ""
    recent: list[bytes] = []
    seen: bytes = b""


@dataclass(frozen=True, slots=True)
class FoldRules:
    """Horizons of the fold, in microseconds, and the rules of the profile."""

    session: SessionRules
    lateness_us: int
    dedup_us: int
    ttl_us: int
    skew_us: int = 5_000_000

    @classmethod
    def of(cls, settings: Settings) -> FoldRules:
        """The rules of the settings."""
        return cls(
            SessionRules.of(settings),
            int(settings.allowed_lateness_s * 1e6),
            int(settings.dedup_horizon_s * 1e6),
            int(settings.session_ttl_s * 1e6),
            int(settings.clock_skew_s * 1e6),
        )


_encoder = msgspec.msgpack.Encoder()
_held = msgspec.msgpack.Decoder(Held)
_profile = msgspec.msgpack.Decoder(Profile)
_touch = msgspec.msgpack.Decoder(Touch)


def last_of(raw: bytes) -> int:
    """Time of a held session's newest event (µs), without decoding the session."""
    if raw[1] in (0xCF, 0xD3):  # the array's header is one byte, then a 64-bit integer
        return int.from_bytes(raw[2:10], "big", signed=True)
    return _held.decode(raw).last_us


def profile_of(raw: bytes) -> Profile:
    """The live profile of a held session."""
    return _profile.decode(_held.decode(raw).live)


class Session:
    """One session while a batch is folded into it.

    Args:
        raw: what `encode` returned last; `None` for a new session.
        catalogue: facts of items, for the profile's attributes and prices.

    Attributes:
        profile: every event folded.
        finished: profiles of this batch that another began after (a gap, another user), for `user_recent`.
        erased: ``(user, start)`` of profiles that are no more: consent was denied, or a late event moved
            a start.
    """

    __slots__ = ("_catalogue", "_held", "_rules", "erased", "finished", "profile")

    def __init__(self, raw: bytes | None, rules: FoldRules, catalogue: Mapping[str, ItemFacts]) -> None:
        self._rules = rules
        self._catalogue = catalogue
        self._held: Held | None = None
        self.profile: Profile | None = None
        self.finished: list[Profile] = []
        self.erased: list[tuple[str, int]] = []
        if raw is not None:
            self._held = _held.decode(raw)
            self.profile = _profile.decode(self._held.live)

    @property
    def last_us(self) -> int | None:
        """Time of the newest event; `None` before the first."""
        return None if self._held is None else self._held.last_us

    def fold(self, touch: Touch) -> Outcome:
        """Fold one event, in whatever order it comes.

        Raises:
            Exception: whatever the fold of a poison event raises; the session is as it was before.
        """
        code = code_of(touch.event_id)
        now, held = touch.time_us, self._held
        if held is None:
            self.profile = self._step(None, touch)
            self._held = held = Held(now, touch.event_id, b"")
            self._keep(held, touch, code)
            return "folded"
        if among(held.seen, code):
            return "duplicate"
        if now > held.last_us:  # the usual case, without the comparisons below
            self._advance(held, touch, code)
            return "folded"
        key = (now, touch.event_id)
        if now < held.last_us - self._rules.lateness_us or key <= (held.base_us, held.base_id):
            if touch.consent is False and now >= held.last_us - self._rules.dedup_us:
                self._deny(held, touch, code)
            return "late"
        if key > (held.last_us, held.last_id):
            self._advance(held, touch, code)
        else:
            self._insert(held, touch)
            self._know(held, touch, code)
        return "folded"

    def encode(self) -> bytes:
        """The session as bytes, for the next batch and for the recovery store."""
        assert self._held is not None
        self._held.live = _encoder.encode(self.profile)
        return _encoder.encode(self._held)

    @property
    def live(self) -> bytes:
        """The encoded profile, as of the last `encode`."""
        return b"" if self._held is None else self._held.live

    def _step(self, profile: Profile | None, touch: Touch) -> Profile:
        facts = None if touch.item_id is None else self._catalogue.get(touch.item_id)
        return step(profile, touch, facts, self._rules.session)

    def _advance(self, held: Held, touch: Touch, code: bytes) -> None:
        """Fold an event after all others."""
        if held.last_us < touch.time_us - self._rules.lateness_us:
            self._settle_all(held)
        self._append(held, touch)
        held.last_us, held.last_id = touch.time_us, touch.event_id
        self._keep(held, touch, code)

    def _append(self, held: Held, touch: Touch) -> None:
        before = self.profile
        try:
            self.profile = self._step(before, touch)
        except Exception:  # the step may have changed the profile half: build it again without this event
            self.profile = self._replay(held.base, map(_touch.decode, held.recent))
            raise
        if before is not None and before.user_id is not None and self.profile is not before:
            if self.profile.denied:
                self.erased.append((before.user_id, before.started_us))
            elif not before.denied:
                self.finished.append(before)

    def _deny(self, held: Held, touch: Touch, code: bytes) -> None:
        """Consent withdrawn late ends the session as of its newest event, unless it is another user's by now.

        Its id is remembered in either case, and not longer than it may count: read again it changes nothing.
        """
        denial = structs.replace(touch, time_us=held.last_us, event_id=f"{held.last_id}\x7f")
        user_id = None if self.profile is None else self.profile.user_id
        if touch.user_id is None or user_id is None or touch.user_id == user_id:
            self._append(held, denial)
            held.last_id = denial.event_id
            held.recent.append(_encoder.encode(denial))
        self._know(held, denial, code)

    def _insert(self, held: Held, touch: Touch) -> None:
        touches = [_touch.decode(raw) for raw in held.recent]
        insort(touches, touch, key=_order)
        before, self.profile = self.profile, self._replay(held.base, touches)
        if before is not None and before.user_id is not None and not before.denied:
            now = self.profile
            if (
                now is None
                or now.denied
                or (now.user_id, now.started_us) != (before.user_id, before.started_us)
            ):
                self.erased.append((before.user_id, before.started_us))
        held.recent = [_encoder.encode(t) for t in touches]

    def _replay(self, base: bytes, touches: Iterable[Touch]) -> Profile | None:
        profile = _profile.decode(base) if base else None
        for touch in touches:
            profile = self._step(profile, touch)
        return profile

    def _keep(self, held: Held, touch: Touch, code: bytes) -> None:
        held.recent.append(_encoder.encode(touch))
        self._know(held, touch, code)

    def _know(self, held: Held, touch: Touch, code: bytes) -> None:
        horizon_s = (held.last_us - self._rules.dedup_us) // _SECOND_US
        held.seen = with_id(held.seen, code, touch.time_us // _SECOND_US, horizon_s)
        if len(held.recent) >= _SETTLE_EVERY and len(held.recent) % _SETTLE_EVERY == 0:
            self._settle(held)

    def _settle_all(self, held: Held) -> None:
        """Nothing kept can be joined by a late event any more: the present profile becomes the base."""
        held.base = _encoder.encode(self.profile)
        held.base_us, held.base_id = held.last_us, held.last_id
        held.recent = []

    def _settle(self, held: Held) -> None:
        touches = [_touch.decode(raw) for raw in held.recent]
        horizon = held.last_us - self._rules.lateness_us
        settled = sum(1 for t in touches if t.time_us < horizon)
        settled = max(settled, len(touches) - RECENT_EVENTS)
        if settled > 0:
            held.base = _encoder.encode(self._replay(held.base, touches[:settled]))
            held.base_us, held.base_id = _order(touches[settled - 1])
            held.recent = held.recent[settled:]


def _order(touch: Touch) -> tuple[int, str]:
    return touch.time_us, touch.event_id
