"""Item attributes as rows, as `feature_repo.catalogue` derived them when the items were written."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from feature_repo.contract.columns import FACTS

HEX = "0123456789abcdef"


def attribute_keys(items: ir.Table) -> ir.Table:
    """Return `item_id`, `attr_key`: each category and each text attribute value of an item once."""
    return items.select("item_id", attr_key=items[FACTS]["attr_keys"]).unnest("attr_key")


def attribute_type(attr_key: ir.StringColumn) -> ir.StringColumn:
    """Return the part of an attribute value before the first colon."""
    return attr_key.substr(0, attr_key.find(":"))


def numerics(items: ir.Table) -> ir.Table:
    """Return `item_id`, `name`, `value`: price, year of creation and numeric attributes, a row per name."""
    named = items.select("item_id", numeric=items[FACTS]["numerics"]).unnest("numeric")
    return named.select("item_id", name=named["numeric"]["name"], value=named["numeric"]["value"])


def vectors(keys: ir.Table, dimensions: int) -> ir.Table:
    """Return `item_id`, `vector`: attribute values hashed into signed dimensions, scaled to unit length.

    Feature hashing (Weinberger et al. 2009) with digits of the MD5 of the value: the same on every engine.
    If its entries cancel out, a vector stays zero.
    """
    vocabulary = keys.select("attr_key").distinct()
    digest = vocabulary.attr_key.hexdigest("md5")
    digits = [ibis.literal(HEX).find(digest.substr(place, 1)) for place in range(3)]
    vocabulary = vocabulary.mutate(
        dimension=(digits[0] * 16 + digits[1]) % dimensions,
        sign=(digits[2] < 8).ifelse(1.0, -1.0),  # noqa: PLR2004 - half of the hex digits
    )
    signed = keys.join(vocabulary, "attr_key")
    value = ibis.struct({"dimension": signed.dimension, "sign": signed.sign})
    summed = signed.group_by("item_id").agg(values=value.collect())
    of = summed["values"]
    entries = ibis.range(dimensions).map(
        lambda d: of.filter(lambda v: v["dimension"] == d).map(lambda v: v["sign"]).sums().fill_null(0.0)
    )
    summed = summed.select("item_id", entries=entries)
    squares = summed.entries.map(lambda entry: entry * entry).sums()
    summed = summed.mutate(length=ibis.greatest(squares.sqrt(), 1e-9))
    unit = summed.entries.map(lambda entry: entry / summed.length)
    return summed.select("item_id", vector=unit.cast("array<float32>"))
