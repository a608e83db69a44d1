"""Experiments: arms are assigned by hash, so a unit always gets the same arm on every worker.

A layer divides all units by one hash. Its experiments take disjoint ranges, so no unit is in two of them.
Experiments in different layers are independent. Units of the permanent holdout are in no experiment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeAlias

import xxhash
from msgspec import Meta, Struct

from feature_repo.errors import SettingsError

HOLDOUT = "holdout"
Name: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
Share: TypeAlias = Annotated[float, Meta(ge=0.0, le=1.0)]


class Arm(Struct, frozen=True, forbid_unknown_fields=True):
    """One arm: its weight among the arms, and the flags it sets (`cap.positions`: 5)."""

    weight: Annotated[Annotated[float, Meta(gt=0.0)], Meta(description="Relative size.")] = 1.0
    flags: Annotated[dict[str, Any], Meta(description="Flags it sets, by their path.")] = {}


class Experiment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An experiment on the range `start` … `stop` of its layer."""

    name: Name
    arms: Annotated[dict[Name, Arm], Meta(min_length=2, description="Arms by name.")]
    layer: Annotated[Name, Meta(description="Experiments of one layer exclude each other.")] = "main"
    start: Annotated[Share, Meta(description="Start of its range of the layer.")] = 0.0
    stop: Annotated[Share, Meta(description="End of its range of the layer.")] = 1.0
    unit: Annotated[
        Literal["user", "session"], Meta(description="What gets an arm; without a user it is the session.")
    ] = "user"
    salt: Annotated[str, Meta(description="Seed of the assignment; the name by default.")] = ""

    def __post_init__(self) -> None:
        if self.name == HOLDOUT:
            msg = f"experiments: {HOLDOUT!r} names the permanent holdout; choose another name"
            raise SettingsError(msg)
        if self.start >= self.stop:
            msg = f"experiments: {self.name}: start {self.start:g} must be below stop {self.stop:g}"
            raise SettingsError(msg)


class Assignment(Struct, frozen=True):
    """The arms of a request.

    Attributes:
        arms: arm by experiment; ``{"holdout": "in"}`` for a held-out unit.
        flags: flags that the arms set, by path.
    """

    arms: Mapping[str, str] = {}
    flags: Mapping[str, Any] = {}

    @property
    def held_out(self) -> bool:
        """Whether to answer with the base order."""
        return HOLDOUT in self.arms


def check_experiments(experiments: Sequence[Experiment]) -> None:
    """Check that names are unique and ranges within a layer are disjoint.

    Raises:
        SettingsError: two experiments share a name or overlap.
    """
    by_layer: dict[str, list[Experiment]] = {}
    names: set[str] = set()
    for experiment in experiments:
        if experiment.name in names:
            msg = f"experiments: {experiment.name!r} occurs twice; names must be unique"
            raise SettingsError(msg)
        names.add(experiment.name)
        by_layer.setdefault(experiment.layer, []).append(experiment)
    for layer, members in by_layer.items():
        ordered = sorted(members, key=lambda e: e.start)
        for first, second in pairwise(ordered):
            if second.start < first.stop:
                msg = (
                    f"experiments: {first.name} and {second.name} overlap in layer {layer!r} "
                    f"({second.start:g} < {first.stop:g}); give them disjoint ranges or layers"
                )
                raise SettingsError(msg)


def assign(
    experiments: Sequence[Experiment],
    holdout: float,
    user_id: str | None,
    session_id: str | None,
    overrides: Mapping[str, str] | None = None,
) -> Assignment:
    """Assign the arms of a request.

    Args:
        holdout: share of units that always get the base order.
        overrides: arm by experiment, for testing, including ``{"holdout": "in"}`` or ``"out"``. Unknown names
            and arms are ignored.
    """
    overrides = overrides or {}
    anyone = user_id if user_id is not None else session_id
    held = anyone is not None and fraction(HOLDOUT, anyone) < holdout
    if overrides.get(HOLDOUT, "in" if held else "out") == "in":
        return Assignment({HOLDOUT: "in"})
    arms: dict[str, str] = {}
    flags: dict[str, Any] = {}
    for experiment in experiments:
        arm = overrides.get(experiment.name)
        if arm not in experiment.arms:
            unit = anyone if experiment.unit == "user" else session_id
            arm = None if unit is None else _arm_of(experiment, unit)
        if arm is not None:
            arms[experiment.name] = arm
            flags.update(experiment.arms[arm].flags)
    return Assignment(arms, flags)


def fraction(salt: str, unit: str) -> float:
    """Hash a unit to ``[0, 1)``, uniform over units and independent between salts."""
    return xxhash.xxh3_64_intdigest(f"{salt}\0{unit}".encode()) / 2**64


def _arm_of(experiment: Experiment, unit: str) -> str | None:
    place = fraction(f"layer:{experiment.layer}", unit)
    if not experiment.start <= place < experiment.stop:
        return None
    total = sum(arm.weight for arm in experiment.arms.values())
    drawn = fraction(f"arm:{experiment.salt or experiment.name}", unit) * total
    reached = 0.0
    for name, arm in experiment.arms.items():
        reached += arm.weight
        if drawn < reached:
            return name
    return name
