"""`headrace evaluate`: what personalization would have gained on recorded history."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from datetime import datetime

    from orchestration.evaluation.evaluate import Evaluation
    from quality.ranking.metrics import Interval


BASELINES = ("popularity", "best rule")
TITLES = {
    "ndcg": "NDCG@10",
    "mrr": "MRR",
    "map": "MAP@10",
    "hit": "hit rate@10",
    "recall": "recall@10",
    "precision": "precision@10",
}


WIDTH = 120
"""Columns of a table that is piped or written to a file."""


def register(app: typer.Typer) -> None:
    app.command("evaluate")(evaluate_command)


def evaluate_command(  # noqa: PLR0917 - one per option
    data: Annotated[Path, typer.Option("--data", "-d", help="File or folder of recorded history.")],
    fmt: Annotated[
        str, typer.Option("--format", "-f", help="Format, as metarank; `--format list` lists them.")
    ] = "headrace",
    split: Annotated[
        float, typer.Option(min=0.05, max=0.95, help="Share of the rankings, oldest first, used as history.")
    ] = 0.8,
    test_from: Annotated[
        Optional[str],  # noqa: UP045 - typer reads the annotation at run time
        typer.Option(help="Test the rankings from this time on (ISO 8601, UTC) instead of a share of them."),
    ] = None,
    candidates: Annotated[
        str, typer.Option(help="Candidates if the data has no impressions: popular:COUNT:SPAN.")
    ] = "popular:100:1h",
    report: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads the annotation at run time
        typer.Option(help="Also write the figures to this JSON file."),
    ] = None,
    metric: Annotated[
        str, typer.Option(help="Headline: ndcg, mrr, map, hit, recall or precision, at 10.")
    ] = "ndcg",
    label: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Event type that makes an item relevant: purchase; default: any engagement."),
    ] = None,
    max_lists: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=100, help="Rank about this many lists, sampled by hash; default: all."),
    ] = None,
) -> None:
    """Replay recorded history and compare rankers on its newest part, without look-ahead.

    For example: `headrace evaluate --data events.jsonl.gz --format metarank --report report.json`.
    Weights are fitted on the older part only. Arms: the order shown, popularity, and the blend with segment,
    long-term, session or all signals. Below them: every simple rule, and whether what would serve is worse
    than the best of them (harm). docs/how-to/evaluate.md says how to read the tables.
    """
    from feature_repo.errors import SettingsError
    from feature_repo.settings import load_settings
    from orchestration.evaluation.evaluate import Plan, evaluate
    from orchestration.evaluation.history import read_history
    from orchestration.evaluation.ranking_tasks import parse_candidates
    from quality.ranking.metrics import METRICS

    settings = load_settings()
    if metric not in METRICS:
        msg = f"--metric {metric}: unknown; there are {', '.join(METRICS)}"
        raise SettingsError(msg)
    cut = split if test_from is None else _time(test_from)
    plan = Plan(cut, parse_candidates(candidates), max_lists, metric, label)
    with _Steps() as progress:
        history = read_history(data, fmt, settings, progress)
        found = evaluate(history, settings, plan, data=str(data), fmt=fmt, progress=progress)
    show(found)
    if report is not None:
        write_report(found, report)
        typer.echo(f"report: {report}")


def show(found: Evaluation) -> None:
    """Print the result tables."""
    from rich.console import Console
    from rich.table import Table

    since, title = f"{found.test_from:%Y-%m-%d %H:%M:%S} UTC", TITLES[found.metric]
    extra = () if found.metric in {"ndcg", "mrr", "hit"} else (found.metric,)
    figures = Table(title=f"{found.test_lists:,} test rankings since {since}", title_justify="left")
    figures.add_column("arm", no_wrap=True)
    for column in (*(TITLES[name] for name in extra), "NDCG@10", "MRR", "hit rate@10", "coverage"):
        figures.add_column(column, justify="right", no_wrap=True)
    differences = Table("arm", title=f"{title} against, paired", title_justify="left")
    for column in BASELINES:
        differences.add_column(column, justify="right", no_wrap=True)
    ranked = sorted(found.rules, key=lambda rule: -rule.metrics[found.metric].mean)
    for number, arm in enumerate((*found.arms, *ranked)):
        if number == len(found.arms):
            figures.add_section()
        columns = [arm.metrics[name] for name in (*extra, "ndcg", "mrr", "hit")]
        figures.add_row(arm.name, *(_figure(value) for value in (*columns, arm.coverage)))
    for arm in found.arms:
        differences.add_row(arm.name, *(_difference(arm.versus.get(b)) for b in BASELINES))
    slices = Table("slice", title=f"{title} of what would serve, against the best rule", title_justify="left")
    slices.add_column("lists", justify="right")
    slices.add_column("difference", justify="right", no_wrap=True)
    for name, (lists, difference) in found.slices.items():
        slices.add_row(name, f"{lists:,}", _difference(difference))
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(figures, differences, slices)
    console.print(
        f"{found.events:,} events, {found.items:,} items, {found.duplicates:,} duplicates, "
        f"{found.rejected:,} rejected; {found.history_lists:,} history rankings; left out of the test: "
        f"{found.without_relevant:,} rankings without an engagement. ±: 95 % intervals"
    )
    console.print(f"gate, on history: {found.gate.reason}", markup=False)
    verdict = "HARM: below the best rule by more than the interval" if found.harm else "none"
    against = _difference(found.against_best_rule)
    serves = f"{found.serves} would serve; best rule in hindsight: {found.best_rule} ({against})"
    console.print(f"{serves}\nharm: {verdict}", markup=False)


def _time(text: str) -> datetime:
    from datetime import UTC, datetime

    from feature_repo.errors import SettingsError

    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        msg = f"--test-from {text}: not a time; write it as 2024-06-01 or 2024-06-01T12:00:00Z"
        raise SettingsError(msg) from error
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def write_report(found: Evaluation, path: Path) -> None:
    """Write the figures as JSON.

    Raises:
        SettingsError: the path cannot be written.
    """
    import msgspec

    from feature_repo.errors import SettingsError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2))
    except OSError as error:
        msg = f"--report {path}: cannot be written ({error.strerror}); choose a file in a writable folder"
        raise SettingsError(msg) from error


def _figure(value: Interval) -> str:
    return f"{value.mean:.3f} ± {(value.high - value.low) / 2:.3f}"


def _difference(value: Interval | None) -> str:
    return "" if value is None else f"{value.mean:+.4f} ± {(value.high - value.low) / 2:.4f}"


class _Steps:
    """Shows a progress bar per step on standard error, so that pipes stay clean."""

    def __enter__(self) -> _Steps:
        from rich import progress as bar
        from rich.console import Console

        self._tasks: dict[str, bar.TaskID] = {}
        self._progress = bar.Progress(
            bar.TextColumn("{task.description}"),
            bar.BarColumn(),
            bar.TaskProgressColumn(),
            bar.TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._progress.start()
        return self

    def __call__(self, step: str, done: int, total: int) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(step, total=total)
        self._progress.update(self._tasks[step], completed=done)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
