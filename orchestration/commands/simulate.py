"""``headrace simulate``: writes a simulated shop with known ground truth."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:

    @app.command()
    def simulate(
        *,
        out: Annotated[Path, typer.Option(help="`.jsonl`, `.jsonl.gz` (all kinds mixed) or `.parquet`.")],
        users: Annotated[int, typer.Option(help="Users of the shop.")] = 2000,
        items: Annotated[int, typer.Option(help="Items on sale.")] = 1000,
        days: Annotated[int, typer.Option(help="Days of traffic.")] = 14,
        seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
        end: Annotated[
            datetime | None,
            typer.Option(formats=["%Y-%m-%d"], help="Day after the last one (UTC); default 2024-06-01."),
        ] = None,
        sessions_per_user_day: Annotated[
            float, typer.Option(help="Mean sessions per user and day; about 9 events each.")
        ] = 0.35,
        duplicates: Annotated[float, typer.Option(help="Share of events sent twice.")] = 0.01,
        late: Annotated[float, typer.Option(help="Share that arrives 15 min to 20 h late.")] = 0.005,
        malformed: Annotated[float, typer.Option(help="Unreadable lines, as a share of events.")] = 0.001,
        drift_day: Annotated[int | None, typer.Option(help="Change behaviour from this day on.")] = None,
        drift: Annotated[str, typer.Option(help="What changes: taste, conversion or activity.")] = "taste",
    ) -> None:
        """Simulate a shop: impressions, clicks, views, carts, purchases and searches of users with tastes.

        The ground truth (tastes, intents, counts) is written beside the events.

        Example: `headrace simulate --users 2000 --items 1000 --days 14 --seed 7 --out var/shop.jsonl.gz`
        """
        from datetime import UTC
        from typing import get_args

        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        from feature_repo.errors import SourceError
        from streaming import simulator
        from streaming.simulator.config import DEFAULT_END, DriftKind

        kinds: dict[str, DriftKind] = {k: k for k in get_args(DriftKind)}
        if drift not in kinds:
            msg = f"--drift {drift}: choose taste, conversion or activity"
            raise SourceError(msg)
        config = simulator.ShopConfig(
            users=users,
            items=items,
            days=days,
            seed=seed,
            end=end.replace(tzinfo=UTC) if end else DEFAULT_END,
            sessions_per_user_day=sessions_per_user_day,
            duplicates=duplicates,
            late=late,
            malformed=malformed,
            drift=None if drift_day is None else simulator.Drift(drift_day, kinds[drift]),
        )
        console = Console(stderr=True)
        columns = (
            TextColumn("simulating"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("days, {task.fields[lines]:,} lines"),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("days", total=days, lines=0)
            counts = simulator.simulate(
                config, out, lambda done, lines: bar.update(task, completed=done, lines=lines)
            )
        Console().print(
            f"{out}: {counts.events:,} events, {counts.duplicates:,} duplicates, {counts.late:,} late, "
            f"{counts.malformed:,} malformed, {items:,} items, {users:,} users",
            highlight=False,
        )
