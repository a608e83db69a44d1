"""Short hashes of files, to detect changed inputs."""

from collections.abc import Iterable
from pathlib import Path

import xxhash


def fingerprint(files: Iterable[Path | str], *more: str) -> str:
    """Return 16 hex digits that change when a file is added, removed or rewritten, or when `more` differs.

    Files are written once and renamed into place, so size and modification time identify the content.
    """
    digest = xxhash.xxh3_64()
    for path in sorted(Path(f) for f in files):
        stat = path.stat()
        digest.update(f"{path.parent.name}/{path.name}:{stat.st_size}:{stat.st_mtime_ns}\n".encode())
    for text in more:
        digest.update(f"{text}\n".encode())
    return digest.hexdigest()


def content_hash(files: Iterable[Path], *more: str) -> str:
    """Return 16 hex digits of the content of files, in the order of their names, and of `more`."""
    digest = xxhash.xxh3_64()
    for path in sorted(set(files)):
        digest.update(path.read_bytes())
    for text in more:
        digest.update(f"{text}\n".encode())
    return digest.hexdigest()
