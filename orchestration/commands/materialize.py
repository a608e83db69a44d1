"""`headrace materialize`: write finished builds to the online store again."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command()(materialize)


def materialize(
    groups: Annotated[list[str] | None, typer.Argument(help="Groups; by default every batch group.")] = None,
) -> None:
    """Write the current build of each group to the online store.

    Use it after the store came back empty, or after changing HEADRACE_ONLINE_STORE:

        headrace materialize

        headrace materialize user_profile item_profile

    Repeating it is safe: newer stored values stay. Users' consent is written first, from the log and the
    lake; users who deny it today get no row, whatever the build holds.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from feature_repo.group import USER
    from feature_repo.home import Home
    from feature_repo.settings import load_settings
    from orchestration.builds.current import chosen_builds
    from orchestration.materialize.materialize import materialize_current
    from orchestration.materialize.withdrawals import forget_withdrawn

    settings = load_settings()
    home = Home(Path(settings.home)).ensure()
    builds = chosen_builds(home, groups)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f} rows"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        for group, build in builds:
            task = bar.add_task(group.view_name, total=build.rows)
            rows = materialize_current(group, build, settings, home, progress=partial(bar.advance, task))
            if group.entity == USER:
                forget_withdrawn(group, settings, home)
            bar.update(task, completed=build.rows, description=f"{group.view_name}: {rows:,} written")
