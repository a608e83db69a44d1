"""The lake's position in the log: a small file, always replaced as a whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from feature_repo.errors import LakeError
from feature_repo.files import write_file
from streaming.log import Position


@dataclass(frozen=True)
class SyncState:
    """The progress of the sync.

    Attributes:
        positions: position by partition of the log.
        ingested_at: timestamp of the newest rows.
    """

    positions: dict[int, Position]
    ingested_at: datetime

    @classmethod
    def load(cls, path: Path) -> SyncState:
        """Read the file; without a file, start at the very beginning.

        Raises:
            LakeError: the file is damaged.
        """
        try:
            fields = json.loads(path.read_text())
            return cls(
                {int(n): position for n, position in fields["positions"].items()},
                datetime.fromisoformat(fields["ingested_at"]),
            )
        except FileNotFoundError:
            return cls({}, datetime.min.replace(tzinfo=UTC))
        except (ValueError, KeyError) as error:
            msg = f"{path}: damaged ({error}); delete it: the log is then read again from its start"
            raise LakeError(msg) from error

    def save(self, path: Path) -> None:
        """Replace the file as a whole."""
        fields = {"positions": self.positions, "ingested_at": self.ingested_at.isoformat()}
        write_file(path, json.dumps(fields))

    def later(self, now: datetime) -> datetime:
        """Return now, or the next microsecond after `ingested_at` if the clock stopped or went back."""
        return max(now, self.ingested_at + timedelta(microseconds=1))
