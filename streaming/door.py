"""The door: records from outside, one or a batch, validated, then into the log; the rest into quarantine."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from prometheus_client import Counter as Metric

from feature_repo.contract import Contract, Kind, encode
from feature_repo.errors import ContractError
from quality.quarantine import Quarantine
from streaming.log import EventLog, Keyed, key_of

ACCEPTED = Metric("headrace_accepted_records_total", "Records that came through the door.", ["kind"])
UNKNOWN_FIELDS = Metric(
    "headrace_unknown_fields_total", "Fields the contract does not know, kept as text.", ["kind", "field"]
)
_NAMES_COUNTED = 200
_named: set[tuple[str, str]] = set()


def count_unknown(kind: Kind, names: Sequence[str]) -> None:
    """Count fields the contract does not know; beyond 200 names they are counted as ``other``.

    Hand it to `Contract` as ``on_unknown``.
    """
    for name in names:
        key = (kind, name.encode("utf-8", "replace").decode())
        if key not in _named and len(_named) >= _NAMES_COUNTED:
            key = (kind, "other")
        else:
            _named.add(key)
        UNKNOWN_FIELDS.labels(*key).inc()


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record that was not accepted: its index in the batch, and the reason."""

    index: int
    code: str
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class DoorResult:
    """How many records were accepted, and those that were not."""

    accepted: int
    rejected: tuple[Rejection, ...]


class EventDoor:
    """Validates, publishes, quarantines. Safe to call from several threads.

    Args:
        contract: validates.
        log: takes accepted records.
        quarantine: takes rejected ones.
    """

    def __init__(self, contract: Contract, log: EventLog, quarantine: Quarantine) -> None:
        self._contract = contract
        self._log = log
        self._quarantine = quarantine

    def accept(
        self, raws: Sequence[bytes | Mapping[str, Any]], source: str, kind: Kind | None = None
    ) -> DoorResult:
        """Take a batch. The good ones are in the log when this returns, whatever the others are.

        Args:
            raws: JSON texts or decoded objects.
            source: where they come from, for the quarantine (``http``).
            kind: where all are of one kind; else each says what it is.

        Raises:
            LogError: nothing was acknowledged; the same batch may be sent again.
        """
        keyed: list[Keyed] = []
        kinds: Counter[str] = Counter()
        refused: list[tuple[int, ContractError]] = []
        for index, raw in enumerate(raws):
            try:
                record = self._contract.parse(raw, kind)
                encoded = encode(record)
            except ContractError as error:
                refused.append((index, error))
                continue
            except UnicodeEncodeError as error:
                refused.append((index, ContractError("not_utf8", "", f"not Unicode text: {error}")))
                continue
            keyed.append((key_of(record), encoded))
            kinds[record.kind] += 1
        if keyed:
            self._log.publish(keyed)
        for index, reason in refused:
            self._quarantine.put(_bytes(raws[index]), source, None, reason, kind=kind)
        for name, count in kinds.items():
            ACCEPTED.labels(name).inc(count)
        return DoorResult(len(keyed), tuple(Rejection(i, e.code, e.field, str(e)) for i, e in refused))


def _bytes(raw: bytes | Mapping[str, Any]) -> bytes:
    if isinstance(raw, bytes):
        return raw
    try:
        return msgspec.json.encode(dict(raw), enc_hook=str)
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can hold only as an escape
        return json.dumps(dict(raw), default=str).encode()
