"""What the rest of the platform needs to know of an item: the one definition of its attribute values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from feature_repo.contract import Item

CATEGORY = "category"
PRICE = "price"
CREATED_YEAR = "created_year"


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """An item as folds and signals see it.

    Attributes:
        attr_keys: each category and each text attribute value once, as ``type:value`` in lower case.
        numerics: ``price``, ``created_year`` and each numeric attribute by name.
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
    keys = [f"{CATEGORY}:{category}".lower() for category in item.categories]
    numerics: dict[str, float] = {}
    for name, value in item.attributes.items():
        if isinstance(value, int | float):
            numerics[name.lower()] = float(value)
            continue
        values = (value,) if isinstance(value, str) else value
        keys.extend(f"{name}:{v}".lower() for v in values)
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
