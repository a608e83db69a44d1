"""Where things lie under ``HEADRACE_HOME``: every path in one place."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from feature_repo.errors import SettingsError


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
        """Where the log of decisions stood when."""
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
        """Create the root and prove it writable.

        Raises:
            SettingsError: the folder cannot be made or written; names it and the variable.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            msg = (
                f"HEADRACE_HOME={self.root}: not writable ({error.strerror}); "
                "point HEADRACE_HOME at a folder this user may write to"
            )
            raise SettingsError(msg) from error
        return self
