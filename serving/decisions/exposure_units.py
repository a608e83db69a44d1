"""Units exposed to the arms of one experiment: each once, in bounded memory, of all workers together."""

from __future__ import annotations

import secrets
import threading
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash

from feature_repo.arrays import Bits
from feature_repo.files import write_file

MAX_UNITS = 100_000
SUFFIX = ".units"
_ARM_BITS = 16
_ARM = (1 << _ARM_BITS) - 1


class Tally(NamedTuple):
    """Units counted.

    Attributes:
        counts: units by arm.
        halvings: how often every second unit was given up; from then on this is another sample.
    """

    counts: dict[str, int]
    halvings: int


class _Kept:
    """A sample: replaced as a whole when it is halved, so that who writes it down never sees half of that.

    Attributes:
        mask: bits that a unit's code must not have.
        entries: code and, in the lowest bits, number of the arm; in order of first sight.
        codes: of the entries.
    """

    __slots__ = ("codes", "entries", "mask")

    def __init__(self, mask: int = 0, entries: Sequence[int] = ()) -> None:
        self.mask = mask
        self.entries = array("Q", entries)
        self.codes = {entry >> _ARM_BITS for entry in entries}

    def halved(self) -> _Kept:
        """Every second unit of it."""
        mask = self.mask * 2 + 1
        return _Kept(mask, _kept_by(mask, np.array(self.entries)).tolist())


class Units:
    """Units by arm of one experiment.

    Beyond `MAX_UNITS` a hash keeps every second unit, then every fourth, and so on: what is kept stays a fair
    sample of the units. A unit's code is the same in every worker, so one that several saw counts once.

    Args:
        name: of the experiment.
        weights: relative size of each arm, as declared; one of no weight holds nobody.
    """

    def __init__(self, name: str, weights: Mapping[str, float]) -> None:
        self.weights = dict(weights)
        self._arms = sorted(arm for arm, weight in self.weights.items() if weight > 0.0)
        self._numbers = {arm: number for number, arm in enumerate(self._arms)}
        declared = repr((name, sorted(self.weights.items())))
        self._prefix = f"{xxhash.xxh3_64_hexdigest(declared.encode())}_"
        self._file = f"{self._prefix}{secrets.token_hex(8)}{SUFFIX}"
        self._kept = _Kept()
        self._shared: _Kept | None = None
        self._shared_entries = 0
        self._sharing = threading.Lock()

    def see(self, unit: str, arm: str) -> None:
        """A unit was exposed to an arm; the first arm it is seen in counts."""
        number = self._numbers.get(arm)
        if number is None:
            return
        code = xxhash.xxh3_64_intdigest(unit.encode()) >> _ARM_BITS
        kept = self._kept
        if code & kept.mask or code in kept.codes:
            return
        kept.codes.add(code)
        kept.entries.append(code << _ARM_BITS | number)
        if len(kept.entries) > MAX_UNITS:
            self._kept = kept.halved()

    def share(self, folder: Path) -> None:
        """Add what is new to this worker's file, for the others to read.

        Raises:
            OSError: it cannot be written; the next time it is written whole.
        """
        with self._sharing:
            kept, path = self._kept, folder / self._file
            whole = kept is not self._shared
            entries = kept.entries[0 if whole else self._shared_entries :]
            if not entries:
                return
            self._shared = None
            if whole:
                write_file(path, array("Q", [kept.mask]).tobytes() + entries.tobytes())
                self._shared_entries = 0
            else:
                with path.open("ab") as file:
                    file.write(entries.tobytes())
            self._shared, self._shared_entries = kept, self._shared_entries + len(entries)

    def tally(self) -> Tally:
        """What this worker saw."""
        kept = self._kept
        return self._tally(kept.mask, np.array(kept.entries[:]))

    def tally_of_all(self, folder: Path) -> Tally:
        """What the workers saw that share a folder, those that ended included.

        Raises:
            OSError: it cannot be read, or this worker's part not be written.
        """
        self.share(folder)
        tables = [_table(path) for path in sorted(folder.glob(f"{self._prefix}*{SUFFIX}"))]
        mask = max((int(table[0]) for table in tables), default=0)
        return self._tally(mask, np.concatenate([np.zeros(0, np.uint64), *(table[1:] for table in tables)]))

    def _tally(self, mask: int, entries: Bits) -> Tally:
        kept = _kept_by(mask, entries)
        _, first = np.unique(kept >> _ARM_BITS, return_index=True)
        found = np.bincount((kept[first] & _ARM).astype(np.intp), minlength=len(self._arms))
        return Tally(dict(zip(self._arms, found.tolist(), strict=True)), mask.bit_length())


def _kept_by(mask: int, entries: Bits) -> Bits:
    kept: Bits = entries[(entries >> _ARM_BITS) & mask == 0]
    return kept


def _table(path: Path) -> Bits:
    """A worker's mask and entries; one that is just being added may be cut off."""
    raw = path.read_bytes()
    return np.frombuffer(raw[: len(raw) // 8 * 8], np.uint64)
