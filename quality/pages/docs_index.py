"""The index of the Data Docs (what was checked, when, and the result) and the runs of each suite."""

from __future__ import annotations

import html
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from feature_repo.files import write_file
from quality.pages.check_runs import RUNS, CheckRun, newest_runs, runs_folder
from quality.pages.page import asset_path, framed, link, trail

_MARKS = {"passed": "✓ passed", "warns": "! warns", "blocks": "✗ blocks"}
_ORDER = {"blocks": 0, "warns": 1, "passed": 2}
_SECTIONS = {
    "features": "Feature builds",
    "feast": "Online store",
    "lake": "Events by day",
    "training": "Training sets",
    "": "Other",
}
_SHOWN = 3
_COLUMNS = (
    "<thead><tr><th>Status</th><th>Checked</th><th>When (UTC)</th><th class=number>Rows</th><th>Failed</th>"
)


def write_index(docs: Path) -> None:
    """Update ``index.html`` from the newest run of each suite."""
    pages = sorted(page.stem for page in docs.glob("*.html") if page.name != "index.html")
    found = {stem: next(iter(newest_runs(docs, stem, 1)), None) for stem in pages}
    sections: dict[str, list[tuple[str, CheckRun | None]]] = {name: [] for name in _SECTIONS}
    for stem, run in found.items():
        kind = run.asset.partition("/")[0] if run else ""
        sections[kind if kind in sections else ""].append((stem, run))
    runs = [run for run in found.values() if run is not None]
    failing = [run.status for run in runs if run.status != "passed"]
    said = "Nothing has been checked yet: run headrace build, or start a run in Dagster's UI."
    if found:
        counts = f"{failing.count('blocks')} block, {failing.count('warns')} warn"
        said = f"{len(runs)} checked, {counts}. Failing first, then newest first."
    links = [link("drift/index.html", "Drift plots")] if (docs / "drift" / "index.html").exists() else []
    tables = "".join(_section(docs, kind, rows) for kind, rows in sections.items() if rows)
    body = f"<h1>Data Docs</h1>{trail(*links)}<p>{said}</p>{tables}"
    write_file(docs / "index.html", framed("Data Docs", body), parents=True)


def write_history(docs: Path, stem: str) -> None:
    """Update the page that lists the runs of a suite."""
    runs = newest_runs(docs, stem)
    if not runs:
        body = f"{trail(link('../../index.html', 'Data Docs'))}<h1>Runs</h1><p>No runs are kept.</p>"
        write_file(runs_folder(docs, stem) / "index.html", framed("Runs", body), parents=True)
        return
    rows = "".join(f"<tr>{_cells(run, link(f'{run.stamp}.html', run.title))}</tr>" for run in runs)
    title = f"{runs[0].title}: the last runs"
    links = trail(link("../../index.html", "Data Docs"), link(f"../../{stem}.html", "Newest"))
    body = f"{links}<h1>{html.escape(title)}</h1><table class=checks>{_COLUMNS}</tr></thead>{rows}</table>"
    write_file(runs_folder(docs, stem) / "index.html", framed(title, body), parents=True)


def renew(docs: Path) -> None:
    """Update every index after pages were removed."""
    for folder in (docs / RUNS).glob("*"):
        if (docs / f"{folder.name}.html").exists() or newest_runs(docs, folder.name, 1):
            write_history(docs, folder.name)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if docs.exists():
        write_index(docs)


def header(docs: Path, stem: str, run: CheckRun, root: str) -> str:
    """Return the head of a page: what was checked, when, the result, and links.

    Args:
        root: relative path from the page to the Data Docs (``""``, or ends in ``/``).
    """
    links = [link(f"{root}index.html", "Data Docs"), link(f"{root}{RUNS}/{stem}/index.html", "All runs")]
    links += _links(docs, run, root)
    when = f"{run.time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return (
        f"{trail(*links)}<h1>{html.escape(run.title)}</h1>"
        f'<p><span class="status {run.status}">{_MARKS[run.status]}</span>: '
        f"{len(run.failures)} of {run.expectations} expectations failed; {run.rows:,} rows; {when}</p>"
    )


def _section(docs: Path, kind: str, rows: list[tuple[str, CheckRun | None]]) -> str:
    def order(row: tuple[str, CheckRun | None]) -> tuple[int, float, str]:
        stem, run = row
        return (3, 0.0, stem) if run is None else (_ORDER[run.status], -run.time.timestamp(), stem)

    body = "".join(f"<tr>{_row(docs, stem, run)}</tr>" for stem, run in sorted(rows, key=order))
    return f"<h2>{_SECTIONS[kind]}</h2><table class=checks>{_COLUMNS}<th>More</th></tr></thead>{body}</table>"


def _row(docs: Path, stem: str, run: CheckRun | None) -> str:
    if run is None:  # written by a version without records
        written = datetime.fromtimestamp((docs / f"{stem}.html").stat().st_mtime, UTC)
        page = link(f"{stem}.html", stem)
        when = f"<td>{written:%Y-%m-%d %H:%M:%S}</td>"
        return f"<td class=quiet>–</td><td>{page}</td>{when}<td></td><td></td><td></td>"
    more = [link(f"{RUNS}/{stem}/index.html", "runs"), *_links(docs, run, "")]
    return f"{_cells(run, link(f'{stem}.html', run.title))}<td>{' · '.join(more)}</td>"


def _links(docs: Path, run: CheckRun, root: str) -> Iterator[str]:
    if run.drift and (docs / "drift" / run.drift / "index.html").exists():
        yield link(f"{root}drift/{run.drift}/index.html", "drift")
    if run.asset:
        yield link(f"{root}{asset_path(run.asset)}", "asset in Dagster")


def _cells(run: CheckRun, page: str) -> str:
    shown = [f"<li>{html.escape(text)}</li>" for text in run.failures[:_SHOWN]]
    more = len(run.failures) - _SHOWN
    shown += [f"<li class=quiet>and {more} more</li>"] * (more > 0)
    failed = f"{len(run.failures)} of {run.expectations}" + (f"<ul>{''.join(shown)}</ul>" if shown else "")
    return (
        f'<td class="status {run.status}">{_MARKS[run.status]}</td><td>{page}</td>'
        f"<td>{run.time.astimezone(UTC):%Y-%m-%d %H:%M:%S}</td>"
        f'<td class=number data-label="Rows">{run.rows:,}</td><td data-label="Failed">{failed}</td>'
    )
