"""``headrace demo``: runs the main job end to end and shows it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from orchestration.demo.run import DemoReport
    from orchestration.demo.scene import Moment, Scene

ROWS = 10
WIDE, NARROW = 31, 16
"""Longest item label in the tables, so that they fit 80 columns."""


def register(app: typer.Typer) -> None:

    @app.command()
    def demo(
        *,
        data: Annotated[Path | None, typer.Option(help="Your own data instead of a simulated shop.")] = None,
        fmt: Annotated[
            str, typer.Option("--format", help="Format of the data, as in `headrace ingest`.")
        ] = "headrace",
        users: Annotated[int, typer.Option(help="Users of the simulated shop.")] = 2000,
        items: Annotated[int, typer.Option(help="Items in the shop.")] = 1000,
        days: Annotated[int, typer.Option(help="Days of traffic.")] = 14,
        seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 0,
        evaluate: Annotated[bool, typer.Option(help="Run the evaluation.")] = True,
    ) -> None:
        """Run everything once without a server: ingest data, build features, show a click change a ranking.

        Everything is written to HEADRACE_HOME/demo, which is emptied first; report.json there is the
        summary. The last line is the command that opens the demo in Dagster's UI. If the folder has received
        events since the last demo, it is moved aside instead of emptied.

        Example: `headrace demo --data events.jsonl.gz --format metarank`
        """
        import logging

        from rich.console import Console

        from feature_repo.settings import load_settings
        from orchestration.demo.run import DemoPlan, Progress
        from orchestration.demo.run import demo as run

        console = Console(highlight=False)
        settings = load_settings()
        logging.basicConfig(level="WARNING")
        # Dagster logs the warnings of libraries; a newcomer cannot act on them.
        logging.getLogger("py.warnings").setLevel("ERROR")
        plan = DemoPlan(data, fmt, users, items, days, seed, evaluate)
        progress = Progress(
            step=lambda name, seconds, said: console.print(f"[bold]{name:9}[/bold] {seconds:6.1f} s  {said}"),
            scene=lambda scene, before, after: show_scene(console.print, scene, before, after),
        )
        report = run(settings, plan, progress)
        console.print(summary_table(report))
        console.print(f"report: {settings.home / 'demo' / 'report.json'}")
        console.print("Next, Dagster's UI, the stream and serving on the demo's data:")
        console.print(f"    {report.open_with}", markup=False, soft_wrap=True)


def show_scene(show: object, scene: Scene, before: Moment, after: Moment) -> None:
    """Print the rankings before and after the clicks, and the reasons."""
    assert callable(show)
    show(
        f"\nUser [bold]{scene.user_id}[/bold] clicks {' and '.join(scene.clicked)} "
        f"({scene.clicked_group or 'no category'}):"
    )
    show(rankings_table(scene, before, after))
    show(why_table(scene, after))


def rankings_table(scene: Scene, before: Moment, after: Moment) -> Table:
    """Show both orders side by side, with items of the clicked category in bold."""
    from rich import box
    from rich.table import Table

    title = f"Before any click ({before.tier}), after two ({after.tier}); no exploration"
    table = Table(
        title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, collapse_padding=True
    )
    table.add_column("")
    for heading in ("before", "after"):
        table.add_column(heading, no_wrap=True)
    table.add_column("moved", justify="right")
    for position, (old, new) in enumerate(zip(before.order[:ROWS], after.order[:ROWS], strict=False)):
        moved = before.order.index(new) - position
        names = (label(scene, item, WIDE) for item in (old, new))
        table.add_row(str(position), *names, f"{moved:+d}" if moved else "")
    return table


def why_table(scene: Scene, moment: Moment) -> Table:
    """Show what each part contributed to the scores of the first items."""
    from rich import box
    from rich.table import Table

    from orchestration.demo.scene import parts_of

    parts = parts_of(moment)
    title = "Why: contribution of each part; they sum to the score"
    table = Table(
        title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, collapse_padding=True
    )
    table.add_column("item", no_wrap=True)
    for heading in ("score", *parts):
        table.add_column(heading, justify="right", no_wrap=True)
    for item in moment.items[:ROWS]:
        why = item.get("why") or {}
        figures = (f"{why.get(part, 0.0):+.2f}" for part in parts)
        table.add_row(label(scene, item["item_id"], NARROW), f"{item['score']:.2f}", *figures)
    return table


def label(scene: Scene, item: str, width: int) -> str:
    """Return an item's id, title and groups, cut to a width; bold if it is in the clicked category."""
    from rich.markup import escape

    groups = scene.groups.get(item, ())
    title = scene.titles.get(item, "")
    further = [g for g in groups[:2] if g not in title]
    text = " ".join(filter(None, (item, title, f"[{', '.join(further)}]" if further else "")))
    text = escape(text if len(text) <= width else text[: width - 1] + "…")
    return f"[bold]{text}[/bold]" if scene.clicked_group in groups else text


def summary_table(report: DemoReport) -> Table:
    """Tabulate the report's figures."""
    from rich import box
    from rich.table import Table

    table = Table(title="Summary", show_header=False, title_justify="left", box=box.SIMPLE)
    delay_ms = report.click_to_ranking_ms
    rows = {
        "events": f"{report.events:,}",
        "items, users": f"{report.items:,}, {report.users:,}",
        "duplicates": f"{report.duplicates:,}",
        "quarantined": f"{report.quarantined:,}",
        "feature rows": ", ".join(f"{name} {n:,}" for name, n in report.features.items()),
        "click to ranking": "not measured" if delay_ms is None else f"{delay_ms:,.0f} ms",
        **{rf"NDCG@10 {arm}": text.replace("[", r"\[") for arm, text in report.ndcg().items()},
        "time": f"{report.seconds['total']:.0f} s",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table
