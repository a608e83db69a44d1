"""Checks of the current data outside a Dagster run, for the command line and `headrace status`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from feature_repo.errors import BuildError
from feature_repo.group import FeatureGroup
from feature_repo.groups import all_groups, batch_groups
from feature_repo.home import Home
from feature_repo.lake.lake import Builds, Lake
from feature_repo.settings import Settings
from quality.checks.proposals import Proposals, accepted, propose, save_proposals

if TYPE_CHECKING:
    from quality.checks.results import CheckReport

HISTORY = 60
"""Newest builds from which bounds are proposed."""


def chosen_groups(names: Sequence[str]) -> list[FeatureGroup]:
    """Return the named groups, or every batch group.

    Raises:
        BuildError: a name is not a group's; lists the existing groups.
    """
    if not names:
        return list(batch_groups().values())
    known = {name: g for g in all_groups().values() for name in (g.name, g.view_name)}
    if unknown := [name for name in names if name not in known]:
        msg = f"{', '.join(unknown)}: no such feature group; there are {', '.join(sorted(known))}"
        raise BuildError(msg)
    return [known[name] for name in names]


def check_current(settings: Settings, home: Home, names: Sequence[str]) -> Iterator[CheckReport]:
    """Yield reports of the newest event day (if no group is named) and of the current builds.

    Raises:
        BuildError: there is nothing to check yet, or a name is not a group's.
    """
    from quality.checks.report import check_events, check_group  # noqa: PLC0415 - Great Expectations takes seconds

    lake, builds = Lake(home.lake), Builds(home.features)
    days = [] if names else lake.days()[-1:]
    for day in days:
        files = lake.files("event", day, day + timedelta(days=1))
        yield check_events(files, home.docs, settings=settings, day=day)
    found = False
    for group in chosen_groups(names):
        build = builds.current(group.name, group.version)
        if build is not None:
            found = True
            yield check_group(group, build.path, home.docs, accepted(home.quality, group))
    if not found and not days:
        msg = f"{home.features}: no builds to check; run the chain first (`headrace build`, or Dagster's UI)"
        raise BuildError(msg)


def propose_bounds(settings: Settings, home: Home, names: Sequence[str]) -> Iterator[tuple[Path, Proposals]]:
    """Write a proposal per group from its newest builds.

    Raises:
        BuildError: a group has too few builds to propose bounds.
        LakeError: a build cannot be read.
    """
    from quality.checks.build_profile import profile  # noqa: PLC0415

    builds = Builds(home.features)
    for group in chosen_groups(names):
        paths = builds.history(group.name, group.version)[-HISTORY:]
        history = [profile(group, path) for path in paths]
        found = Proposals(group.view_name, len(history), settings.clock(), propose(group, history))
        yield save_proposals(home.quality, found), found
