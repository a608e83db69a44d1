"""`headrace replay`: reproduces an answer from its decision record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serving.decisions.record import Decision
    from serving.schemas.rank_response import RankAnswer


def register(app: typer.Typer) -> None:
    app.command("replay")(replay)


def replay(
    request_id: Annotated[str, typer.Argument(help="Id of the request, from its answer.")],
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--with", help="What if: weights=VERSION|FILE (a blend), flag=NAME:VALUE (or NAME=VALUE)."
        ),
    ] = None,
    top: Annotated[int, typer.Option(help="Items to show.")] = 20,
    number: Annotated[
        int,
        typer.Option("--number", min=1, help="Which answer, if a request id was reused: 1 is the newest."),
    ] = 1,
) -> None:
    """Reproduce a ranking byte for byte, or show what it would have been.

    Examples:

        headrace replay 5f0c0a3b7f0e4d0f9c1b2a3d

        headrace replay 5f0c0a3b7f0e4d0f9c1b2a3d --with flag=cap.positions:3 --with weights=20240601T000000Z

    Exit code 1 means the replay differs from the record (a build of that time was replaced). A what-if that
    the record cannot answer is refused: holdout, arm, and features that were not read at the time.
    """
    from feature_repo.home import Home
    from feature_repo.settings import load_settings
    from serving.decisions.lookup import DecisionFinder
    from serving.decisions.record import TOPIC
    from serving.decisions.time_marks import marks_of
    from streaming.log import open_log

    blend, flags = _what_if(changes or [])
    settings = load_settings()
    home = Home(settings.home).ensure()
    log = open_log(settings, home, TOPIC)
    try:
        marks = marks_of(home.decisions, settings.decision_retention_hours)
        found = DecisionFinder(log, marks).find_all(request_id)
    finally:
        log.close()
    from serving.bootstrap import scoring_stages
    from serving.decisions import replay as replays

    if not found:
        message = (
            f"no decision for request {request_id!r} in the log: never made, not sampled, or past retention"
        )
        raise replays.ReplayError(message)
    decision = _chosen(found, number)
    model, stages = replays.model_of(decision, home), scoring_stages(settings)
    again = replays.replay(decision, stages, model)
    typer.echo(
        "identical, byte for byte, to the ranking that was answered"
        if again.same
        else "DIFFERS from the ranking that was answered"
    )
    if decision.withheld:
        left_out = ", ".join(decision.withheld)
        typer.echo(f"left out of the record because consent was denied or unknown: {left_out}")
    if blend is None and not flags:
        _show(decision, again.answer, top)
        raise typer.Exit(0 if again.same else 1)
    changed = replays.with_changes(decision, model, home, blend, flags)
    other = replays.replay(decision, stages, changed)
    if other.same:
        typer.echo(_unmoved(decision))
    _show(decision, other.answer, top, f"with {', '.join(changes or [])}: ")


def _chosen(found: Sequence[Decision], number: int) -> Decision:
    """Return one of the answers to a request id; list them if there are several."""
    from serving.decisions.replay import ReplayError

    if number > len(found):
        message = f"--number {number}: the log has {len(found)} answers with this request id"
        raise ReplayError(message)
    if len(found) > 1:
        typer.echo(f"{len(found)} answers have this request id (--number chooses), newest first:")
        for place, decision in enumerate(found, 1):
            shown = "  (shown)" if place == number else ""
            when = decision.time.isoformat(timespec="milliseconds")
            typer.echo(f"{place:>3}  {when}  user {decision.user}  tier {decision.tier}{shown}")
    return found[number - 1]


def _unmoved(decision: Decision) -> str:
    """Explain that a change has no effect, and why."""
    if decision.held_out:
        why = ": its unit was held out, so it gets the base order whatever else changes"
    else:
        why = f" ({codes})" if (codes := ", ".join(decision.degraded)) else ""
    return f"the ranking would have been the same{why}"


def _what_if(changes: list[str]) -> tuple[str | None, dict[str, Any]]:
    """Parse the blend and the flags from ``--with``."""
    import msgspec

    from serving.decisions.replay import ReplayError

    blend, flags = None, {}
    for change in changes:
        what, _, rest = change.partition("=")
        name, sign, value = (rest.replace("=", ":", 1) if ":" not in rest.split("=")[0] else rest).partition(
            ":"
        )
        if what == "weights" and rest:
            blend = rest
        elif what == "flag" and sign:
            try:
                flags[name] = msgspec.json.decode(value)
            except msgspec.DecodeError:
                flags[name] = value
        else:
            message = f"--with {change}: write weights=VERSION or flag=NAME:VALUE, e.g. flag=cap.positions:3"
            raise ReplayError(message)
    return blend, flags


def _show(decision: Decision, answer: RankAnswer, top: int, what_if: str = "") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from feature_repo.printable import printable

    before = {item.item_id: item.position for item in decision.items}
    table = Table(
        "position",
        "item",
        "score",
        "answered at",
        "base",
        title=escape(printable(f"{what_if}tier {answer.tier}")),
    )
    for item in answer.items[:top]:
        was = before.get(item.item_id)
        moved = (
            "–" if was is None else f"{was}" if was == item.position else f"{was} ({was - item.position:+d})"
        )
        name = escape(printable(item.item_id))
        table.add_row(str(item.position), name, f"{item.score:.4f}", moved, str(item.base_position))
    Console().print(table)
