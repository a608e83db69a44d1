"""Files replaced as a whole: a reader sees the old content or the new, also after a crash or a power cut."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, *, parents: bool = False) -> Iterator[Path]:
    """Yield a temporary name in the folder of `path`; on success, sync the file and rename it to `path`.

    After an error nothing is left and `path` is unchanged. Concurrent writers have a temporary file each; the
    last rename wins.

    Args:
        parents: whether to create missing folders; a folder that should exist may be a disk not mounted.

    Raises:
        OSError: the file cannot be written.
    """
    if parents:
        make_folder(path.parent)
    aside = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield aside
        sync(aside)
        aside.replace(path)
        sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)  # after a `replace` between two links of one file, it is still there


def write_file(path: Path, content: bytes | str, *, parents: bool = False, private: bool = False) -> None:
    """Replace the content of a file, text as UTF-8; on return it is on disk.

    Args:
        parents: whether to create missing folders.
        private: whether only the owner may read it, whatever the umask.

    Raises:
        OSError: it cannot be written; the previous content stays.
    """
    with replacing(path, parents=parents) as aside:
        aside.touch(mode=0o600 if private else 0o666)
        aside.write_bytes(content.encode() if isinstance(content, str) else content)


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents; a power cut does not undo them."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in reversed(missing):
        sync(folder.parent)


def sync(path: Path) -> None:
    """Sync to disk the content of a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
