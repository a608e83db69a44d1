"""Where things lie under ``HEADRACE_HOME``: every path in one place."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from feature_repo.errors import SettingsError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True)
class Home:
    """The folder of everything written at run time. Properties never touch the disk; `ensure` does."""

    root: Path

    @property
    def log(self) -> Path:
        """Event log segments."""
        return self.root / "log"

    @property
    def lake(self) -> Path:
        """Parquet by kind and event day."""
        return self.root / "lake"

    @property
    def mappings(self) -> Path:
        """Copies of the mappings that files were ingested by."""
        return self.root / "mappings"

    @property
    def fetched(self) -> Path:
        """Remote files and query results, while they are ingested."""
        return self.root / "fetched"

    @property
    def quarantine(self) -> Path:
        """Rejected records with their reasons."""
        return self.root / "quarantine"

    @property
    def features(self) -> Path:
        """Batch builds, `features/<group>/v<version>/as_of=<time>/`."""
        return self.root / "features"

    @property
    def feast(self) -> Path:
        """Feast's registry, the SQLite online store and the generated `feature_store.yaml`."""
        return self.root / "feast"

    @property
    def stream(self) -> Path:
        """Recovery store of the session flow."""
        return self.root / "stream"

    @property
    def models(self) -> Path:
        """Fitted blends and their gate figures."""
        return self.root / "models"

    @property
    def flags(self) -> Path:
        """Run-time flags, their history and audit log."""
        return self.root / "flags"

    @property
    def last_good(self) -> Path:
        """Copies of the items, blend, flags and rules that served last: their own folders may be gone."""
        return self.root / "last_good"

    @property
    def decisions(self) -> Path:
        """Return the file of time marks: positions of the decision log by time."""
        return self.root / "decisions"

    @property
    def metrics(self) -> Path:
        """Metrics that serving's workers share."""
        return self.root / "metrics"

    @property
    def dagster(self) -> Path:
        """Dagster's own home."""
        return self.root / "dagster"

    @property
    def docs(self) -> Path:
        """Data Docs and other built pages."""
        return self.root / "docs"

    @property
    def quality(self) -> Path:
        """The gate's state, proposed and accepted bounds, drift and parity figures."""
        return self.root / "quality"

    @property
    def runs(self) -> Path:
        """Reports of evaluations, demos and benchmarks."""
        return self.root / "runs"

    def ensure(self) -> Home:
        """Create the root, prove it writable, and close it to other users of the machine.

        Raises:
            SettingsError: the folder cannot be made or written; names it and the variable.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
            close_to_others(self.root)
        except OSError as error:
            msg = (
                f"HEADRACE_HOME={self.root}: not writable ({error.strerror}); "
                "point HEADRACE_HOME at a folder this user may write to"
            )
            raise SettingsError(msg) from error
        return self


FOLDERS = (
    *(name for name, value in vars(Home).items() if isinstance(value, property)),
    *("logs", "spill", "training"),
)
"""Names of the folders that Headrace makes below a home."""


def keep_private() -> None:
    """Make files of this process and its children readable by their owner only. Entry points call it first.

    A umask reaches what no argument of ours does: files that DuckDB, SQLite, Arrow, Bytewax and Dagster make.
    """
    os.umask(0o077)


def close_to_others(root: Path) -> None:
    """Take the rights of group and others from a home; the first time, from what is ours below it too.

    A folder that others share by intent (``/tmp``), or that is not ours to change (a mounted volume), stays
    as it is: what is written there is private by `keep_private`.
    """
    mode = root.stat().st_mode
    if not mode & _OTHERS or mode & stat.S_ISVTX:
        return
    try:
        root.chmod(stat.S_IMODE(mode) & ~_OTHERS)
    except OSError:
        return
    for ours in FOLDERS:
        for folder, _, names in os.walk(root / ours):
            for path in [folder, *(os.path.join(folder, name) for name in names)]:
                with suppress(OSError):
                    if not os.path.islink(path):
                        os.chmod(path, stat.S_IMODE(os.lstat(path).st_mode) & ~_OTHERS)
