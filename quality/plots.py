"""A picture per feature: the reference's distribution and the current one, and a page of all of them."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quality.checks import CheckReport
from quality.distance import tallies
from quality.drift import FeatureDrift

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEFORE, AFTER = "#9aa5b1", "#1f6fb2"
PASSED, FAILED = "#222222", "#b3261e"
_BINS = 40
_LABELS = 12
_LABEL_TEXT = 24
_STYLE = """<style>
body{font:15px/1.5 system-ui,sans-serif;margin:1.5rem;color:#222}main{display:flex;flex-wrap:wrap}
figure{margin:0 1rem 1.5rem 0;width:600px}ul{color:#b3261e;margin:0}img{max-width:100%}
</style>"""


def write_plots(measured: Sequence[FeatureDrift], report: CheckReport, folder: Path) -> Path:
    """Write ``<feature>.png`` for every feature that has values, and ``index.html``.

    Returns:
        the page. Features that drifted stand first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    failed = failures_of(report)
    shown = [d for d in measured if len(d.reference.values) and len(d.current.values)]
    for drift in shown:
        _write_plot(drift, drift.feature.name in failed, folder / f"{drift.feature.name}.png")
    page = folder / "index.html"
    plotted = {drift.feature.name: drift.feature.meaning for drift in shown}
    page.write_text(page_of(report, plotted, failed), encoding="utf-8")
    return page


def failures_of(report: CheckReport) -> dict[str, list[str]]:
    """What failed, in words, by feature."""
    failed: dict[str, list[str]] = {}
    for result in report.failures:
        failed.setdefault(result.column, []).append(f"{result.observed}; wanted {result.wanted}")
    return failed


@contextmanager
def figure_at(path: Path) -> Iterator[Axes]:
    """Axes to draw on, with a legend; saved to `path` afterwards."""
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


def _histogram(axes: Axes, before: Any, after: Any) -> None:
    low, high = np.quantile(np.concatenate([before, after]), [0.005, 0.995])
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    for values, colour, label, filled in (
        (before, BEFORE, "reference", True),
        (after, AFTER, "current", False),
    ):
        shares = np.histogram(np.clip(values, low, high), edges)[0] / len(values)
        axes.stairs(shares, edges, fill=filled, color=colour, label=label, linewidth=1.5)
    axes.set_ylabel("share")


def _bars(axes: Axes, before: Sequence[Any], after: Sequence[Any]) -> None:
    labels, first, second = tallies(before, after)
    keep = [n for n in range(len(labels)) if first[n] or second[n]][:_LABELS]
    places = np.arange(len(keep))
    shares = [[c[n] / max(sum(c), 1) for n in keep] for c in (first, second)]
    axes.barh(places - 0.2, shares[0], 0.4, color=BEFORE, label="reference")
    axes.barh(places + 0.2, shares[1], 0.4, color=AFTER, label="current")
    # Labels come from the data: a dollar sign would otherwise start a formula.
    axes.set_yticks(places, [_label(labels[n]) for n in keep], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("share")


def _label(text: str) -> str:
    printable = "".join(c if c.isprintable() else "?" for c in text)
    short = printable if len(printable) <= _LABEL_TEXT else f"{printable[: _LABEL_TEXT - 1]}…"
    return short.replace("$", r"\$")


def page_of(report: CheckReport, plotted: Mapping[str, str], failed: Mapping[str, Sequence[str]]) -> str:
    """The page of all plots.

    Args:
        plotted: name → meaning of what has a picture beside the page.
    """
    names = sorted({*plotted, *failed}, key=lambda name: (name not in failed, name))
    figures = "".join(_figure(name, plotted.get(name), failed.get(name, ())) for name in names)
    title = html.escape(report.target)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>{_STYLE}</head>'
        f"<body><h1>{title}</h1><p>{report.rows:,} rows; {len(failed)} of {len(names)} features drifted; "
        f"grey is the reference.</p><main>{figures}</main></body></html>"
    )


def _figure(name: str, meaning: str | None, found: Sequence[str]) -> str:
    name = html.escape(name)
    items = "".join(f"<li>{html.escape(text)}</li>" for text in found)
    # A feature that is all null on one side has nothing to plot.
    image = f'<img src="{name}.png" alt="{name}: reference and current">' if meaning is not None else ""
    caption = f"<b>{name}</b> {html.escape(meaning or '')}<ul>{items}</ul>"
    return f"<figure><figcaption>{caption}</figcaption>{image}</figure>"
