"""Indexes of the drift plots: every feature with a small plot, worst first; and the runs of a group."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from feature_repo.files import write_file
from quality.pages.page import asset_path, framed, link, trail
from quality.pages.sparkline import Spark, svg

SUMMARY = "summary.json"
"""Summary file of a run beside its plots; the indexes are built from it."""
_STYLE = """<style>
main{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:.75rem}
article{border:1px solid var(--line);border-radius:.4rem;padding:.6rem .75rem;overflow-wrap:anywhere}
article h2{font-size:1rem;margin:0}article.out{border-color:var(--bad)}
article p{margin:.2rem 0;font-size:.87rem}
article ul{font-size:.87rem;color:var(--bad)}svg{max-width:100%;display:block;margin:.3rem 0}
.key{display:inline-block;width:.8em;height:.8em;border-radius:.15em}
</style>"""


@dataclass(frozen=True)
class FeatureSummary:
    """A feature in a run.

    Attributes:
        score: the largest change, as a multiple of its threshold, if there is evidence.
        failed: what drifted, in words.
    """

    name: str
    meaning: str
    score: float
    failed: tuple[str, ...]
    spark: Spark


@dataclass(frozen=True)
class DriftSummary:
    """A drift run of one group.

    Attributes:
        asset: path of the Dagster asset.
        against: what it was compared with.
    """

    group: str
    asset: str
    against: str
    rows: int
    features: tuple[FeatureSummary, ...]


def save_summary(folder: Path, summary: DriftSummary) -> None:
    """Save the summary of a run beside its plots, and update the indexes above them."""
    write_file(folder / SUMMARY, msgspec.json.encode(summary).decode(), parents=True)
    write_group_index(folder.parent)
    write_drift_index(folder.parent.parent)


def write_drift_index(root: Path) -> None:
    """Update ``<root>/index.html`` from the newest run of each group."""
    newest = {folder.name: runs[0] for folder in _folders(root) if (runs := _runs(folder))}
    cards = [
        (feature, _card(f"{group}/{stamp}/index.html", summary.group, feature))
        for group, (stamp, summary) in newest.items()
        for feature in summary.features
    ]
    cards.sort(key=lambda card: (not card[0].failed, -card[0].score, card[0].name))
    drifted = sum(bool(feature.failed) for feature, _ in cards)
    groups = " · ".join(link(f"{group}/index.html", group) for group in newest)
    body = (
        f"{trail(link('../index.html', 'Data Docs'))}<h1>Drift</h1>"
        f"<p>{drifted} of {len(cards)} features drifted; worst first. "
        '<span class="key" style="background:var(--before)"></span> reference '
        '<span class="key" style="background:var(--after)"></span> current. The figure is the largest change '
        "as a share of what counts as drift; it must also be beyond chance.</p>"
        f"<p>All plots by group: {groups}</p><main>{''.join(card for _, card in cards)}</main>"
    )
    write_file(root / "index.html", framed("Drift", body, _STYLE), parents=True)


def write_group_index(folder: Path) -> None:
    """Update the list of a group's runs, newest first."""
    runs = _runs(folder)
    if not runs:  # check pages still link here
        body = f"{trail(link('../index.html', 'Drift'))}<h1>Drift</h1><p>No plots are kept.</p>"
        write_file(folder / "index.html", framed("Drift", body), parents=True)
        return
    rows = "".join(_run_row(stamp, summary) for stamp, summary in runs)
    newest = runs[0][1]
    title = f"Drift of {newest.group}"
    links = [link("../index.html", "Drift"), link("../../index.html", "Data Docs")]
    links.append(link(f"../../{asset_path(newest.asset)}", "asset in Dagster"))
    heads = "<th>As of</th><th class=number>Rows</th><th class=number>Drifted</th><th>Which</th>"
    table = f"<table><thead><tr>{heads}</tr></thead>{rows}</table>"
    body = f"{trail(*links)}<h1>{html.escape(title)}</h1><p>Against {html.escape(newest.against)}.</p>{table}"
    write_file(folder / "index.html", framed(title, body), parents=True)


def renew_drift(docs: Path) -> None:
    """Update every index after plots were removed."""
    root = docs / "drift"
    for folder in _folders(root):
        write_group_index(folder)
    if root.is_dir():
        write_drift_index(root)


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("*") if path.is_dir())


def _runs(folder: Path) -> list[tuple[str, DriftSummary]]:
    """List the runs with plots, newest first; their folders are named by time."""
    found = ((path.parent.name, _load(path)) for path in sorted(folder.glob(f"*/{SUMMARY}"), reverse=True))
    return [(stamp, summary) for stamp, summary in found if summary is not None]


def _load(path: Path) -> DriftSummary | None:
    """Load a summary; `None` if it is damaged or disappears."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=DriftSummary)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _run_row(stamp: str, summary: DriftSummary) -> str:
    out = [feature.name for feature in summary.features if feature.failed]
    return (
        f"<tr><td>{link(f'{stamp}/index.html', stamp)}</td>"
        f'<td class=number data-label="Rows">{summary.rows:,}</td>'
        f'<td class=number data-label="Drifted">{len(out)} of {len(summary.features)}</td>'
        f'<td class="drifted">{html.escape(", ".join(out))}</td></tr>'
    )


def _card(page: str, group: str, feature: FeatureSummary) -> str:
    out = ' class="out"' if feature.failed else ""
    items = "".join(f"<li>{html.escape(text)}</li>" for text in feature.failed)
    return (
        f"<article{out}><h2>{link(page, f'{group}.{feature.name}')}</h2>"
        f"{svg(feature.spark, f'{feature.name}: reference and current')}"
        f"<p>{100 * feature.score:.0f} % <span class=quiet>{html.escape(feature.meaning)}</span></p>"
        f"{f'<ul>{items}</ul>' if items else ''}</article>"
    )


def largest(ratios: Iterable[float]) -> float:
    """Return the largest finite ratio by absolute value; 0 if there is none."""
    return max((abs(ratio) for ratio in ratios if math.isfinite(ratio)), default=0.0)
