"""Flags, which are changed at run time. Every worker follows a change within a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import xxhash
from msgspec import Meta, Struct

from feature_repo.errors import HeadraceError, SettingsError
from serving.control.experiments import Experiment, check_experiments
from serving.schemas.rank_response import Tier
from serving.scoring.ranker_names import ranker_names
from serving.scoring.signal_groups import GROUPS

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
LEAST, MOST = 0.10, 0.20
MOST_SLOTS = 100


class FlagsError(HeadraceError):
    """Invalid flags. The message names the flag, what is wrong and what would be right.

    Attributes:
        field: path of the flag.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Cap(Struct, frozen=True, forbid_unknown_fields=True):
    """How far the blend may move an item from its base position.

    Diversity, exploration and business rules run afterwards and may move it farther.
    """

    positions: Annotated[
        Annotated[int, Meta(ge=0, le=2000)] | None,
        Meta(description="Positions by which the blend may move an item up or down; null: no limit."),
    ] = 200
    share: Annotated[
        Annotated[float, Meta(ge=0.0, le=1000.0)] | None,
        Meta(description="Base score difference it may move past, as a share of the spread; null: no limit."),
    ] = None


class Diversity(Struct, frozen=True, forbid_unknown_fields=True):
    """How diverse the first slots of a page are."""

    relevance: Annotated[
        Annotated[float, Meta(ge=0.0, le=1.0)],
        Meta(description="Weight of the score against dissimilarity to the items above; 1: score only."),
    ] = 0.95
    per_category: Annotated[
        Annotated[int, Meta(ge=1, le=100)] | None,
        Meta(description="Maximum items of one category among the first slots; null: no limit."),
    ] = None
    slots: Annotated[
        Annotated[int, Meta(ge=1, le=100)],
        Meta(description="Number of first slots to diversify."),
    ] = 10
    depth: Annotated[
        Annotated[int, Meta(ge=2, le=500)],
        Meta(description="Number of top candidates that may fill those slots."),
    ] = 50

    @property
    def active(self) -> bool:
        """Whether it changes anything."""
        return self.relevance < 1.0 or self.per_category is not None


class Exploration(Struct, frozen=True, forbid_unknown_fields=True):
    """How much to explore."""

    share: Annotated[
        Annotated[float, Meta(ge=0.0, le=MOST)],
        Meta(description="Share of the first slots that explore: 0 (off), or 0.10 to 0.20."),
    ] = 0.15
    slots: Annotated[
        Annotated[int, Meta(ge=1, le=MOST_SLOTS)],
        Meta(description="Number of first slots among which some explore."),
    ] = 20

    def __post_init__(self) -> None:
        if 0.0 < self.share < LEAST:
            msg = f"exploration.share: {self.share:g}; 0 turns it off, otherwise use {LEAST:g} … {MOST:g}"
            raise SettingsError(msg)


class Flags(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One set of flags."""

    personalization: Annotated[bool, Meta(description="Kill switch; false: base order for all.")] = True
    ranker: Annotated[
        str, Meta(description="A simple rule to rank by; empty: what the do-no-harm gate chose.")
    ] = ""
    tiers: Annotated[tuple[Tier, ...], Meta(description="Tiers an answer may come from.")] = tuple(Tier)
    weights: Annotated[
        dict[str, Annotated[float, Meta(ge=0.0, le=100.0)]],
        Meta(description="Factors of the signal groups base, item, long_term, segment and session."),
    ] = {}
    cap: Annotated[
        Cap,
        Meta(
            description="How far the blend may move an item; diversity, exploration and rules run afterwards."
        ),
    ] = Cap()
    diversity: Annotated[Diversity, Meta(description="How diverse the first slots are.")] = Diversity()
    exploration: Annotated[Exploration, Meta(description="Slots given to candidates from below the top.")] = (
        Exploration()
    )
    experiments: Annotated[tuple[Experiment, ...], Meta(description="Experiments and their arms.")] = ()
    holdout: Annotated[Share, Meta(description="Share of units that always get the base order.")] = 0.05
    decision_share: Annotated[Share, Meta(description="Share of answers whose decision is recorded.")] = 1.0


FIELDS = tuple(f.name for f in msgspec.structs.fields(Flags))
_NESTED = {
    name: tuple(f"{name}.{f.name}" for f in msgspec.structs.fields(struct))
    for name, struct in (("cap", Cap), ("diversity", Diversity), ("exploration", Exploration))
}


def parse_flags(raw: bytes | Mapping[str, Any]) -> Flags:
    """Read and check a set of flags.

    Args:
        raw: JSON, or the decoded object.

    Raises:
        FlagsError: a flag is unknown or invalid.
    """
    try:
        flags = (
            msgspec.json.decode(raw, type=Flags) if isinstance(raw, bytes) else msgspec.convert(raw, Flags)
        )
        check_experiments(flags.experiments)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        field = where.strip("`.")
        known = ", ".join(_NESTED.get(field, FIELDS))
        message = f"flags: {field or 'file'}: {what}; known flags are {known}"
        raise FlagsError(field, message) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"flags: not valid JSON ({error}); repair the file, or run `headrace flags rollback`"
        raise FlagsError("", message) from error
    except SettingsError as error:
        message = f"flags: {error}"
        raise FlagsError(str(error).partition(":")[0].partition(".")[0], message) from error
    if flags.ranker and flags.ranker not in ranker_names():
        message = (
            f"flags: ranker: {flags.ranker!r} is not a ranker; known rankers are {', '.join(ranker_names())}"
        )
        raise FlagsError("ranker", message)
    if unknown := sorted(flags.weights.keys() - set(GROUPS)):
        message = f"flags: weights: {unknown[0]!r} is not a signal group; groups are {', '.join(GROUPS)}"
        raise FlagsError("weights", message)
    _check_arms(flags)
    return flags


def _check_arms(flags: Flags) -> None:
    """Check the flags that arms set, so that errors do not wait for the first request of an arm."""
    plain = msgspec.structs.replace(flags, experiments=())
    for experiment in flags.experiments:
        for name, arm in experiment.arms.items():
            if not arm.flags:
                continue
            where = f"experiments: {experiment.name}: {name}"
            if fixed := sorted({path.partition(".")[0] for path in arm.flags} & {"experiments", "holdout"}):
                message = f"flags: {where}: {fixed[0]} is the same for all arms"
                raise FlagsError("experiments", message)
            try:
                changed(plain, arm.flags)
            except FlagsError as error:
                raise FlagsError(
                    "experiments", f"flags: {where}: {str(error).removeprefix('flags: ')}"
                ) from error


def encode_flags(flags: Flags) -> bytes:
    """Encode flags as the file's content."""
    return msgspec.json.format(msgspec.json.encode(flags, order="sorted"), indent=2) + b"\n"


def version_of(flags: Flags) -> str:
    """Return a short hash that names a set of flags."""
    return xxhash.xxh3_64_hexdigest(msgspec.json.encode(flags, order="sorted"))[:12]


def changed(flags: Flags, changes: Mapping[str, Any]) -> Flags:
    """Replace some flags; nested ones are named by their path (``cap.positions``).

    Raises:
        FlagsError: a flag or value is invalid.
    """
    tree: dict[str, Any] = msgspec.to_builtins(flags)
    for path, value in changes.items():
        *parents, last = path.split(".")
        node: Any = tree
        for parent in parents:
            node = node.setdefault(parent, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            message = f"flags: {path}: {'.'.join(parents)} holds no further flags"
            raise FlagsError(path, message)
        node[last] = value
    return parse_flags(tree)
