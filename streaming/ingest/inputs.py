"""Inputs of an ingest as local files: paths, URLs and the result of a query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from feature_repo.errors import SourceError
from feature_repo.home import Home
from feature_repo.settings import Settings
from streaming.sources.files import InputFile
from streaming.sources.packing import Limits
from streaming.sources.remote import Progress, fetched, is_remote, shown_url
from streaming.sources.sql import query_result

QUERY = "the query's result"


@dataclass
class Inputs:
    """Local files.

    Attributes:
        paths: files to read.
        names: display names of files that were fetched from elsewhere.
        refused: a line with the cause for each input that could not be fetched.
    """

    paths: list[Path] = field(default_factory=list)
    names: dict[Path, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


@contextmanager
def inputs(
    given: Sequence[str], query: str | None, settings: Settings, progress: Progress | None = None
) -> Iterator[Inputs]:
    """Fetch remote inputs and remove the copies at the end. One failed fetch does not stop the others.

    Raises:
        SourceError: the query fails.
    """
    found = Inputs()
    folder = Home(settings.home).fetched
    with ExitStack() as stack:
        for name in given:
            if not is_remote(name):
                found.paths.append(Path(name))
                continue
            Home(settings.home).ensure()
            try:
                copy = fetched(name, folder, settings.ingest_unpacked_bytes, progress)
                path = stack.enter_context(copy)
            except SourceError as error:
                found.refused.append(str(error))
                continue
            found.paths.append(path)
            found.names[path] = shown_url(name)
        if query is not None:
            Home(settings.home).ensure()
            path = stack.enter_context(query_result(query, folder, settings, progress))
            found.paths.append(path)
            found.names[path] = QUERY
        yield found


def input_file(path: Path, settings: Settings, names: Mapping[Path, str]) -> InputFile:
    """Create the file to read, with the settings' limits and the name of its original."""
    file = InputFile(path, Limits.of(settings))
    file.name = names.get(path, file.name)
    return file
