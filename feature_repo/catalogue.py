"""What the rest of the platform needs to know of items and users: the one definition of attribute values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import isfinite
from typing import TypeAlias
from unicodedata import normalize

from feature_repo.contract.normalization import normalized
from feature_repo.contract.records import EXACT, Attribute, Item, User

CATEGORY = "category"
PRICE = "price"
CREATED_YEAR = "created_year"


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """An item as folds and signals see it.

    Attributes:
        attr_keys: each category and each text attribute value once, as ``type:value``, `normalized`.
        numerics: ``price``, ``created_year`` and each numeric attribute by its `normalized` name; of several
            of one name the fields of the item win, then the later attribute.
    """

    item_id: str
    title: str = ""
    categories: tuple[str, ...] = ()
    attr_keys: tuple[str, ...] = ()
    price: float | None = None
    numerics: Mapping[str, float] = field(default_factory=dict)
    created_at: datetime | None = None


Catalogue: TypeAlias = Mapping[str, ItemFacts]


def facts_of(item: Item) -> ItemFacts:
    """The facts of a contract item."""
    keys = [normalized(f"{CATEGORY}:{category}") for category in item.categories]
    numerics: dict[str, float] = {}
    for name, value in item.attributes.items():
        if isinstance(value, int | float):
            numerics[normalized(name)] = float(value)
            continue
        values = (value,) if isinstance(value, str) else value
        keys.extend(normalized(f"{name}:{v}") for v in values)
    if item.price is not None:
        numerics[PRICE] = item.price
    if item.created_at is not None:
        numerics[CREATED_YEAR] = float(item.created_at.year)
    return ItemFacts(
        item_id=item.item_id,
        title=item.title,
        categories=item.categories,
        attr_keys=tuple(dict.fromkeys(keys)),
        price=item.price,
        numerics=numerics,
        created_at=item.created_at,
    )


def catalogue_of(items: Iterable[Item]) -> dict[str, ItemFacts]:
    """Facts by item id; of several records of one id the last wins."""
    return {item.item_id: facts_of(item) for item in items}


def texts_of(user: User) -> dict[str, str]:
    """What is declared about a user, as names of segments by `normalized` attribute name; the later wins."""
    return {normalized(n): text for n, value in user.attributes.items() if (text := text_of(value))}


def text_of(value: Attribute) -> str:
    """A declared value as the name of a segment: text or the first of a list, in NFC; a number's digits.

    Names keep their case: others look them up.
    """
    if isinstance(value, list):
        value = value[0] if value else ""
    if isinstance(value, str):
        return normalize("NFC", value)
    if not isfinite(value):
        return ""
    return str(int(value)) if abs(value) <= EXACT and value == int(value) else str(value)
