"""Builds one batch group: runs its expression on DuckDB, casts to the declared schema, writes one file."""

import logging
import warnings
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.clock import Clock, wall_clock
from feature_repo.errors import BuildError
from feature_repo.files import replacing
from feature_repo.group import FeatureGroup
from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.lake.lake import Build, Builds
from feature_repo.settings import Settings
from orchestration.builds.build_query import MOST_PARTS, Making
from orchestration.builds.versions import data_version

_CREATED, _INPUTS = b"headrace.created", b"headrace.inputs"

logger = logging.getLogger(__name__)


def end_of(day: date) -> datetime:
    """Return midnight after the day, UTC."""
    return datetime.combine(day, time(), UTC) + timedelta(days=1)


def as_of_day(day: date, now: datetime) -> datetime:
    """Return the as-of time of a day's partition: the day's end, or now if it is not over.

    Raises:
        BuildError: the day has not begun.
    """
    if datetime.combine(day, time(), UTC) >= now:
        msg = f"partition {day}: the day has not begun (it is {now:%Y-%m-%dT%H:%M:%SZ}); build it once it has"
        raise BuildError(msg)
    return min(end_of(day), now.replace(microsecond=0))


def read_build(path: Path) -> Build:
    """Read a finished build's metadata.

    Raises:
        BuildError: the file is not a build (corrupt or truncated); names the file.
    """
    try:
        found = pq.read_metadata(path)
        created = datetime.fromisoformat((found.metadata or {})[_CREATED].decode())
        as_of = datetime.strptime(path.parent.name, "as_of=%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except (pa.ArrowInvalid, OSError, KeyError, ValueError) as error:
        msg = f"{path}: not a readable build ({error}); remove it and rebuild its partition"
        raise BuildError(msg) from error
    return Build(path, as_of, created, found.num_rows)


def inputs_of(path: Path) -> str | None:
    """Return the data version that a build was made from; `None` if there is no readable build."""
    try:
        return (pq.read_metadata(path).metadata or {}).get(_INPUTS, b"").decode() or None
    except (pa.ArrowInvalid, OSError):
        return None


def build_of_day(
    builds: Builds, group: FeatureGroup, day: date, until: datetime | None = None
) -> Build | None:
    """Return the newest build of a day's partition (as of its end or a time within), up to `until`."""
    start, end = end_of(day) - timedelta(days=1), end_of(day)
    for path in reversed(builds.history(group.name, group.version)):
        build = read_build(path)
        if start < build.as_of <= min(end, until or end):
            return build
        if build.as_of <= start:
            break
    return None


def build_group(
    group: FeatureGroup, settings: Settings, home: Home, as_of: datetime, clock: Clock = wall_clock
) -> Build:
    """Build a batch group as of a time. `Builds.promote` makes the build current after its checks.

    Rows stream from DuckDB to the file, so ``HEADRACE_DUCKDB_MEMORY`` bounds the memory. If code, parameters
    and inputs are unchanged, the existing build is returned.

    Args:
        as_of: only events strictly before it count; whole seconds.

    Raises:
        BuildError: names the group, the time and the cause; earlier builds are unchanged.
    """
    # Ibis 12 calls a method that DuckDB 2 deprecates, once per file list.
    warnings.filterwarnings("ignore", r"fetch_arrow_table\(\) is deprecated", DeprecationWarning)
    path = Builds(home.features).path(group.name, as_of, group.version)
    needed = _needed(group, home, as_of)
    inputs = data_version(group, settings, home, as_of, needed.values())
    if inputs == inputs_of(path):
        logger.info("%s as of %s: unchanged", group.name, as_of.isoformat())
        return read_build(path)
    created = clock()
    making = Making(group, settings, home, needed, as_of, created)
    facts = {_CREATED.decode(): created.isoformat(), _INPUTS.decode(): inputs}
    try:
        rows = _written(making, path, facts)
    except BuildError:
        raise
    except Exception as error:  # DuckDB, Arrow, Ibis and the OS raise unrelated exceptions
        raise BuildError(_explain(group, as_of, error)) from error
    logger.info("built %s as of %s: %d rows", group.name, as_of.isoformat(), rows)
    return Build(path, as_of, created, rows)


def _written(making: Making, path: Path, facts: Mapping[str, str]) -> int:
    """Write the rows and return their number; double the number of parts whenever memory runs out."""
    parts = making.first_parts()
    while True:
        try:
            with replacing(path, parents=True) as file:
                return making.write(parts, file, facts)
        except duckdb.OutOfMemoryException:
            if not making.group.divisible or parts >= MOST_PARTS:
                raise
        parts *= 2
        logger.info("%s: did not fit in memory, retrying in %d parts", making.group.name, parts)


def _needed(group: FeatureGroup, home: Home, as_of: datetime) -> dict[str, Path]:
    """Return the builds of the same day that the group reads."""
    if group.batch is None:
        msg = f"{group.name}: has no batch expression; the stream maintains it"
        raise BuildError(msg)
    needed: dict[str, Path] = {}
    day = (as_of - timedelta(microseconds=1)).date()
    for name in group.depends_on:
        build = build_of_day(Builds(home.features), all_groups()[name], day, as_of)
        if build is None:
            msg = f"{group.name} of {day}: reads {name}, which has no build of that day; build {name} first"
            raise BuildError(msg)
        needed[name] = build.path
    return needed


def write_aside(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
    """Write batches to a Parquet file replaced as a whole; return the number of rows."""
    rows = 0
    with replacing(path, parents=True) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _explain(group: FeatureGroup, as_of: datetime, error: Exception) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    hint = "the last good build stays current; fix the cause and build again"
    if "Out of Memory" in str(error) or type(error).__name__ == "OutOfMemoryException":
        hint = "raise HEADRACE_DUCKDB_MEMORY, or lower HEADRACE_HISTORY_DAYS"
    elif "No space left" in str(error) or "File too large" in str(error):
        hint = "free space under HEADRACE_HOME, then build again; the last good build stays current"
    elif "No magic bytes" in str(error) or "not a parquet file" in str(error).lower():
        hint = "remove or restore that file and ingest its day again; the last good build stays current"
    return f"{group.name} as of {as_of:%Y-%m-%dT%H:%M:%SZ}: {text}; {hint}"
