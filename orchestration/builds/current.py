"""The current builds, which `headrace materialize` writes again."""

from collections.abc import Sequence

from feature_repo.errors import BuildError
from feature_repo.group import FeatureGroup
from feature_repo.groups import batch_groups
from feature_repo.home import Home
from feature_repo.lake.lake import Build, Builds


def chosen_builds(home: Home, names: Sequence[str] | None = None) -> list[tuple[FeatureGroup, Build]]:
    """Return the current builds of the named batch groups; by default of all.

    Raises:
        BuildError: a name is not a batch group, or nothing has been built; says what to do.
    """
    known = batch_groups()
    if unknown := sorted(set(names or ()) - known.keys()):
        msg = f"{unknown[0]}: not a batch group; the batch groups are {', '.join(known)}"
        raise BuildError(msg)
    builds = Builds(home.features)
    current = {n: builds.current(n, known[n].version) for n in known if not names or n in names}
    if missing := [name for name in names or () if current[name] is None]:
        msg = f"{missing[0]}: nothing built yet; `headrace build` builds it"
        raise BuildError(msg)
    found = [(known[name], build) for name, build in current.items() if build is not None]
    if not found:
        msg = f"{home.features}: nothing built yet; `headrace build` builds every group"
        raise BuildError(msg)
    return found
