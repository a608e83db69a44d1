"""Item features of one build as in-process arrays: no store delivers a thousand candidates in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.arrays import Float32s, Floats, Ints
from feature_repo.contract.normalization import normalized
from feature_repo.errors import LakeError
from feature_repo.lake.lake import Build, Builds
from serving.items.arrow_arrays import bounds_of, floats_of, list_of, texts_of
from serving.items.item_attributes import Attributes, attributes_of
from serving.items.item_index import ItemIndex
from serving.items.item_neighbours import SESSIONS, STEPS, Neighbours, neighbours_of
from serving.items.item_rows import ALONE, LAST_ITEMS, ItemRows, alone
from serving.scoring.compiled import compiled

ITEMS, NEIGHBOURS = "item_profile", "item_neighbours"
GROUPS = (ITEMS, NEIGHBOURS)
"""The groups that a snapshot is made from."""

MAX_NUMERICS = 32
"""Maximum number of numeric attributes with their own signals; those that fewest items have are omitted."""

POPULAR_SHARE = 0.1
"""Share of the items with most engagement that counts as popular."""

_PROFILE = [
    "item_id",
    "categories",
    "age_days",
    "attr_keys",
    "numeric_keys",
    "numeric_values",
    "ctr",
    "ctr_debiased",
    "clicks",
    "purchases",
    "popularity_short",
    "popularity_mid",
    "popularity_long",
    "vector",
]
NEWER = {"purchases", *STEPS}
"""Columns that builds of earlier releases lack."""
_NEIGHBOURS = ["item_id", *SESSIONS, *STEPS]


@dataclass(frozen=True, eq=False)
class ItemSnapshot:
    """All items of one build. Immutable, and replaced as a whole.

    Attributes:
        version: names the builds that it was made from.
        as_of: as-of time of the item build, in whole seconds like in `version`.
        neighbours_as_of: as-of time of the neighbour build; `None` without one.
        index: item number by id; all arrays are indexed by item number.
        at: like `index`, for many items at once.
        alone: see `item_rows.alone`; the appended row of nan belongs to item -1, the unknown item.
        categories, category_offsets: category numbers of all items, one item after the other.
        vectors: unit vectors float32 ``(n, d)``; zeros if missing.
        vector_lengths: length of each vector: 1 up to rounding, or 0 if missing.
        popular_from: minimum long-term popularity of popular items; above zero.
    """

    version: str
    as_of: datetime
    neighbours_as_of: datetime | None
    item_ids: tuple[str, ...]
    index: Mapping[str, int]
    at: ItemIndex
    attributes: Attributes
    alone: Floats
    popularity: Floats
    share: Floats
    numeric_names: tuple[str, ...]
    neighbours: Neighbours
    steps: Neighbours
    category_names: tuple[str, ...]
    category_offsets: Ints
    categories: Ints
    vectors: Float32s
    vector_lengths: Float32s
    popular_from: float
    age_days: Floats

    def __len__(self) -> int:
        return len(self.item_ids)

    def numbers(self, item_ids: Sequence[str]) -> Ints:
        """Return the item numbers, with -1 for unknown ids."""
        return self.at.numbers(item_ids)

    def gather(self, item_ids: Sequence[str], order: Ints) -> Ints:
        """Return the item numbers of candidates in an order, and prefetch their rows into the CPU cache."""
        rows = self.numbers(item_ids)[order]
        _read_ahead(rows, self.alone, self.share, *self.attributes.occurrences[1:])
        return rows

    def rows(self, numbers: Ints, touched: Sequence[str] = (), *, covisits: bool = True) -> ItemRows:
        """Return the candidates' features for the signals.

        Args:
            numbers: item numbers of the candidates.
            touched: items that the session touched, newest first.
            covisits: whether to use co-visits; otherwise they are unknown.
        """
        seen = self.numbers(touched)
        last = seen[: LAST_ITEMS if covisits else 0]
        return ItemRows(
            rows=numbers,
            places=numbers,
            attributes=self.attributes,
            alone=self.alone,
            share=self.share,
            numeric_names=self.numeric_names,
            touched=seen,
            together=self.neighbours.together(numbers, last),
            sessions=self.neighbours.totals[last],
            steps=lambda: (self.steps.together(numbers, last), self.steps.totals[last]),
            last_numerics=self.alone[seen[0] if len(seen) else -1, ALONE:],
        )


def load_snapshot(builds: Builds) -> ItemSnapshot | None:
    """Load the snapshot of the current builds, or return `None` without an item build or items.

    Each ``CURRENT`` is read once, so the snapshot is consistent with what was promoted.

    Raises:
        LakeError: a build's file cannot be read.
    """
    return read_snapshot(current_builds(builds))


def current_builds(builds: Builds) -> dict[str, Build | None]:
    """Return the promoted build of each group.

    Raises:
        LakeError: a pointer is damaged.
    """
    return {group: builds.current(group) for group in GROUPS}


def read_snapshot(found: Mapping[str, Build | None]) -> ItemSnapshot | None:
    """Read the snapshot of builds, or return `None` without items.

    Raises:
        LakeError: a build's file cannot be read.
    """
    profile, neighbours = found[ITEMS], found[NEIGHBOURS]
    if profile is None or not profile.rows:
        return None
    items = _read(profile, _PROFILE)
    pairs = _read(neighbours, _NEIGHBOURS) if neighbours is not None else None
    version = f"items@{_stamp(profile)}" + (f"+neighbours@{_stamp(neighbours)}" if neighbours else "")
    as_of = None if neighbours is None else _whole(neighbours.as_of)
    return snapshot_of(items, pairs, version, _whole(profile.as_of), as_of)


def snapshot_of(
    items: pa.Table,
    neighbours: pa.Table | None,
    version: str,
    as_of: datetime,
    neighbours_as_of: datetime | None = None,
) -> ItemSnapshot:
    """Make a snapshot from the rows of `item_profile` and `item_neighbours`.

    Args:
        neighbours_as_of: as-of time of the neighbours, if it differs from `as_of`.
    """
    item_ids = tuple(texts_of(items["item_id"]))
    index = {item_id: number for number, item_id in enumerate(item_ids)}
    popularity = np.stack(
        [floats_of(items[f"popularity_{s}"], 0.0) for s in ("short", "mid", "long")], axis=1
    )
    names, numerics = _numerics(list_of(items["numeric_keys"]), list_of(items["numeric_values"]))
    ctr, clicks, debiased, age_days = (
        floats_of(items[name], np.nan) for name in ("ctr", "clicks", "ctr_debiased", "age_days")
    )
    bought = floats_of(items["purchases"], 0.0) if "purchases" in items.column_names else np.zeros(len(items))
    known = alone(ctr, clicks, popularity, debiased, age_days, bought, numerics)
    categories = list_of(items["categories"])
    category_names, numbers = _numbered(categories.flatten().dictionary_encode())
    vectors = _vectors(list_of(items["vector"]))
    return ItemSnapshot(
        version=version,
        as_of=as_of,
        neighbours_as_of=None if neighbours is None else neighbours_as_of or as_of,
        item_ids=item_ids,
        index=index,
        at=ItemIndex(index),
        attributes=attributes_of(list_of(items["attr_keys"])),
        alone=np.concatenate([known, np.full((1, known.shape[1]), np.nan)]),
        popularity=popularity,
        share=(popularity[:, 2] + 1.0) / (float(popularity[:, 2].sum()) + len(popularity)),
        numeric_names=names,
        neighbours=neighbours_of(neighbours, index),
        steps=neighbours_of(neighbours, index, STEPS),
        category_names=category_names,
        category_offsets=bounds_of(categories),
        categories=numbers,
        vectors=vectors,
        vector_lengths=np.sqrt(np.square(vectors).sum(axis=1)),
        popular_from=_popular_from(popularity[:, 2]),
        age_days=age_days,
    )


def _numbered(coded: pa.DictionaryArray) -> tuple[tuple[str, ...], Ints]:
    """Return the distinct normalized categories, and the category number of each occurrence."""
    of: dict[str, int] = {}
    number = np.array([of.setdefault(normalized(n), len(of)) for n in coded.dictionary.to_pylist()], np.intp)
    return tuple(of), number[coded.indices.to_numpy(zero_copy_only=False)]


def _popular_from(popularity: Floats) -> float:
    ranked = np.quantile(popularity, 1.0 - POPULAR_SHARE) if len(popularity) else 0.0
    return max(float(ranked), float(np.nextafter(0.0, 1.0)))


def _numerics(keys: pa.ListArray, values: pa.ListArray) -> tuple[tuple[str, ...], Floats]:
    owner = np.repeat(np.arange(len(keys)), np.diff(bounds_of(keys)))
    coded = keys.flatten().dictionary_encode()
    column = coded.indices.to_numpy(zero_copy_only=False).astype(np.intp)
    found: list[str] = coded.dictionary.to_pylist()
    counts = np.bincount(column, minlength=len(found))
    kept = sorted(
        sorted(range(len(found)), key=lambda i: (-counts[i], found[i]))[:MAX_NUMERICS], key=found.__getitem__
    )
    matrix = np.full((len(keys), len(found)), np.nan)
    matrix[owner, column] = floats_of(values.flatten(), np.nan)
    return tuple(found[i] for i in kept), np.ascontiguousarray(matrix[:, kept])


def _vectors(column: pa.ListArray) -> Float32s:
    lengths = np.diff(bounds_of(column))
    width = int(lengths.max(initial=0))
    out = np.zeros((len(column), width), np.float32)
    full = lengths == width
    flat = column.filter(pa.array(full)).flatten().to_numpy(zero_copy_only=False)
    if width:
        out[full] = flat.reshape(-1, width)
    return out


def _read(build: Build, columns: list[str]) -> pa.Table:
    try:
        there = set(pq.read_schema(build.path).names)
        # A build of an earlier release lacks what is newer.
        return pq.read_table(build.path, columns=[c for c in columns if c in there or c not in NEWER])
    except (OSError, pa.ArrowException, KeyError) as error:
        msg = f"{build.path}: not a readable build ({error}); run the chain again"
        raise LakeError(msg) from error


def _whole(as_of: datetime) -> datetime:
    """Truncate to seconds like build names, so that a replay, which has only the name, gets the same age."""
    return as_of.replace(microsecond=0)


def _stamp(build: Build) -> str:
    return f"{build.as_of:%Y%m%dT%H%M%SZ}"


@compiled
def _read_ahead(
    rows: Ints, alone: Floats, share: Floats, type_of: Ints, values_share: Floats, offsets: Ints, values: Ints
) -> float:
    """Prefetch into the CPU cache what the signals will read of each item.

    Args:
        type_of, values_share, offsets, values: see `Occurrences`.

    Returns:
        A meaningless sum that keeps the compiler from removing the reads.
    """
    total = 0.0
    for i in range(len(rows)):
        if rows[i] >= 0:
            total += alone[rows[i], 0] + alone[rows[i], alone.shape[1] - 1] + share[rows[i]]
            for k in range(offsets[rows[i]], offsets[rows[i] + 1]):
                total += type_of[values[k]] + values_share[values[k]]
    return total
