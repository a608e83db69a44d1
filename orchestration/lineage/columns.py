"""Column metadata for Dagster: name, type, meaning and lineage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg
import msgspec

from feature_repo.contract.columns import FACTS, arrow_schema
from feature_repo.contract.records import RECORD_TYPES, Kind
from feature_repo.group import CREATED_TIMESTAMP, EVENT_TIMESTAMP, FeatureGroup
from orchestration.lineage.lineage import Sources

SCHEMA, LINEAGE = "dagster/column_schema", "dagster/column_lineage"
_KEY = dg.TableColumnConstraints(nullable=False, unique=True)
_PRESENT = dg.TableColumnConstraints(nullable=False)
_EVENT_TIME = {
    True: "The row's as-of time: only events strictly before it count.",
    False: "Time of the newest event counted in the row.",
}
_CREATED = "When the row was computed, by the machine's clock; of two rows with one time, the later counts."
_OF_LAKE = {
    "ingested_at": "When the record was ingested, by the machine's clock.",
    FACTS: "Attributes as batch expressions read them, normalized when the lake is written.",
}
_FACTS_FROM: dict[Kind, tuple[str, ...]] = {
    "item": ("categories", "price", "created_at", "attributes"),
    "user": ("attributes",),
}


def group_schema(group: FeatureGroup) -> dg.TableSchema:
    """Return a group's columns, including the key and the two timestamps."""
    described = {f.name: f.meaning + (f" [{f.unit}]" if f.unit else "") for f in group.features}
    described |= {
        group.entity.join_key: f"Key of the row. {group.entity.meaning}",
        EVENT_TIMESTAMP: _EVENT_TIME[group.batch is not None],
        CREATED_TIMESTAMP: _CREATED,
    }
    constraints = {group.entity.join_key: _KEY, EVENT_TIMESTAMP: _PRESENT, CREATED_TIMESTAMP: _PRESENT}
    columns = [
        dg.TableColumn(
            field.name,
            str(field.type),
            description=described[field.name],
            constraints=constraints.get(field.name),
        )
        for field in group.arrow_schema
    ]
    return dg.TableSchema(columns)


def record_schema(*kinds: Kind) -> dg.TableSchema:
    """Return the columns of one kind of record in the lake, or the union for several kinds."""
    columns: dict[str, dg.TableColumn] = {}
    for kind in kinds:
        described = {**_descriptions(kind), **_OF_LAKE}
        for field in arrow_schema(kind):
            if len(kinds) > 1 and field.name in _OF_LAKE:
                continue
            constraints = None if field.nullable else _PRESENT
            column = dg.TableColumn(field.name, str(field.type), described[field.name], constraints)
            columns.setdefault(field.name, column)
    return dg.TableSchema(list(columns.values()))


def _descriptions(kind: Kind) -> dict[str, str]:
    info = msgspec.inspect.type_info(RECORD_TYPES[kind])
    assert isinstance(info, msgspec.inspect.StructType)
    return {
        field.name: (field.type.extra_json_schema or {}).get("description", "")
        for field in info.fields
        if isinstance(field.type, msgspec.inspect.Metadata)
    }


def record_lineage(kind: Kind, log: dg.AssetKey) -> dg.TableColumnLineage:
    """Map the columns of a kind of lake record to fields of the log."""
    names = [f.name for f in arrow_schema(kind) if f.name not in _OF_LAKE]
    fields: dict[str, tuple[str, ...]] = {name: (name,) for name in names}
    if kind in _FACTS_FROM:
        fields[FACTS] = _FACTS_FROM[kind]
    return _lineage({name: [(log, parent) for parent in parents] for name, parents in fields.items()})


def traced_lineage(sources: Mapping[str, Sources]) -> dg.TableColumnLineage:
    """Map columns to the sources traced through an expression."""
    return _lineage(
        {
            name: [(dg.AssetKey(table.split("/")), column) for table, column in sorted(found)]
            for name, found in sources.items()
        }
    )


def lineage_metadata(lineage: dg.TableColumnLineage) -> dict[str, Any]:
    """Return a lineage for Dagster's catalog and as a table, the only form the open-source UI shows."""
    lines = ["| column | comes from |", "|---|---|"]
    for name, deps in lineage.deps_by_column.items():
        sources = ", ".join(f"`{dep.asset_key.to_user_string()}.{dep.column_name}`" for dep in deps)
        lines.append(f"| `{name}` | {sources or '–'} |")
    return {LINEAGE: lineage, "column_sources": dg.MarkdownMetadataValue("\n".join(lines))}


def same_lineage(names: Iterable[str], parent: dg.AssetKey) -> dg.TableColumnLineage:
    """Map each column to the same column of another asset."""
    return _lineage({name: [(parent, name)] for name in names})


def _lineage(found: Mapping[str, list[tuple[dg.AssetKey, str]]]) -> dg.TableColumnLineage:
    return dg.TableColumnLineage(
        {name: [dg.TableColumnDep(*source) for source in sources] for name, sources in found.items()}
    )
