"""The embedded event log: segment files in ``HEADRACE_HOME/log``. No server, many writers."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from threading import Lock, Timer
from typing import Literal

from feature_repo.errors import LogError
from feature_repo.files import write_file
from streaming.log.partition import Partition
from streaming.log.protocol import Batch, Keyed, PartlyWrittenError, Position, partition_of

_logger = logging.getLogger(__name__)

FSYNC_EVERY_S = 1.0
FsyncPolicy = Literal["always", "interval", "never"]


class SegmentLog:
    """An `EventLog` of append-only files.

    Args:
        folder: folder of this log; created at the first write.
        partitions: fixed at the first write.
        fsync: ``always``: an acknowledged batch survives a power cut. ``interval``: all but at most the last
            second does. ``never``: the operating system decides. With every policy, an acknowledged batch
            survives the death of the process.
        segment_bytes: size at which a new file is started.
    """

    def __init__(
        self, folder: Path, partitions: int, fsync: FsyncPolicy = "interval", segment_bytes: int = 64 << 20
    ) -> None:
        self._folder = folder
        self._fsync = fsync
        self._timer: Timer | None = None
        self._timing = Lock()
        self._partitions = [Partition(folder / f"p={n:04d}", segment_bytes) for n in range(partitions)]
        self._check_partitions()

    @property
    def partitions(self) -> int:
        """Number of partitions."""
        return len(self._partitions)

    def publish(self, records: Sequence[Keyed]) -> None:
        """Append a batch; see `EventLog.publish`."""
        if not self._meta.exists():  # also if the log was deleted meanwhile
            self._remember_partitions()
        count = len(self._partitions)
        batches: dict[int, list[bytes]] = {}
        for key, payload in records:
            batches.setdefault(partition_of(key, count), []).append(payload)
        written = 0
        try:
            for number, payloads in sorted(batches.items()):
                self._partitions[number].append(payloads)
                written += len(payloads)
            if self._fsync == "always":
                for number in batches:
                    self._partitions[number].force()
        except LogError as error:
            if written:
                raise PartlyWrittenError(error, written, len(records)) from error
            raise
        if self._fsync == "interval":
            self._force_soon()

    def read(self, partition: int, position: Position, limit: int) -> Batch:
        """Read at most `limit` records after a position."""
        return self._partitions[partition].read(position, limit)

    def start(self, partition: int) -> Position:
        """Return the position of the oldest record."""
        return self._partitions[partition].start()

    def end(self, partition: int) -> Position:
        """Return the position after the newest record."""
        return self._partitions[partition].end()

    def trim(self, older_than: timedelta) -> int:
        """Remove segments last written longer ago than this; return how many."""
        return sum(p.trim(older_than) for p in self._partitions)

    def close(self) -> None:
        """Sync pending data and close the files."""
        with self._timing:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        for partition in self._partitions:
            partition.close()

    def _force_soon(self) -> None:
        with self._timing:
            if self._timer is None:
                self._timer = Timer(FSYNC_EVERY_S, self._force_all)
                self._timer.daemon = True
                self._timer.start()

    def _force_all(self) -> None:
        with self._timing:
            self._timer = None
        for partition in self._partitions:
            try:
                partition.force()
            except LogError as error:  # no caller can handle it; the sync stays due and is retried
                _logger.error("%s", error)

    @property
    def _meta(self) -> Path:
        return self._folder / "log.json"

    def _check_partitions(self) -> None:
        should = f'it should hold {{"partitions": {self.partitions}}}, or as many as the log was made with'
        try:
            known = json.loads(self._meta.read_text())["partitions"]
        except (FileNotFoundError, NotADirectoryError) as error:
            if any(self._folder.glob("p=*/*.seg")):
                msg = f"{self._meta}: missing, but there are partitions beside it; {should}"
                raise LogError(msg) from error
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            msg = f"{self._meta}: unreadable ({error}); {should}"
            raise LogError(msg) from error
        if known != self.partitions:
            msg = (
                f"event log {self._folder} has {known} partitions; HEADRACE_LOG_PARTITIONS={self.partitions} "
                f"does not fit: set HEADRACE_LOG_PARTITIONS={known}, or start a new HEADRACE_HOME"
            )
            raise LogError(msg)

    def _remember_partitions(self) -> None:
        """Save the number before the first record, synced to disk: with another one, sessions would move."""
        try:
            write_file(self._meta, json.dumps({"partitions": self.partitions}), parents=True)
        except OSError as error:
            why = f"{error.strerror}; point HEADRACE_HOME at a folder this user may write to"
            msg = f"event log {self._folder}: cannot write; {why}"
            raise LogError(msg) from error
