"""Column lineage of a table expression: the source columns of each of its columns.

A column's sources are the columns in the expression that computes it. A row count names no column; its
sources are the columns that decide which rows exist: filters, join and grouping keys, unnested lists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import ibis.expr.types as ir

Source: TypeAlias = tuple[str, str]
"""Name of a source table, and one of its columns."""
Sources: TypeAlias = frozenset[Source]

_NONE: Sources = frozenset()


def column_sources(table: ir.Table) -> dict[str, Sources]:
    """Return the sources of each column of an expression; a constant has none."""
    walk = _Walk()
    relation = table.op()
    return {name: walk.column(relation, name) for name in relation.schema.names}


class _Walk:
    """Memoized traversal of one expression, whose nodes are shared many times over."""

    def __init__(self) -> None:
        import ibis.expr.operations as ops  # noqa: PLC0415 - a second, and the definitions load this module

        self._ops: Any = ops
        self._found: dict[tuple[str, Any, str], Sources] = {}

    def column(self, relation: Any, name: str) -> Sources:
        """Return the sources of a column of a relation."""
        key = ("column", relation, name)
        if key not in self._found:
            self._found[key] = self._column(relation, name)
        return self._found[key]

    def rows(self, relation: Any) -> Sources:
        """Return the sources that decide which rows a relation has."""
        key = ("rows", relation, "")
        if key not in self._found:
            self._found[key] = self._rows(relation)
        return self._found[key]

    def value(self, node: Any) -> Sources:
        """Return the sources of a value."""
        key = ("value", node, "")
        if key not in self._found:
            self._found[key] = self._value(node)
        return self._found[key]

    def _column(self, relation: Any, name: str) -> Sources:
        ops = self._ops
        if isinstance(relation, ops.Set):
            return self.column(relation.left, name) | self.column(relation.right, name)
        if isinstance(relation, ops.TableUnnest) and name in {relation.column_name, relation.offset}:
            return self.value(relation.column)
        if name in relation.values:
            return self.value(relation.values[name])
        parent = getattr(relation, "parent", None)
        if parent is not None:
            return self.column(parent, name)
        if isinstance(relation, ops.UnboundTable | ops.DatabaseTable):
            return frozenset({(relation.name, name)})
        return _NONE

    def _value(self, node: Any) -> Sources:
        ops = self._ops
        if isinstance(node, ops.Field):
            return self.column(node.rel, node.name)
        found = _NONE
        if isinstance(node, ops.ScalarSubquery | ops.InSubquery):
            found = self.value(node.value)
        for child in node.__children__:
            found |= self.rows(child) if isinstance(child, ops.Relation) else self.value(child)
        return found

    def _rows(self, relation: Any) -> Sources:
        ops = self._ops
        if isinstance(relation, ops.Aggregate):
            deciding = list(relation.groups.values())
        elif isinstance(relation, ops.Filter):
            deciding = list(relation.predicates)
        elif isinstance(relation, ops.JoinChain):
            deciding = [predicate for link in relation.rest for predicate in link.predicates]
        elif isinstance(relation, ops.Distinct):
            deciding = list(relation.values.values())
        elif isinstance(relation, ops.TableUnnest):
            deciding = [relation.column]
        else:
            deciding = [unnest for v in relation.values.values() for unnest in v.find(ops.Unnest)]
        found = frozenset[Source]().union(*(self.value(value) for value in deciding))
        return found.union(*(self.rows(parent) for parent in _parents(relation, ops)))


def _parents(relation: Any, ops: Any) -> list[Any]:
    if isinstance(relation, ops.JoinChain):
        return list(relation.tables)
    if isinstance(relation, ops.Set):
        return [relation.left, relation.right]
    parent = getattr(relation, "parent", None)
    return [] if parent is None else [parent]
