"""Code and data versions of builds, so that unchanged partitions are not rebuilt."""

import inspect
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from feature_repo import catalogue, expressions
from feature_repo import group as declaration
from feature_repo.contract import columns
from feature_repo.contract import normalization as normal
from feature_repo.group import BatchParams, FeatureGroup
from feature_repo.home import Home
from feature_repo.lake import lake as layout
from feature_repo.lake.lake import Lake, days_before
from feature_repo.settings import Settings
from orchestration.builds.fingerprint import content_hash, fingerprint


def code_version(group: FeatureGroup) -> str:
    """Return a hash of the group's module, the expressions it may use, its schema and its version."""
    return content_hash(_sources(group), str(group.version), str(group.arrow_schema))


def data_version(
    group: FeatureGroup, settings: Settings, home: Home, as_of: datetime, needed: Iterable[Path] = ()
) -> str:
    """Return a hash of the code, the parameters, the lake files within the look-back and the builds it reads.

    Args:
        needed: builds of the groups it depends on.
    """
    lake = Lake(home.lake)
    history = timedelta(days=settings.history_days)
    files: list[str | Path] = [
        *lake.files("event", *days_before(as_of, history)),
        *lake.files("item"),
        *lake.files("user"),
        *needed,
    ]
    params = BatchParams.of(settings, as_of)
    return fingerprint(files, code_version(group), repr(params), str(settings.history_days))


def _sources(group: FeatureGroup) -> Iterator[Path]:
    for module in (declaration, layout, catalogue, columns, normal):
        yield Path(inspect.getfile(module))
    for folder in expressions.__path__:
        yield from Path(folder).glob("*.py")
    if group.batch is not None:
        yield Path(inspect.getfile(group.batch))
