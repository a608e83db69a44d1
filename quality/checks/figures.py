"""Drift and parity figures, stored as JSON and exposed as Prometheus metrics by any process."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from feature_repo.errors import LakeError
from feature_repo.files import write_file
from quality.checks.results import CheckReport

logger = logging.getLogger(__name__)

Kind: TypeAlias = Literal["drift", "parity"]


@dataclass(frozen=True)
class Figures:
    """Measurements of one group in one run.

    Attributes:
        values: feature → measure → value.
        failing: features outside their bounds.
    """

    group: str
    measured: datetime
    values: dict[str, dict[str, float]]
    failing: tuple[str, ...] = ()


def save_figures(root: Path, kind: Kind, figures: Figures) -> Path:
    """Replace a group's stored figures; `root` is `Home.quality`."""
    path = root / kind / f"{figures.group}.json"
    write_file(path, msgspec.json.encode(figures), parents=True)
    return path


def load_figures(root: Path, kind: Kind) -> list[Figures]:
    """Load the stored figures of a kind, by group.

    Raises:
        LakeError: a file is damaged; names it.
    """
    found = []
    for path in sorted((root / kind).glob("*.json")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Figures))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            msg = f"{path}: not figures of {kind} ({error}); remove it; the next run writes it again"
            raise LakeError(msg) from error
    return found


def failing_features(report: CheckReport) -> tuple[str, ...]:
    """List the features with a failed result, each once, without the group before the dot."""
    return tuple(dict.fromkeys(re.sub(r"^.*\.", "", r.column) for r in report.failures if r.column))


class FiguresCollector(Collector):
    """Collects ``headrace_drift`` and ``headrace_parity`` per group, feature and measure; counts failures."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def collect(self) -> Iterator[Metric]:
        """Read the files at each scrape."""
        kinds: tuple[tuple[Kind, str], ...] = (
            ("drift", "Distance of a feature from its reference window."),
            ("parity", "Difference of served features from recomputed ones."),
        )
        for kind, text in kinds:
            values = GaugeMetricFamily(f"headrace_{kind}", text, labels=["group", "feature", "measure"])
            failing = GaugeMetricFamily(
                f"headrace_{kind}_failing", f"Features outside their bounds of {kind}.", labels=["group"]
            )
            for figures in self._figures(kind):
                failing.add_metric([figures.group], len(figures.failing))
                for feature, measures in figures.values.items():
                    for measure, value in measures.items():
                        values.add_metric([figures.group, feature, measure], value)
            yield from (values, failing)

    def _figures(self, kind: Kind) -> list[Figures]:
        """Load the figures; a damaged file must not take down the process's other metrics."""
        try:
            return load_figures(self._root, kind)
        except LakeError as error:
            logger.warning("no metrics of %s: %s", kind, error)
            return []
