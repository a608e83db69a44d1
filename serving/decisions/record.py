"""The decision record: all that made one answer, enough to make it again. Ids of people are hashed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, TypeAlias

import msgspec
import xxhash
from msgspec import Meta, Raw, Struct

from serving.control.flags import Flags, version_of
from serving.control.rules import Rules, relevant
from serving.decisions.hashing import hashed
from serving.pipeline.context import RankContext, Row
from serving.schemas.rank_request import Candidate
from serving.schemas.rank_response import Dropped, RankAnswer, RankedItem, Tier

TOPIC = "decisions"
"""Event log topic of the records; the key is the request id."""


UtcTime: TypeAlias = Annotated[datetime, Meta(tz=True)]


class UsedRow(Struct, frozen=True):
    """A feature row as it was used."""

    values: dict[str, Any]
    event_time: UtcTime
    cached: bool


class Versions(Struct, frozen=True):
    """What the answer was made with."""

    items: str | None
    blend: str | None
    flags: str


class Decision(Struct, frozen=True, kw_only=True):
    """One answer, its inputs and how it came about.

    Attributes:
        time: the moment ages refer to (event-time clock).
        user, session: hashed ids.
        withheld: fields of the request that are left out since consent was denied, or is not known.
        completed: stages that ran to their end; only these are run again in a replay.
        seed: what exploration drew from: the request id.
    """

    record: str = "decision"
    request_id: str
    time: UtcTime
    user: str | None
    session: str | None
    query: str | None
    candidates: list[Candidate]
    limit: int | None
    explain: bool
    features: dict[str, UsedRow]
    flags: Flags
    rules: Rules
    versions: Versions
    arms: dict[str, str]
    held_out: bool
    seed: str
    completed: list[str]
    tier: Tier
    degraded: list[str]
    ages: dict[str, float]
    timings_ms: dict[str, float]
    items: list[RankedItem]
    dropped: list[Dropped]
    withheld: list[str] = []

    @property
    def ranking(self) -> bytes:
        """What a replay must reproduce to the byte: items, tier and what was dropped."""
        return ranking_bytes(self.items, self.tier, self.dropped)


def ranking_bytes(items: list[RankedItem], tier: Tier, dropped: list[Dropped]) -> bytes:
    """The part of an answer that its inputs alone determine."""
    return msgspec.json.encode({"tier": tier, "items": items, "dropped": dropped})


class Answered(Struct, frozen=True, eq=False):
    """A request and what it was answered, as far as its record needs it.

    Attributes:
        items: of the answer, encoded.
        body: of the request.
    """

    context: RankContext
    answer: RankAnswer
    items: Raw
    body: bytes


def decision_of(context: RankContext, answer: RankAnswer, salt: str) -> Decision:
    """The record of an answer."""
    request, model = context.request, context.model
    withheld = withheld_of(context)
    return Decision(
        request_id=answer.request_id,
        time=context.now,
        user=None if "user" in withheld else _hashed(request.user_id, salt),
        session=None if "session" in withheld else _hashed(request.session_id, salt),
        query=None if "query" in withheld else request.query,
        candidates=request.candidates,
        limit=request.limit,
        explain=bool(request.explain),
        features={name: _used(row, salt) for name, row in context.rows.items()},
        flags=context.flags,
        rules=relevant(model.rules, context.item_ids),
        held_out=context.held_out,
        versions=Versions(
            items=None if model.snapshot is None else model.snapshot.version,
            blend=None if model.blend is None else model.blend.version,
            flags=version_of(context.flags),
        ),
        arms=context.arms,
        seed=answer.request_id,
        completed=context.completed,
        tier=answer.tier,
        degraded=answer.degraded,
        ages=answer.ages,
        timings_ms=answer.timings_ms,
        items=answer.items,
        dropped=answer.dropped,
        withheld=withheld,
    )


def withheld_of(context: RankContext) -> list[str]:
    """What a record must not keep of a request, unless consent is known to permit it: who asked, for what."""
    request = context.request
    personal = {"user": request.user_id, "session": request.session_id, "query": request.query}
    if context.consented or (request.user_id is None and request.session_id is None):
        return []
    return [name for name, value in personal.items() if value is not None]


def _hashed(value: str | None, salt: str) -> str | None:
    return None if value is None else hashed(value, salt)


def _used(row: Row, salt: str) -> UsedRow:
    values: Mapping[str, Any] = row.values
    known = dict(values)
    if isinstance(user := known.get("user_id"), str):
        known["user_id"] = hashed(user, salt)
    return UsedRow(known, row.event_time, row.cached)


class _Candidates(Struct):
    """The candidates as they stand in a request's body."""

    candidates: Raw


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Decision)
_body_decoder = msgspec.json.Decoder(_Candidates)


def encode_decision(decision: Decision) -> bytes:
    """Bytes of a record in the log."""
    return _encoder.encode(decision)


def record_of(made: Answered, salt: str) -> bytes:
    """Bytes of the record of an answer, for the log.

    Items and candidates are nearly all of it and were JSON already: copying them takes a tenth of the time of
    encoding them, in which no ranking could run. Of the body only the candidates go in: it names the user.
    """
    decision = decision_of(made.context, made.answer, salt)
    candidates = _body_decoder.decode(made.body).candidates
    fields = {**msgspec.structs.asdict(decision), "candidates": candidates, "items": made.items}
    return _encoder.encode(fields)


def decode_decision(raw: bytes) -> Decision:
    """Read a record back.

    Raises:
        msgspec.MsgspecError: the bytes are no such record, in whatever way.
    """
    try:
        return _decoder.decode(raw)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def sampled(request_id: str, share: float) -> bool:
    """Whether the answer to a request is recorded: decided by its id, so every worker decides alike."""
    return share >= 1.0 or xxhash.xxh3_64_intdigest(request_id.encode()) < share * 2**64
