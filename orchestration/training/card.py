"""The dataset card: the contents and inputs of a training set, for people and programs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from orchestration.training.spec import LABELS, TrainingSpec


@dataclass(frozen=True)
class Card:
    """Facts about one training set.

    Attributes:
        inputs: hash of the lake files, builds and settings used; equal inputs give an equal set.
        rows, requests: counts by split; `embargoed` rows belong to no split and are left out.
        unfinished: impressions left out because their attribution window was not over.
        unpermitted, unpermitted_events: impressions and other events left out because their user, or the
            event itself, does not permit personalization today.
        labels: share of positive rows, by label and split.
        sources: rows by group and source of the values (logged, point_in_time, fold, none).
    """

    created: datetime
    spec: TrainingSpec
    inputs: str
    first: datetime | None
    last: datetime | None
    validation_from: datetime
    test_from: datetime
    rows: Mapping[str, int]
    requests: Mapping[str, int]
    embargoed: int
    unfinished: int
    unpermitted: int
    unpermitted_events: int
    labels: Mapping[str, Mapping[str, float]]
    sources: Mapping[str, Mapping[str, int]]
    columns: int

    def save(self, folder: Path) -> None:
        """Write ``card.json`` and ``card.md``."""
        (folder / "card.json").write_bytes(msgspec.json.format(msgspec.json.encode(asdict(self)), indent=2))
        (folder / "card.md").write_text(self.markdown())

    def markdown(self) -> str:
        """Render the card as Markdown."""
        lines = [
            "# Training set",
            "",
            f"Made {self.created:%Y-%m-%d %H:%M} UTC from inputs `{self.inputs}`; {self.columns} columns.",
            f"Decisions {_day(self.first)} to {_day(self.last)}, labels within {self.spec.attribution}.",
            f"Validation from {_day(self.validation_from)}, test from {_day(self.test_from)}, "
            f"embargo {self.spec.embargo} ({self.embargoed:,} rows left out).",
            f"Lists left out because their labels may still arrive: {self.unfinished:,}.",
            f"Left out because personalization is not permitted today: {self.unpermitted:,} lists, "
            f"{self.unpermitted_events:,} other events.",
            "",
            "| split | decisions | rows | " + " | ".join(LABELS) + " |",
            "|---|---|---|" + "---|" * len(LABELS),
            *(self._split(name) for name in self.rows),
            "",
            "| group | " + " | ".join(self._kinds()) + " |",
            "|---|" + "---|" * len(self._kinds()),
            *(self._source(group) for group in self.sources),
            "",
            "The set contains unhashed user ids: protect the file like the events.",
            "",
        ]
        return "\n".join(lines)

    def _split(self, name: str) -> str:
        shares = " | ".join(f"{self.labels[label].get(name, 0):.2%}" for label in LABELS)
        return f"| {name} | {self.requests.get(name, 0):,} | {self.rows[name]:,} | {shares} |"

    def _kinds(self) -> list[str]:
        return sorted({kind for counts in self.sources.values() for kind in counts})

    def _source(self, group: str) -> str:
        counts: Mapping[str, Any] = self.sources[group]
        return f"| {group} | " + " | ".join(f"{counts.get(kind, 0):,}" for kind in self._kinds()) + " |"


def describe(con: duckdb.DuckDBPyConnection, sources: Mapping[str, str]) -> dict[str, Any]:
    """Compute a card's counted fields from the table ``labelled``.

    Args:
        sources: group → its source column.
    """
    rates = ", ".join(f"avg({label}::DOUBLE)" for label in LABELS)
    by_split = con.execute(
        f"SELECT split, count(*), count(DISTINCT request_id), {rates} FROM labelled "
        "WHERE split IS NOT NULL GROUP BY split ORDER BY min(decision_time)"
    ).fetchall()
    [(first, last, embargoed)] = con.execute(
        "SELECT min(decision_time), max(decision_time), count(*) FILTER (split IS NULL) FROM labelled"
    ).fetchall()
    counted = {
        name: dict(
            con.execute(
                f"SELECT {column}, count(*) FROM labelled WHERE split IS NOT NULL GROUP BY 1 ORDER BY 1"
            ).fetchall()
        )
        for name, column in sources.items()
    }
    return {
        "first": first,
        "last": last,
        "rows": {row[0]: row[1] for row in by_split},
        "requests": {row[0]: row[2] for row in by_split},
        "embargoed": embargoed,
        "labels": {label: {row[0]: row[3 + n] for row in by_split} for n, label in enumerate(LABELS)},
        "sources": counted,
    }


def _day(time: datetime | None) -> str:
    return "?" if time is None else f"{time:%Y-%m-%d %H:%M}"
