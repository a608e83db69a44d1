"""Column lineage of a feature group, from its expression; cached, because Ibis takes a second to load."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from feature_repo.contract.columns import arrow_schema
from feature_repo.contract.records import Kind
from feature_repo.files import write_file
from feature_repo.group import BatchParams, FeatureGroup, LakeTables
from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.settings import Settings
from orchestration.builds.fingerprint import content_hash
from orchestration.builds.versions import code_version
from orchestration.lineage.lineage import Sources, column_sources

if TYPE_CHECKING:
    import ibis.expr.types as ir

LAKE: dict[str, Kind] = {"lake/events": "event", "lake/items": "item", "lake/users": "user"}
"""The lake's tables by the path of their asset."""
_AS_OF = datetime(2000, 1, 1, tzinfo=UTC)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Kept:
    """Sources by column, with the code and settings they were derived from."""

    version: str
    columns: dict[str, list[tuple[str, str]]]


def kept_sources(group: FeatureGroup, settings: Settings, home: Home) -> dict[str, Sources]:
    """Return `group_sources`, derived once per version of the code and the settings."""
    params = BatchParams.of(settings, _AS_OF)
    path = home.quality / "lineage" / f"{group.view_name}.json"
    version = content_hash(
        [Path(__file__), Path(__file__).with_name("lineage.py")], code_version(group), repr(params)
    )
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        kept = _Kept("", {})
    if kept.version == version:
        return {name: frozenset(sources) for name, sources in kept.columns.items()}
    found = group_sources(group, settings)
    columns = {name: sorted(sources) for name, sources in found.items()}
    write_file(path, msgspec.json.encode(_Kept(version, columns)), parents=True)
    return found


def group_sources(group: FeatureGroup, settings: Settings) -> dict[str, Sources]:
    """Return the sources of the join key and of each feature, with tables named by their assets' paths.

    If the expression cannot be traced, use the columns of the same name in the tables that the group reads.
    """
    names = (group.entity.join_key, *group.feature_names)
    schemas = _schemas(group)
    try:
        found = column_sources(_expression(group, settings, schemas))
        return {name: found[name] for name in names}
    except Exception as error:  # lineage is only for display; no build may fail for it
        logger.warning("%s: columns are traced by name, not through the expression: %s", group.name, error)
    return {
        name: frozenset((table, name) for table, schema in schemas.items() if name in schema.names)
        for name in names
    }


def _schemas(group: FeatureGroup) -> dict[str, Any]:
    lake = {table: arrow_schema(kind) for table, kind in LAKE.items()}
    return lake | {f"features/{name}": all_groups()[name].arrow_schema for name in group.depends_on}


def _expression(group: FeatureGroup, settings: Settings, schemas: dict[str, Any]) -> ir.Table:
    import ibis  # noqa: PLC0415

    if group.batch is None:
        msg = "the stream maintains it"
        raise ValueError(msg)
    tables = {
        name: ibis.table(ibis.Schema.from_pyarrow(schema), name=name) for name, schema in schemas.items()
    }
    inputs = LakeTables(
        events=tables["lake/events"],
        items=tables["lake/items"],
        users=tables["lake/users"],
        groups={name: tables[f"features/{name}"] for name in group.depends_on},
    )
    return group.batch(inputs, BatchParams.of(settings, _AS_OF))
