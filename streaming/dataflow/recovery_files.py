"""Bytewax's recovery files: made at the first start, looked at before each run, set aside when damaged.

They hold positions of the log that the shards' own files hold as well, with checksums. So nothing depends on
them: without them reading resumes a little before where the shards' state has come, and what is read twice is
known by its ids.
"""

from __future__ import annotations

import logging
import re
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from bytewax.recovery import init_db_dir

from feature_repo.errors import StoreError
from streaming.dataflow.native_output import native_output_to

_log = logging.getLogger(__name__)
RECOVERY_PARTITIONS = 4
FOLDER = "recovery"
FROM_STATE = "resume-from-state"
"""Beside the files that replaced damaged ones: where they know no position, the shards' own holds."""
_SNAPSHOT = re.compile(rb"\x80[\x02-\x05](\x95.{8})?(\x8c.[0-9-]*\x94|K.|M..|J....|N)\.", re.DOTALL)
"""What Bytewax pickles for this flow: a position, a number or nothing. It must not unpickle anything else."""
_ENVIRONMENT = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
}
"""Errors that say nothing about the file: the disk is full, or another process has it."""
_TABLES = ("parts", "exs", "fronts", "commits", "snaps")


def prepare_recovery(stream: Path) -> Path:
    """Bytewax's recovery files below the stream's folder: whole ones, be it new ones.

    Raises:
        StoreError: they cannot be made.
    """
    found = stream / FOLDER
    try:
        if found.is_dir():
            wrong = damage(found)
            if wrong is not None:
                set_aside(stream, wrong)
        else:
            _make(found)
    except OSError as error:
        raise _unwritable(found, error.strerror or error) from error
    return found


def _unwritable(folder: Path, why: object) -> StoreError:
    return StoreError(
        f"{folder}: recovery files cannot be written ({why}); free space, make the folder writable, or point "
        "HEADRACE_HOME elsewhere"
    )


def set_aside(stream: Path, why: str) -> Path:
    """Rename damaged recovery files and make new ones; what was read since the last snapshots is read again.

    Returns:
        where the damaged ones are now.
    """
    found, now = stream / FOLDER, datetime.now(UTC)
    aside = stream / f"{FOLDER}-damaged-{now:%Y%m%dT%H%M%S%f}"
    found.rename(aside)
    _make(found, FROM_STATE)
    _log.warning(
        "recovery files damaged (%s): kept as %s; reading resumes where the state of the shards has come",
        why,
        aside,
    )
    return aside


def damage(folder: Path) -> str | None:
    """What is wrong with recovery files; `None` where they are whole. The caller holds the stream's lock."""
    names = {path.name for path in folder.glob("*.sqlite3")}
    should = {f"part-{n}.sqlite3" for n in range(RECOVERY_PARTITIONS)}
    if names != should:
        missing = ", ".join(sorted(should - names) or sorted(names - should))
        return f"{missing} {'missing' if should - names else 'not known'}"
    for number in range(RECOVERY_PARTITIONS):
        path = folder / f"part-{number}.sqlite3"
        try:
            _check(path, number)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in _ENVIRONMENT:
                raise _unwritable(folder, error) from error
            return f"{path.name}: {error}"
        except (sqlite3.Error, OSError, ValueError) as error:
            return f"{path.name}: {str(error).splitlines()[0]}"
    return None


def _check(path: Path, number: int) -> None:
    if not path.stat().st_size:
        msg = "empty"
        raise ValueError(msg)
    with closing(sqlite3.connect(path, timeout=0.5)) as connection:
        connection.execute("BEGIN IMMEDIATE")  # a file may say of itself that it is not to be written
        connection.execute("ROLLBACK")
        (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise ValueError(verdict)
        for table in _TABLES:
            connection.execute(f"SELECT * FROM {table}").fetchall()
        if connection.execute("SELECT part_index, part_count FROM parts").fetchall() != [
            (number, RECOVERY_PARTITIONS)
        ]:
            msg = "is of another set"
            raise ValueError(msg)
        for (raw,) in connection.execute("SELECT ser_change FROM snaps WHERE ser_change IS NOT NULL"):
            if not _SNAPSHOT.fullmatch(raw):
                msg = "a snapshot that is none"
                raise ValueError(msg)


def _make(folder: Path, *beside: str) -> None:
    """New recovery files, all or none: a set with some missing would count as damaged."""
    aside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    with native_output_to(aside / "bytewax.log"):
        try:
            init_db_dir(aside, RECOVERY_PARTITIONS)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of Bytewax is no `Exception`
            raise _unwritable(folder, next(iter(str(error).splitlines()), "")) from error
    for name in beside:
        (aside / name).touch()
    aside.rename(folder)
