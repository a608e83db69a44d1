"""The door: validates records from outside, writes good ones to the log and the rest to quarantine."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import Counter as Metric

from feature_repo.contract.json_batch import Given, Refused, as_json
from feature_repo.contract.validation import Contract, Kind, Record, as_permitted, encode
from feature_repo.errors import ContractError, LakeError
from quality.quarantine.store import NOT_KEPT, Quarantine
from streaming.ingest.denials import Denying, denying, nobody
from streaming.log import EventLog, Keyed, key_of

_logger = logging.getLogger(__name__)

ACCEPTED = Metric("headrace_accepted_records_total", "Records that came through the door.", ["kind"])
UNKNOWN_FIELDS = Metric(
    "headrace_unknown_fields_total",
    "Fields outside the contract, kept as properties or attributes.",
    ["kind"],
)


def count_unknown(kind: Kind, names: Sequence[str]) -> None:
    """Count fields outside the contract. Metrics do not contain their names, which clients choose.

    Pass it to `Contract` as ``on_unknown``.
    """
    UNKNOWN_FIELDS.labels(kind).inc(len(names))


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rejected record: its index in the batch, and the reason."""

    index: int
    code: str
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class DoorResult:
    """The number of accepted records, and the rejected ones.

    Attributes:
        unkept: how many rejected records the quarantine could not keep.
    """

    accepted: int
    rejected: tuple[Rejection, ...]
    unkept: int = 0


class EventDoor:
    """Validates, publishes and quarantines records. Thread-safe.

    Args:
        contract: validates records.
        log: receives accepted records.
        quarantine: receives rejected records.
        known: finds users who deny consent; the log does not keep their queries.
    """

    def __init__(
        self, contract: Contract, log: EventLog, quarantine: Quarantine, known: Denying = nobody
    ) -> None:
        self._contract = contract
        self._log = log
        self._quarantine = quarantine
        self._known = known

    def accept(self, raws: Sequence[Given], source: str, kind: Kind | None = None) -> DoorResult:
        """Accept a batch. On return, the good records are in the log, whatever the others are.

        Args:
            raws: JSON texts, decoded objects, or records already refused; the latter go to quarantine.
            source: the records' origin, for the quarantine (``http``).
            kind: the kind of all records; if absent, each record names its own.

        Raises:
            LogError: nothing was acknowledged; the same batch may be sent again.
        """
        keyed: list[Keyed] = []
        records: list[Record] = []
        kinds: Counter[str] = Counter()
        refused: list[tuple[int, ContractError]] = []
        for index, raw in enumerate(raws):
            if isinstance(raw, Refused):
                refused.append((index, raw.error))
                continue
            try:
                record = self._contract.parse(raw, kind)
                encoded = encode(record)
            except ContractError as error:
                refused.append((index, error))
                continue
            keyed.append((key_of(record), encoded))
            records.append(record)
            kinds[record.kind] += 1
        if denied := denying(records, self._known):
            keyed = [(key_of(r), encode(as_permitted(r, denied))) for r in records]
        if keyed:
            self._log.publish(keyed)
        for name, count in kinds.items():
            ACCEPTED.labels(name).inc(count)
        unkept = sum(not self._keep(raws[i], source, error, kind) for i, error in refused)
        rejected = tuple(Rejection(i, e.code, e.field, str(e)) for i, e in refused)
        return DoorResult(len(keyed), rejected, unkept)

    def _keep(self, raw: Given, source: str, reason: ContractError, kind: Kind | None) -> bool:
        """Put a rejected record into quarantine; return whether that worked. Its batch is in the log."""
        fmt = raw.format if isinstance(raw, Refused) else "headrace"
        try:
            self._quarantine.put(_bytes(raw), source, None, reason, fmt=fmt, kind=kind)
        except (LakeError, OSError) as error:
            NOT_KEPT.labels("disk").inc()
            _logger.error("a rejected record is not kept: %s", error)
            return False
        return True


def _bytes(raw: Given) -> bytes:
    if isinstance(raw, Refused):
        return raw.raw
    return raw if isinstance(raw, bytes) else as_json(dict(raw))
