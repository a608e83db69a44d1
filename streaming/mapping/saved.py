"""Mappings by name: presets that ship with Headrace, and copies of mappings used for ingestion."""

from __future__ import annotations

from pathlib import Path

import xxhash

from feature_repo.errors import SourceError
from feature_repo.files import write_file
from streaming.mapping.model import RowMapping
from streaming.mapping.reading import parse_mapping, read_mapping

FORMAT = "map:"
"""Prefix of formats that are mappings; the name of a preset or the hash of a saved copy follows."""
PRESETS = Path(__file__).parent / "presets"


def presets() -> tuple[str, ...]:
    """List the presets."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.toml")))


def format_of(name: str, folder: Path) -> str:
    """Return the format for a preset or a mapping file; save a copy of a file so that quarantine can replay.

    Args:
        name: name of a preset, or path of a TOML file.
        folder: folder of the copies.

    Raises:
        SourceError: it is neither, or not a mapping.
    """
    path = Path(name)
    if name in presets():
        return f"{FORMAT}{name}"
    _check(name)
    read_mapping(path)
    text = path.read_bytes()
    key = xxhash.xxh3_64_hexdigest(text)
    saved = folder / f"{key}.toml"
    if not saved.exists():
        write_file(saved, text, parents=True)
    return f"{FORMAT}{key}"


def by_name(name: str) -> RowMapping:
    """Return the mapping of a preset or a file.

    Raises:
        SourceError: it is neither, or not a mapping.
    """
    if name in presets():
        return read_mapping(PRESETS / f"{name}.toml")
    _check(name)
    return read_mapping(Path(name))


def _check(name: str) -> None:
    if not Path(name).exists() and Path(name).suffix != ".toml":
        msg = f"--map {name}: neither a file nor a preset; presets are {', '.join(presets())}"
        raise SourceError(msg)


def mapping_of(fmt: str, folder: Path | None) -> RowMapping:
    """Return the mapping of a format.

    Raises:
        SourceError: the saved copy is missing.
    """
    name = fmt.removeprefix(FORMAT)
    if name in presets():
        return read_mapping(PRESETS / f"{name}.toml")
    path = (folder or Path()) / f"{name}.toml"
    try:
        return parse_mapping(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeError) as error:
        msg = (
            f"{path}: the saved mapping is gone; give it again: headrace quarantine retry --map mapping.toml"
        )
        raise SourceError(msg) from error
