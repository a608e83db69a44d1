"""The graph of the flow: event log → session fold → user fold → online store.

State is keyed by partition, not by session: a shard holds its sessions as bytes and writes what changed into
a file of its own at each epoch's end, while Bytewax's recovery keeps the log positions. A shard's file is
written before Bytewax commits the position of the same epoch, so after a crash state is level with the
position or ahead of it, never behind, and the fold takes no event twice (docs/adr/0020).
"""

from __future__ import annotations

from dataclasses import replace

import xxhash
from bytewax import operators as op
from bytewax.dataflow import Dataflow

from feature_repo.clock import EPOCH
from feature_repo.group import USER
from feature_repo.groups import batch_groups
from feature_repo.online.consent_rows import COMPLETE, CONSENT, consent_rows
from feature_repo.online.rows import encode_rows
from streaming.dataflow.log_source import EventLogSource, part_name
from streaming.dataflow.operators import FlowParts, SessionLogic, UserLogic
from streaming.dataflow.store_sink import OnlineSink
from streaming.dataflow.store_writer import WriteJob, jobs_by_group
from streaming.sessions.messages import Changes, Chunk
from streaming.sessions.user_fold import Contribution
from streaming.sessions.user_shard import UserNews

_EVENT, _FACTS = b'{"record":"event"', (b'"user"', b'"item"')


def build_flow(parts: FlowParts) -> Dataflow:
    """The flow over given parts: the same for live, backfill, tests and benchmarks."""
    count = parts.log.partitions
    flow = Dataflow("sessions")
    source = EventLogSource(parts.log, parts.source, parts.stop, parts.monotonic)
    source = replace(
        source,
        state_position=parts.state_position,
        resume_position=parts.resume_position,
        from_state=parts.from_state,
    )
    chunks = op.input("log", flow, source)
    keyed = op.flat_map("by_partition", chunks, lambda chunk: spread(chunk, count))
    changes = op.stateful_batch("sessions", keyed, lambda resume: SessionLogic(parts, resume))
    news = op.flat_map("by_user", changes, lambda keyed: news_of(keyed[1], int(keyed[0]), count))
    users = op.stateful_batch("users", news, lambda resume: UserLogic(parts, resume))
    rows = op.flat_map(
        "rows", changes, lambda keyed: [(keyed[0], job) for job in jobs_of(parts, int(keyed[0]), keyed[1])]
    )
    jobs = op.merge("jobs", rows, users)
    op.output("store", jobs, OnlineSink(tuple(part_name(n) for n in range(count)), parts.sink))
    return flow


def spread(chunk: Chunk, partitions: int) -> list[tuple[str, Chunk]]:
    """A chunk to its own shard, and what it says of users and items to all: sessions anywhere may need it.

    Our own events are told by how they begin. Others write JSON in their own way: any record that may be of a
    user or an item goes to all, and a shard decodes it.
    """
    found = [(part_name(chunk.partition), chunk)]
    strange = [raw for raw in chunk.records if not raw.startswith(_EVENT)]
    if heard := tuple(raw for raw in strange if any(kind in raw for kind in _FACTS)):
        others = (n for n in range(partitions) if n != chunk.partition)
        found += [(part_name(n), Chunk(n, [], heard=heard)) for n in others]
    return found


def news_of(changes: Changes, partition: int, shards: int) -> list[tuple[str, UserNews]]:
    """Contributions by user shard; a tick goes to the shard of the partition's own number."""
    found: dict[int, list[Contribution]] = {}
    for contribution in changes.contributions:
        shard = xxhash.xxh64_intdigest(contribution.user_id.encode()) % shards
        found.setdefault(shard, []).append(contribution)
    tick = changes.heartbeat is not None
    if tick:
        found.setdefault(partition, [])
    return [
        (
            part_name(shard),
            UserNews(shard, listed, tick and shard == partition, changes.horizon_us, changes.rewrite),
        )
        for shard, listed in found.items()
    ]


def jobs_of(parts: FlowParts, partition: int, changes: Changes) -> list[WriteJob]:
    """What the store is to do: long-term profiles of those who withdrew consent go at once.

    A denial replaces what is stored whatever the clock says, which may have gone back since.
    """
    if changes.heartbeat is not None:
        parts.metrics.observe(changes.heartbeat)
    sessions = jobs_by_group(partition, parts.tools.sessions, changes.rows, changes.deleted)
    sessions[-1] = replace(sessions[-1], heartbeat=changes.heartbeat)
    if changes.restated or changes.complete:
        return [*restating(parts, partition, changes), *stating(parts, partition, changes), *sessions]
    if not changes.consents:
        return sessions
    return [*stating(parts, partition, changes), *sessions]


def stating(parts: FlowParts, partition: int, changes: Changes) -> list[WriteJob]:
    """What records of users state, and what follows for their profiles."""
    stated = encode_rows(CONSENT, consent_rows(changes.consents, parts.tools.clock()))
    denying = [user_id for user_id, permitted in changes.consents.items() if permitted is False]
    return [
        WriteJob(partition, CONSENT, stated, denying),
        *_without_profiles(partition, denying),
    ]


def restating(parts: FlowParts, partition: int, changes: Changes) -> list[WriteJob]:
    """What an emptied store is told again, and that it is complete.

    A denial is as new as can be. Consent is as old as can be: whatever else the store was told of the user
    meanwhile is newer than what this process knows.
    """
    denying = {user_id: said for user_id, said in changes.restated.items() if said is False}
    giving = {user_id: said for user_id, said in changes.restated.items() if said is True}
    rows = [*consent_rows(denying, parts.tools.clock()), *consent_rows(giving, EPOCH)]
    marks = {COMPLETE: b"1"} if changes.complete else {}
    return [
        *_without_profiles(partition, list(denying)),
        WriteJob(partition, CONSENT, encode_rows(CONSENT, rows), marks=marks),
    ]


def _without_profiles(partition: int, users: list[str]) -> list[WriteJob]:
    """Delete what batch groups hold of users."""
    groups = batch_groups().values()
    return [WriteJob(partition, group, deleted=users) for group in groups if group.entity is USER]
