"""``headrace quality``: checks builds, proposes bounds from history, accepts them, serves the check pages."""

from __future__ import annotations

from typing import Annotated

import typer

Groups = Annotated[list[str] | None, typer.Argument(help="Feature groups; default: all batch groups.")]


def register(app: typer.Typer) -> None:
    quality = typer.Typer(
        help="Checks of events and feature groups: their results, and bounds from history.",
        no_args_is_help=True,
    )
    quality.command()(check)
    quality.command()(propose)
    quality.command()(accept)
    quality.command("accept-rows")(accept_rows)
    quality.command()(docs)
    app.add_typer(quality, name="quality")


def check(
    groups: Groups = None,
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail the command as well.")] = False,
) -> None:
    """Check the current builds and the newest event day; exit code 1 if a blocking check fails.

    Example: `headrace quality check user_profile`
    """
    from rich.console import Console

    from feature_repo.home import Home
    from feature_repo.settings import load_settings
    from orchestration.monitoring.current_checks import check_current

    settings = load_settings()
    console = Console()
    failed = False
    for report in check_current(settings, Home(settings.home), groups or []):
        failed |= bool(report.failures if strict else report.blocking_failures)
        console.print(f"{report.target}: {report.rows:,} rows, {len(report.results)} checks", highlight=False)
        for result in report.failures:
            console.print(f"  {result.severity}: {result.message}", highlight=False, markup=False)
        if report.docs is not None:
            console.print(f"  {report.docs}", highlight=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)


def propose(groups: Groups = None) -> None:
    """Propose bounds from existing builds; they take effect once accepted.

    Example: `headrace quality propose user_profile`, read the file it names, then
    `headrace quality accept user_profile`.
    """
    from rich.console import Console

    from feature_repo.home import Home
    from feature_repo.settings import load_settings
    from orchestration.monitoring.current_checks import propose_bounds
    from quality.checks.wording import bounds_text

    settings = load_settings()
    console = Console()
    for path, found in propose_bounds(settings, Home(settings.home), groups or []):
        console.print(
            f"{found.group}: {len(found.proposals)} rules from {found.builds} builds", highlight=False
        )
        for proposal in found.proposals:
            rule = proposal.rule
            of = ", ".join(rule.columns) or "table"
            text = f"  {rule.severity}: {of}: {bounds_text(rule)} ({proposal.why})"
            console.print(text, highlight=False, markup=False)
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)


def accept(
    group: Annotated[str, typer.Argument(help="Feature group.")],
    column: Annotated[list[str] | None, typer.Option(help="Only rules for this column.")] = None,
) -> None:
    """Accept proposed bounds; they apply from the next check on.

    Example: `headrace quality accept user_profile --column click_rate`
    """
    from rich.console import Console

    from feature_repo.home import Home
    from feature_repo.settings import load_settings
    from orchestration.monitoring.current_checks import chosen_groups
    from quality.checks import proposals

    settings = load_settings()
    [chosen] = chosen_groups([group])
    rules = proposals.accept(Home(settings.home).quality, chosen, settings.clock(), column or [])
    Console().print(f"{group}: {len(rules)} rules apply from the next check on", highlight=False)


def accept_rows(
    group: Annotated[str, typer.Argument(help="Feature group whose build was held back.")],
    reason: Annotated[str, typer.Option(help="Why the loss is correct; kept with your name and the time.")],
) -> None:
    """Confirm that a loss of rows is correct, so that the group's next build passes.

    Example: `headrace quality accept-rows user_profile --reason "a shorter look-back"`, then `headrace build`
    """
    from feature_repo.home import Home
    from feature_repo.settings import load_settings
    from orchestration.monitoring.current_checks import chosen_groups
    from quality.gate.build_gate import Gate
    from serving.control.versions import whoami

    settings = load_settings()
    [chosen] = chosen_groups([group])
    loss = Gate(Home(settings.home).quality, settings.clock).accept_loss(chosen.view_name, whoami(), reason)
    typer.echo(f"{group}: {loss.rows:,} rows instead of {loss.of:,} accepted; run `headrace build` again")


def docs() -> None:
    """Serve the built pages (Data Docs, drift plots) until Ctrl-C, for Dagster's UI without `headrace up`.

    Example: `headrace quality docs`
    """
    from feature_repo.home import Home
    from feature_repo.settings import load_settings
    from orchestration.processes.page_server import serve_pages
    from orchestration.processes.up import stop_on_signals

    settings = load_settings()
    stop = stop_on_signals()
    with serve_pages(settings, Home(settings.home).ensure()) as (address, _):
        typer.echo(address)
        stop.wait()
