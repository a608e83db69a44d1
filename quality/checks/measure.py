"""Measures rules on data: one DuckDB aggregate over files or a table, in bounded memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from feature_repo.errors import LakeError
from quality.checks.predicates import breaks, condition, quoted
from quality.checks.suites import Rule, Suite

MEMORY = "128MB"
"""DuckDB's memory limit for checks; distinct counts of larger days spill to disk."""
SAMPLES = 5

Source: TypeAlias = pa.Table | Sequence[str]


@dataclass(frozen=True)
class Measured:
    """Counts for one rule.

    Attributes:
        rows: rows that the rule covers.
        nulls: covered rows without a value.
        unexpected: rows that break the rule; for ``unique``, the rows after the first of each value.
        samples: a few offending values.
        fault: why the rule could not be measured (column absent or of the wrong type), else ``""``.
    """

    rows: int
    nulls: int = 0
    unexpected: int = 0
    samples: tuple[Any, ...] = ()
    fault: str = ""


@dataclass(frozen=True)
class Measurement:
    """All rules of a suite, in order, and the columns found as ``name type``."""

    rows: int
    columns: tuple[str, ...]
    rules: tuple[Measured, ...]


def measure(suite: Suite, source: Source) -> Measurement:
    """Count, for every rule of the suite, the rows that break it.

    Raises:
        LakeError: a file is missing, is not Parquet or is truncated; names the file.
    """
    types = _types_of(source)
    wanted = {field.name: type_text(field.type) for field in suite.schema}
    absent = pa.schema([suite.schema.field(name) for name in suite.may_lack if types and name not in types])
    types |= {name: {wanted[name]} for name in absent.names}
    faults = [_fault(rule, types, wanted) for rule in suite.rules]
    with _relation(source, types, absent) as con:
        counted = _count(con, suite, faults)
        rules = tuple(
            Measured(counted[0], fault=fault) if fault else _one(con, suite, rule, i, counted)
            for i, (rule, fault) in enumerate(zip(suite.rules, faults, strict=True))
        )
    columns = tuple(f"{name} {kind}" for name, kinds in types.items() for kind in sorted(kinds))
    return Measurement(counted[0], columns, rules)


def type_text(dtype: pa.DataType) -> str:
    """Return a type's name without what varies by writer: list element names, large or dictionary layout."""
    if pa.types.is_dictionary(dtype):
        return type_text(dtype.value_type)
    if pa.types.is_map(dtype):
        return f"map[{type_text(dtype.key_type)}, {type_text(dtype.item_type)}]"
    if pa.types.is_list(dtype) or pa.types.is_large_list(dtype):
        return f"list[{type_text(dtype.value_type)}]"
    if pa.types.is_struct(dtype):
        return f"struct[{', '.join(f'{f.name}: {type_text(f.type)}' for f in dtype)}]"
    if pa.types.is_timestamp(dtype):
        return f"timestamp[{dtype.unit}, {'UTC' if dtype.tz else 'no zone'}]"
    text = str(dtype).removeprefix("large_")
    return "string" if text == "string_view" else text


def _types_of(source: Source) -> dict[str, set[str]]:
    """Return the types found per column, over all files."""
    schemas = [source.schema] if isinstance(source, pa.Table) else [_schema(path) for path in source]
    found: dict[str, set[str]] = {}
    for schema in schemas:
        for field in schema:
            found.setdefault(field.name, set()).add(type_text(field.type))
    return found


def _schema(path: str) -> pa.Schema:
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> LakeError:
    why = " ".join(str(error).split())
    return LakeError(f"{path}: not a readable Parquet file ({why}); write or ingest it again")


def _torn(source: Source, error: Exception) -> LakeError:
    """Identify the file that broke a query: the first that Arrow cannot read to its end either."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    paths = [] if isinstance(source, pa.Table) else list(source)
    for path in paths:
        try:
            for _ in pq.ParquetFile(path).iter_batches():
                pass
        except (OSError, pa.ArrowException) as cause:
            return _unreadable(path, cause)
    return LakeError(f"{', '.join(paths[:3]) or 'the table'}: cannot be checked ({error})")


def _fault(rule: Rule, types: dict[str, set[str]], wanted: dict[str, str]) -> str:
    """Explain why a rule cannot be measured on these columns; empty if it can."""
    needed = rule.columns if rule.where is None else (*rule.columns, rule.where.column)
    for name in needed:
        if name not in types:
            return f"column {name} is absent"
        if types[name] != {wanted[name]}:
            return f"column {name} is {' and '.join(sorted(types[name]))}, not {wanted[name]}"
    return ""


@contextmanager
def _relation(source: Source, types: dict[str, set[str]], absent: pa.Schema) -> Iterator[Any]:
    """Yield a connection with `source` as the view ``data``; `absent` columns are null."""
    import duckdb  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="headrace-check-") as spill:
        con = duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": spill})
        try:
            con.execute(
                "SET TimeZone = 'UTC'; SET preserve_insertion_order = false; SET enable_progress_bar = false"
            )
            if isinstance(source, pa.Table):
                con.register("found", source)
            elif types:
                # If files disagree on a column, read it as text; its rules carry a fault and are not run.
                con.read_parquet(list(source), hive_partitioning=False, union_by_name=True).create_view(
                    "found"
                )
            else:
                con.execute("CREATE VIEW found AS SELECT NULL AS nothing WHERE false")
            query = "SELECT * FROM found"
            if len(absent):
                con.register("absent", absent.empty_table())
                query += " UNION ALL BY NAME SELECT * FROM absent"
            con.execute(f"CREATE VIEW data AS {query}")
            yield con
        except duckdb.Error as error:
            raise _torn(source, error) from error
        finally:
            con.close()


def _count(con: Any, suite: Suite, faults: Sequence[str]) -> list[int]:
    """Return ``[rows, then per rule: rows, nulls, unexpected]`` in one pass."""
    selected = ["count(*)"]
    for rule, fault in zip(suite.rules, faults, strict=True):
        if fault or rule.kind in {"columns", "row_count_between"}:
            selected += ["count(*)", "0", "0"]
            continue
        only = "" if rule.where is None else f" AND {condition(rule.where)}"
        null = " AND ".join(f"{quoted(c)} IS NULL" for c in rule.columns)
        broken = "false" if rule.kind == "unique" else breaks(rule, suite.schema)
        selected += [f"count(*) FILTER (true{only})", f"count(*) FILTER ({null}{only})"]
        selected.append(f"count(*) FILTER (({broken}){only})")
    (row,) = con.execute(f"SELECT {', '.join(selected)} FROM data").fetchall()
    return [int(value) for value in row]


def _one(con: Any, suite: Suite, rule: Rule, index: int, counted: Sequence[int]) -> Measured:
    rows, nulls, unexpected = counted[1 + 3 * index : 4 + 3 * index]
    samples: tuple[Any, ...] = ()
    if rule.kind == "unique":
        unexpected, samples = _repeats(con, rule.columns[0], rows - nulls)
    elif unexpected and rule.kind != "not_null":
        where = breaks(rule, suite.schema) + (f" AND {condition(rule.where)}" if rule.where else "")
        shown = ", ".join(quoted(c) for c in rule.columns)
        found = con.execute(f"SELECT {shown} FROM data WHERE {where} LIMIT {SAMPLES}").fetchall()
        samples = tuple(r[0] if len(r) == 1 else r for r in found)
    return Measured(rows, nulls, unexpected, samples)


def _repeats(con: Any, column: str, present: int) -> tuple[int, tuple[Any, ...]]:
    """Count rows after the first of each value, and sample the values that repeat.

    Distinct hashes are counted first, which is three times cheaper than distinct texts. If there are as many
    as rows, no value repeats; otherwise the values themselves decide.
    """
    name = quoted(column)
    ((distinct,),) = con.execute(
        f"SELECT count(DISTINCT hash({name})) FROM data WHERE {name} IS NOT NULL"
    ).fetchall()
    if distinct == present:
        return 0, ()
    repeated = f"SELECT {name} AS v, count(*) AS n FROM data WHERE {name} IS NOT NULL GROUP BY 1 HAVING n > 1"
    ((extra,),) = con.execute(f"SELECT coalesce(sum(n - 1), 0) FROM ({repeated})").fetchall()
    found = con.execute(f"SELECT v FROM ({repeated}) LIMIT {SAMPLES}").fetchall()
    return int(extra), tuple(v for (v,) in found)


def file_source(path: Path) -> list[str]:
    """Return a file, or the Parquet files of a folder, as a source.

    Raises:
        LakeError: the path does not exist.
    """
    if path.is_dir():
        return sorted(str(p) for p in path.glob("**/[!.]*.parquet"))
    if not path.exists():
        msg = f"{path}: no such file; build the group first"
        raise LakeError(msg)
    return [str(path)]
