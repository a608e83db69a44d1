"""Compatibility of contract versions: compares two JSON Schemas, change by change.

Compatible means: every record the old contract accepts, the new one accepts with the same meaning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Schema: TypeAlias = Mapping[str, Any]

_LOWER = ("minLength", "minimum", "minItems", "exclusiveMinimum")
_UPPER = ("maxLength", "maximum", "maxItems", "exclusiveMaximum")
_EXACT = ("pattern", "format", "const")
_WIDER = {"integer": ("number",)}


@dataclass(frozen=True)
class Change:
    """One difference between two schemas.

    Attributes:
        path: location, e.g. ``Event.position``.
        compatible: whether old records keep their validity and meaning.
        what: the difference and, if it is incompatible, the reason.
    """

    path: str
    compatible: bool
    what: str


def compare(old: Schema, new: Schema) -> list[Change]:
    """List every difference between two schemas of `feature_repo.contract.validation.json_schema`, in field
    order.
    """
    changes: list[Change] = []
    before, after = old.get("$defs", {}), new.get("$defs", {})
    for name in before:
        if name not in after:
            changes.append(Change(name, False, "removed: records of this kind would be refused"))
        else:
            changes += _objects(name, before[name], after[name])
    changes += [Change(name, True, "added") for name in after if name not in before]
    changes += _narrowed("record", old, new)
    return changes


def _objects(path: str, old: Schema, new: Schema) -> Iterator[Change]:
    before, after = old.get("properties", {}), new.get("properties", {})
    needed, needs = set(old.get("required", ())), set(new.get("required", ()))
    added = [name for name in after if name not in before]
    for name, schema in before.items():
        at = f"{path}.{name}"
        if name not in after:
            yield Change(at, False, _removed(name, schema, {n: after[n] for n in added}))
            continue
        if name in needs and name not in needed:
            yield Change(at, False, "became required: old records that leave it out would be refused")
        if name in needed and name not in needs:
            yield Change(at, True, "became optional")
        yield from _narrowed(at, schema, after[name])
    for name in added:
        required = name in needs
        what = "added as required: old records lack it" if required else "added as optional"
        yield Change(f"{path}.{name}", not required, what)


def _removed(name: str, schema: Schema, added: Mapping[str, Schema]) -> str:
    same = [n for n, s in added.items() if _bare(s) == _bare(schema)]
    if same:
        return f"removed, perhaps renamed to {same[0]}: old records carry {name}, which would be unknown"
    return "removed: old records carry it, and it would be kept as unknown text only"


def _bare(schema: Schema) -> dict[str, Any]:
    return {k: v for k, v in schema.items() if k not in ("description", "title")}


def _narrowed(path: str, old: Schema, new: Schema) -> Iterator[Change]:
    if "default" in old and old["default"] != new.get("default"):
        what = f"default changed from {old['default']!r} to {new.get('default')!r}"
        yield Change(path, False, f"{what}: old records that leave it out would mean something else")
    variants = _variants(new)
    for variant in _variants(old):
        found = [v for v in variants if _name(v) == _name(variant)]
        wider = [v for v in variants if _name(v) in _WIDER.get(_name(variant), ())]
        if found:
            yield from _bounds(path, variant, found[0])
        elif wider:
            yield Change(path, True, f"{_name(variant)} widened to {_name(wider[0])}")
        else:
            yield Change(path, False, f"no longer {_name(variant)}: such old values would be refused")
    for variant in variants:
        if not any(_name(variant) in (_name(v), *_WIDER.get(_name(v), ())) for v in _variants(old)):
            yield Change(path, True, f"may now be {_name(variant)}")


def _variants(schema: Schema) -> Sequence[Schema]:
    found: Sequence[Schema] = schema.get("anyOf") or schema.get("oneOf") or (schema,)
    return found


def _name(variant: Schema) -> str:
    if "$ref" in variant:
        return str(variant["$ref"]).rsplit("/", maxsplit=1)[-1]
    if "enum" in variant:
        return "enum"
    return str(variant.get("type", "anything"))


def _bounds(path: str, old: Schema, new: Schema) -> Iterator[Change]:
    if gone := [v for v in old.get("enum", ()) if v not in new.get("enum", ())]:
        yield Change(path, False, f"no longer allows {', '.join(map(repr, gone))}")
    if more := [v for v in new.get("enum", ()) if v not in old.get("enum", ())]:
        yield Change(path, True, f"now allows {', '.join(map(repr, more))}")
    for names, sign in ((_LOWER, 1), (_UPPER, -1)):
        for name in names:
            yield from _bound(path, name, old.get(name), new.get(name), sign)
    for name in _EXACT:
        if old.get(name) != new.get(name):
            loosened = new.get(name) is None
            what = (
                f"{name} {'dropped' if loosened else f'changed from {old.get(name)!r} to {new.get(name)!r}'}"
            )
            yield Change(path, loosened, what if loosened else f"{what}: old values may not fit")
    for name in ("items", "additionalProperties"):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _narrowed(f"{path}[]", before, after)
        elif before is not after and after is False:
            yield Change(path, False, "unknown fields would be refused; they are to be kept")


def _bound(path: str, name: str, old: float | None, new: float | None, sign: int) -> Iterator[Change]:
    if old == new:
        return
    narrower = new is not None and (old is None or sign * new > sign * old)
    what = f"{name} {'none' if old is None else old} became {'none' if new is None else new}"
    yield Change(path, not narrower, f"{what}: old values may not fit" if narrower else what)
