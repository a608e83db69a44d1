"""A plot per feature (the reference's and the current distribution), and a page with all of them."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from quality.checks.results import CheckReport
from quality.drift.distance import tallies
from quality.drift.feature_drift import FeatureDrift, Thresholds
from quality.pages.drift_index import DriftSummary, FeatureSummary, largest, save_summary
from quality.pages.page import asset_path, framed, link, trail
from quality.pages.sparkline import Spark

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEFORE, AFTER = "#9aa5b1", "#1f6fb2"
PASSED, FAILED = "#222222", "#b3261e"
_BINS = 40
_LABELS = 12
_LABEL_TEXT = 24
_SPARK_BINS = 20
_STYLE = """<style>
main{display:flex;flex-wrap:wrap}figure{margin:0 1rem 1.5rem 0;max-width:600px}
figure ul{color:var(--bad)}img{max-width:100%;background:#fff}
</style>"""


@dataclass(frozen=True)
class About:
    """The subject of a drift page: the group, its Dagster asset's path, and the reference."""

    group: str
    asset: str
    against: str


def write_plots(
    measured: Sequence[FeatureDrift],
    report: CheckReport,
    folder: Path,
    thresholds: Thresholds | None = None,
    about: About | None = None,
) -> Path:
    """Write ``<feature>.png`` for every feature with values and ``index.html``, and update the indexes.

    Returns:
        the page, with the drifted features first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    failed = failures_of(report)
    shown = [d for d in measured if len(d.reference.values) and len(d.current.values)]
    for drift in shown:
        _write_plot(drift, drift.feature.name in failed, folder / f"{drift.feature.name}.png")
    page = folder / "index.html"
    plotted = {drift.feature.name: drift.feature.meaning for drift in shown}
    about = about or About(folder.parent.name, "", "the previous builds")
    page.write_text(page_of(report, plotted, failed, about), encoding="utf-8")
    wanted = thresholds or Thresholds()
    features = tuple(
        FeatureSummary(
            d.feature.name,
            d.feature.meaning,
            _score(d, wanted),
            tuple(failed.get(d.feature.name, ())),
            _spark(d),
        )
        for d in measured
    )
    save_summary(folder, DriftSummary(about.group, about.asset, about.against, report.rows, features))
    return page


def _score(drift: FeatureDrift, wanted: Thresholds) -> float:
    """Return the largest change as a multiple of its threshold."""
    limits = {
        "null_share_change": wanted.null_share,
        "psi": wanted.psi,
        "shift": wanted.shift,
        "cardinality_change": wanted.cardinality,
    }
    figures = drift.figures()
    return largest(figures[name] / limit for name, limit in limits.items() if name in figures and limit)


def _spark(drift: FeatureDrift) -> Spark:
    before, after = drift.reference.values, drift.current.values
    if not len(before) or not len(after):
        return Spark("shares", (), ())
    if isinstance(before, np.ndarray) and isinstance(after, np.ndarray):
        edges = _edges(before, after, _SPARK_BINS)
        return Spark("shares", _histogram_of(before, edges), _histogram_of(after, edges))
    _, first, second = _shares_of(list(before), list(after))
    return Spark("shares", tuple(first), tuple(second))


def failures_of(report: CheckReport) -> dict[str, list[str]]:
    """Return the failures in words, by feature."""
    failed: dict[str, list[str]] = {}
    for result in report.failures:
        failed.setdefault(result.column, []).append(f"{result.observed}; wanted {result.wanted}")
    return failed


@contextmanager
def figure_at(path: Path) -> Iterator[Axes]:
    """Yield axes to draw on, with a legend; save them to `path` afterwards."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - half a second, and no display
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(6, 3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    yield axes
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=100)


def _write_plot(drift: FeatureDrift, drifted: bool, path: Path) -> None:
    with figure_at(path) as axes:
        if isinstance(drift.reference.values, np.ndarray) and isinstance(drift.current.values, np.ndarray):
            _histogram(axes, drift.reference.values, drift.current.values)
            axes.set_xlabel(drift.feature.unit or "value")
        else:
            _bars(axes, list(drift.reference.values), list(drift.current.values))
        title = drift.feature.name
        if drift.distance is not None:
            title += f"   PSI {drift.distance.psi:.3f}, shift {drift.distance.shift:.3f}"
        axes.set_title(title, color=FAILED if drifted else PASSED, fontsize=10)


def _edges(before: Any, after: Any, bins: int) -> Any:
    low, high = np.quantile(np.concatenate([before, after]), [0.005, 0.995])
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins + 1)


def _histogram_of(values: Any, edges: Any) -> tuple[float, ...]:
    """Return the share of values per bin; values beyond the edges count in the outermost bins."""
    counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    return tuple((counts / len(values)).tolist())


def _histogram(axes: Axes, before: Any, after: Any) -> None:
    edges = _edges(before, after, _BINS)
    for values, colour, label, filled in (
        (before, BEFORE, "reference", True),
        (after, AFTER, "current", False),
    ):
        shares = _histogram_of(values, edges)
        axes.stairs(shares, edges, fill=filled, color=colour, label=label, linewidth=1.5)
    axes.set_ylabel("share")


def _shares_of(before: Sequence[Any], after: Sequence[Any]) -> tuple[list[str], list[float], list[float]]:
    """Return the first labels that occur, and each one's share on both sides."""
    labels, first, second = tallies(before, after)
    keep = [n for n in range(len(labels)) if first[n] or second[n]][:_LABELS]
    shares = [[c[n] / max(sum(c), 1) for n in keep] for c in (first, second)]
    return [labels[n] for n in keep], shares[0], shares[1]


def _bars(axes: Axes, before: Sequence[Any], after: Sequence[Any]) -> None:
    labels, first, second = _shares_of(before, after)
    places = np.arange(len(labels))
    axes.barh(places - 0.2, first, 0.4, color=BEFORE, label="reference")
    axes.barh(places + 0.2, second, 0.4, color=AFTER, label="current")
    # Labels come from the data: an unescaped dollar sign would start a formula.
    axes.set_yticks(places, [_label(label) for label in labels], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("share")


def _label(text: str) -> str:
    printable = "".join(c if c.isprintable() else "?" for c in text)
    short = printable if len(printable) <= _LABEL_TEXT else f"{printable[: _LABEL_TEXT - 1]}…"
    return short.replace("$", r"\$")


def page_of(
    report: CheckReport, plotted: Mapping[str, str], failed: Mapping[str, Sequence[str]], about: About
) -> str:
    """Return the page of all plots.

    Args:
        plotted: name → meaning of each feature with a plot beside the page.
    """
    names = sorted({*plotted, *failed}, key=lambda name: (name not in failed, name))
    figures = "".join(_figure(name, plotted.get(name), failed.get(name, ())) for name in names)
    title = f"Drift of {about.group} against {about.against}"
    links = [link("../../index.html", "Drift"), link("../index.html", "All runs")]
    links.append(link("../../../index.html", "Data Docs"))
    if about.asset:
        links.append(link(f"../../../{asset_path(about.asset)}", "asset in Dagster"))
    body = (
        f"{trail(*links)}<h1>{html.escape(title)}</h1><p>{report.rows:,} rows; {len(failed)} of {len(names)} "
        f"features drifted; grey is the reference.</p><main>{figures}</main>"
    )
    return framed(title, body, _STYLE)


def _figure(name: str, meaning: str | None, found: Sequence[str]) -> str:
    items = "".join(f"<li>{html.escape(text)}</li>" for text in found)
    title = html.escape(name)
    # A feature that is all null on one side cannot be plotted.
    source = quote(f"{name}.png")
    image = f'<img src="{source}" alt="{title}: reference and current">' if meaning is not None else ""
    caption = f"<b>{title}</b> {html.escape(meaning or '')}<ul>{items}</ul>"
    return f"<figure><figcaption>{caption}</figcaption>{image}</figure>"
