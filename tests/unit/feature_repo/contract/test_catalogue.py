"""The one definition of an item's attribute values."""

from __future__ import annotations

from datetime import UTC, datetime

from feature_repo.catalogue import catalogue_of, facts_of
from feature_repo.contract.validation import Item


def test_categories_and_text_attributes_become_lower_case_typed_values() -> None:
    facts = facts_of(
        Item(
            item_id="i",
            categories=("Shoes",),
            attributes={"Brand": "ACME", "tags": ["Red", "red", "New"], "size": 42.0},
        )
    )
    assert facts.attr_keys == ("category:shoes", "brand:acme", "tags:red", "tags:new")
    assert facts.numerics == {"size": 42.0}
    assert facts.categories == ("Shoes",)


def test_price_and_year_are_numerics() -> None:
    facts = facts_of(Item(item_id="i", price=9.5, created_at=datetime(1999, 12, 31, tzinfo=UTC)))
    assert facts.numerics == {"price": 9.5, "created_year": 1999.0}
    assert facts.price == 9.5


def test_the_last_record_of_an_item_wins() -> None:
    catalogue = catalogue_of(
        [Item(item_id="i", title="old"), Item(item_id="j"), Item(item_id="i", title="new")]
    )
    assert catalogue["i"].title == "new"
    assert set(catalogue) == {"i", "j"}
