"""Item features of one build, in process as arrays: no store delivers a thousand candidates in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.errors import LakeError
from feature_repo.lake import Build, Builds
from serving.attributes import Attributes, Floats, Ints, attributes_of
from serving.items import ItemRows

MAX_NUMERICS = 32
"""Numeric attributes with signals of their own; those fewest items have beyond that are left out."""

_PROFILE = [
    "item_id",
    "categories",
    "age_days",
    "attr_keys",
    "numeric_keys",
    "numeric_values",
    "ctr",
    "clicks",
    "popularity_short",
    "popularity_mid",
    "popularity_long",
    "vector",
]
_NEIGHBOURS = ["item_id", "neighbour_ids", "neighbour_counts", "session_count"]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Neighbours of each item in compressed rows, and the sessions that touched it."""

    offsets: Ints
    items: Ints
    counts: Floats
    sessions: Floats

    def together(self, rows: Ints, last: Ints) -> Floats:
        """Sessions that touched both each candidate and each of the last items ``(n, s)``.

        Args:
            rows: item numbers of the candidates, each once; -1 for unknown.
            last: item numbers of the last items, -1 for unknown.
        """
        out = np.zeros((len(rows), len(last)))
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        for column, item in enumerate(last.tolist()):
            if item < 0 or not len(rows):
                continue
            span = slice(self.offsets[item], self.offsets[item + 1])
            items = self.items[span]
            place = np.minimum(np.searchsorted(ordered, items), len(ordered) - 1)
            hit = (ordered[place] == items) & (items >= 0)
            out[order[place[hit]], column] = self.counts[span][hit]
        return out


@dataclass(frozen=True, eq=False)
class ItemSnapshot:
    """All items as of one build; immutable, swapped whole.

    Attributes:
        version: names the builds it was made from.
        index: item number by id; all arrays are by item number.
        categories, category_offsets: category numbers of item after item.
        vectors: unit vectors float32 ``(n, d)``; zeros where there is none.
    """

    version: str
    as_of: datetime
    item_ids: tuple[str, ...]
    index: Mapping[str, int]
    attributes: Attributes
    ctr: Floats
    clicks: Floats
    popularity: Floats
    share: Floats
    numeric_names: tuple[str, ...]
    numerics: Floats
    neighbours: Neighbours
    category_names: tuple[str, ...]
    category_offsets: Ints
    categories: Ints
    vectors: npt.NDArray[np.float32]
    age_days: Floats

    def __len__(self) -> int:
        return len(self.item_ids)

    def numbers(self, item_ids: Sequence[str]) -> Ints:
        """Item numbers, -1 where unknown."""
        get = self.index.get
        return np.fromiter((get(i, -1) for i in item_ids), np.intp, len(item_ids))

    def rows(self, item_ids: Sequence[str], last_items: Sequence[str] = ()) -> ItemRows:
        """Gather candidates; `last_items` are the session's newest, whose neighbours count."""
        rows = self.numbers(item_ids)
        last = self.numbers(last_items)
        cells, values = self.attributes.gather(rows)
        return ItemRows(
            rows=rows,
            attributes=self.attributes,
            cells=cells,
            values=values,
            ctr=self.ctr[rows],
            clicks=self.clicks[rows],
            popularity=self.popularity[rows],
            share=self.share[rows],
            numeric_names=self.numeric_names,
            numerics=self.numerics[rows],
            together=self.neighbours.together(rows, last),
            sessions=np.where(last < 0, 0.0, self.neighbours.sessions[last]),
        )


def load_snapshot(builds: Builds) -> ItemSnapshot | None:
    """The snapshot of the current builds; `None` before the first build of items, or while it has no rows.

    Each ``CURRENT`` is read once, so what is held is what was promoted, whole.

    Raises:
        LakeError: a build's file cannot be read; names it.
    """
    profile = builds.current("item_profile")
    if profile is None or not profile.rows:
        return None
    neighbours = builds.current("item_neighbours")
    items = _read(profile, _PROFILE)
    pairs = _read(neighbours, _NEIGHBOURS) if neighbours is not None else None
    version = f"items@{_stamp(profile)}" + (f"+neighbours@{_stamp(neighbours)}" if neighbours else "")
    return snapshot_of(items, pairs, version, profile.as_of)


def snapshot_of(items: pa.Table, neighbours: pa.Table | None, version: str, as_of: datetime) -> ItemSnapshot:
    """A snapshot from the rows of `item_profile` and `item_neighbours`."""
    item_ids: tuple[str, ...] = tuple(items["item_id"].to_pylist())
    index = {item_id: number for number, item_id in enumerate(item_ids)}
    popularity = np.stack([_floats(items[f"popularity_{s}"], 0.0) for s in ("short", "mid", "long")], axis=1)
    names, numerics = _numerics(_list(items["numeric_keys"]), _list(items["numeric_values"]))
    categories = _list(items["categories"])
    coded = categories.flatten().dictionary_encode()
    return ItemSnapshot(
        version=version,
        as_of=as_of,
        item_ids=item_ids,
        index=index,
        attributes=attributes_of(_list(items["attr_keys"])),
        ctr=_floats(items["ctr"], np.nan),
        clicks=_floats(items["clicks"], np.nan),
        popularity=popularity,
        share=(popularity[:, 2] + 1.0) / (float(popularity[:, 2].sum()) + len(popularity)),
        numeric_names=names,
        numerics=numerics,
        neighbours=_neighbours(neighbours, index),
        category_names=tuple(coded.dictionary.to_pylist()),
        category_offsets=_offsets(categories),
        categories=coded.indices.to_numpy(zero_copy_only=False).astype(np.intp),
        vectors=_vectors(_list(items["vector"])),
        age_days=_floats(items["age_days"], np.nan),
    )


def _neighbours(table: pa.Table | None, index: Mapping[str, int]) -> Neighbours:
    n = len(index)
    if table is None:
        none = np.zeros(0)
        return Neighbours(np.zeros(n + 1, np.intp), none.astype(np.intp), none, np.zeros(n))
    get = index.get
    owner = np.array([get(i, -1) for i in table["item_id"].to_pylist()], np.intp)
    ids = _list(table["neighbour_ids"])
    lengths = np.diff(_offsets(ids))
    flat = np.array([get(i, -1) for i in ids.flatten().to_pylist()], np.intp)
    counts = _floats(_list(table["neighbour_counts"]).flatten(), 0.0)
    source = np.repeat(owner, lengths)
    order = np.argsort(source, kind="stable")[int((source < 0).sum()) :]
    per_item = np.bincount(source[order], minlength=n)
    sessions = np.zeros(n)
    sessions[owner[owner >= 0]] = _floats(table["session_count"], 0.0)[owner >= 0]
    offsets = np.concatenate([[0], np.cumsum(per_item)]).astype(np.intp)
    return Neighbours(offsets, flat[order], counts[order], sessions)


def _numerics(keys: pa.ListArray, values: pa.ListArray) -> tuple[tuple[str, ...], Floats]:
    owner = np.repeat(np.arange(len(keys)), np.diff(_offsets(keys)))
    coded = keys.flatten().dictionary_encode()
    column = coded.indices.to_numpy(zero_copy_only=False).astype(np.intp)
    found: list[str] = coded.dictionary.to_pylist()
    counts = np.bincount(column, minlength=len(found))
    kept = sorted(
        sorted(range(len(found)), key=lambda i: (-counts[i], found[i]))[:MAX_NUMERICS], key=found.__getitem__
    )
    matrix = np.full((len(keys), len(found)), np.nan)
    matrix[owner, column] = _floats(values.flatten(), np.nan)
    return tuple(found[i] for i in kept), np.ascontiguousarray(matrix[:, kept])


def _vectors(column: pa.ListArray) -> npt.NDArray[np.float32]:
    lengths = np.diff(_offsets(column))
    width = int(lengths.max(initial=0))
    out = np.zeros((len(column), width), np.float32)
    full = lengths == width
    flat = column.filter(pa.array(full)).flatten().to_numpy(zero_copy_only=False)
    if width:
        out[full] = flat.reshape(-1, width)
    return out


def _list(column: pa.ChunkedArray) -> pa.ListArray:
    whole = column.combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole


def _offsets(column: pa.ListArray) -> Ints:
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.intp)


def _floats(column: pa.Array | pa.ChunkedArray, missing: float) -> Floats:
    values = pc.fill_null(pc.cast(column, pa.float64()), missing)
    return np.array(values.to_numpy(), np.float64)


def _read(build: Build, columns: list[str]) -> pa.Table:
    try:
        return pq.read_table(build.path, columns=columns)
    except (OSError, pa.ArrowException, KeyError) as error:
        msg = f"{build.path}: not a readable build ({error}); run the chain again"
        raise LakeError(msg) from error


def _stamp(build: Build) -> str:
    return f"{build.as_of:%Y%m%dT%H%M%SZ}"
