"""Business rules: exclude, demote, limit or pin items, whatever the ranking says.

Declared in one JSON file, ``<home.flags>/rules.json``::

    {"rules": [
      {"kind": "exclude", "name": "out of stock", "attributes": ["stock:none"]},
      {"kind": "exclude", "name": "already bought", "bought": true},
      {"kind": "demote", "name": "clearance", "attributes": ["category:clearance"], "by": 10},
      {"kind": "at_most", "name": "two per brand", "type": "brand", "count": 2, "first": 10},
      {"kind": "pin", "name": "campaign", "items": ["i42"], "position": 0}
    ]}

Rules apply by kind, in the order exclude, demote, at most, pin, and within a kind in file order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from feature_repo.contract.normalization import normalized
from feature_repo.errors import SettingsError

if TYPE_CHECKING:
    from feature_repo.arrays import Ints  # imports numpy, which `headrace flags` does not need

MAX_RULES = 200
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=100)]


class _Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    name: Annotated[Name, Meta(description="Reported with the items it drops.")]


class _Matching(_Rule, frozen=True, kw_only=True, forbid_unknown_fields=True):
    items: Annotated[tuple[str, ...], Meta(description="Item ids it matches.")] = ()
    attributes: Annotated[
        tuple[str, ...],
        Meta(description="Attribute values it matches: `type:value`, such as `category:shoes`; any case."),
    ] = ()

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "attributes", tuple(map(normalized, self.attributes)))


class Exclude(_Matching, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="exclude"):
    """Drops items."""

    bought: Annotated[bool, Meta(description="Also items that the session or its user bought.")] = False


class Demote(_Matching, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="demote"):
    """Moves items down."""

    by: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)] | None, Meta(description="Positions; null: to the end.")
    ] = None


class AtMost(_Rule, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="at_most"):
    """Allows at most `count` items with the same value of an attribute type."""

    count: Annotated[int, Meta(ge=1, le=1000)]
    type: Annotated[Name, Meta(description="Attribute type: `category`, `brand`, …")] = "category"
    first: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)] | None,
        Meta(description="Limit only this many first positions and move the surplus behind; null: drop it."),
    ] = None

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "type", normalized(self.type))


class Pin(_Rule, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="pin"):
    """Puts items at a position, one after the other, if they are among the candidates."""

    items: Annotated[tuple[str, ...], Meta(min_length=1, description="Item ids, in order.")]
    position: Annotated[int, Meta(ge=0, le=10_000)] = 0


Rule: TypeAlias = Exclude | Demote | AtMost | Pin


class Rules(Struct, frozen=True, forbid_unknown_fields=True):
    """All rules."""

    rules: Annotated[tuple[Rule, ...], Meta(max_length=MAX_RULES)] = ()

    @property
    def of_attributes(self) -> bool:
        """Whether a rule needs attribute values of items."""
        return any(isinstance(r, AtMost) or (isinstance(r, _Matching) and r.attributes) for r in self.rules)

    @property
    def of_bought(self) -> bool:
        """Whether a rule needs the user's purchases."""
        return any(isinstance(rule, Exclude) and rule.bought for rule in self.rules)

    def __post_init__(self) -> None:
        names: set[str] = set()
        for rule in self.rules:
            if rule.name in names:
                msg = f"rules: {rule.name!r} occurs twice; names must be unique"
                raise SettingsError(msg)
            names.add(rule.name)
            if isinstance(rule, _Matching):
                _check_matching(rule)


@dataclass(frozen=True, slots=True)
class Ruled:
    """An order after the rules.

    Attributes:
        order: candidate indices, best first.
        dropped: candidate index and the name of the rule that dropped it.
        moved: name of the last rule that moved a candidate, by candidate index.
    """

    order: Ints
    dropped: tuple[tuple[int, str], ...] = ()
    moved: Mapping[int, str] = field(default_factory=dict)


_items: dict[int, tuple[Exclude | Demote | Pin, frozenset[str]]] = {}
_KEPT = 4 * MAX_RULES


def items_of(rule: Exclude | Demote | Pin) -> frozenset[str]:
    """Return a rule's item ids as a set, cached by identity because a block list may be long."""
    found = _items.get(id(rule))
    if found is None:
        if len(_items) >= _KEPT:
            _items.clear()
        found = _items[id(rule)] = (rule, frozenset(rule.items))
    return found[1]


def relevant(rules: Rules, item_ids: Collection[str]) -> Rules:
    """Reduce rules to those that affect some items. The effect is the same, and records stay small."""
    if not rules.rules:
        return rules
    here = frozenset(item_ids)
    kept: list[Rule] = []
    for rule in rules.rules:
        if isinstance(rule, AtMost):
            kept.append(rule)
            continue
        matched = items_of(rule) & here
        items = tuple(_in_order(rule, matched))
        if items or (isinstance(rule, Exclude) and rule.bought) or getattr(rule, "attributes", ()):
            kept.append(msgspec.structs.replace(rule, items=items))
    return Rules(tuple(kept))


def _in_order(rule: Exclude | Demote | Pin, matched: Collection[str]) -> Iterable[str]:
    """Return the matched items; in the rule's order only for a pin, where it matters."""
    if not matched or not isinstance(rule, Pin):
        return sorted(matched)
    return (item_id for item_id in dict.fromkeys(rule.items) if item_id in matched)


def parse_rules(raw: bytes) -> Rules:
    """Read rules from JSON.

    Raises:
        SettingsError: a rule is invalid. The message names it and says what would be right.
    """
    try:
        return msgspec.json.decode(raw, type=Rules)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        place = where.strip("`").removeprefix(".rules")
        msg = f"rules{place}: {what}; kinds are exclude, demote, at_most and pin"
        raise SettingsError(msg) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"rules: not valid JSON ({error})"
        raise SettingsError(msg) from error


def _check_matching(rule: _Matching) -> None:
    if not (rule.items or rule.attributes or (isinstance(rule, Exclude) and rule.bought)):
        msg = f"rules: {rule.name!r} matches nothing; give items, attributes or, to exclude, bought"
        raise SettingsError(msg)
    for key in rule.attributes:
        if ":" not in key:
            msg = (
                f"rules: {rule.name!r}: {key!r}: write an attribute value as type:value, e.g. category:shoes"
            )
            raise SettingsError(msg)
