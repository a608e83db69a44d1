"""Reads one value of a mapping from TOML, with checks shared by all its keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any
from zoneinfo import ZoneInfo

from feature_repo.errors import SourceError
from streaming.mapping.model import Field, Value, When

EPOCHS = ("epoch_s", "epoch_ms", "epoch_us", "epoch_ns")
_VALUE: dict[str, tuple[type, ...]] = {
    "column": (str, list),
    "value": (str, int, float, bool, list),
    "prefix": (str,),
    "split": (str,),
    "join": (str,),
    "all": (bool,),
    "hash": (bool,),
    "day_of": (str, list),
    "format": (str,),
    "zone": (str,),
    "decimal": (str,),
    "default": (str, int, float, bool, list),
}
_SOURCES = ("column", "value", "hash", "day_of")
_TIMES = ("event_time", "created_at")


class ValueReader:
    """Reads the values of one mapping; `name` is for messages."""

    def __init__(self, name: str) -> None:
        self._name = name

    def field(self, found: Any, key: str) -> Field:
        """Read the alternatives of one field: a column, a list of them, or tables."""
        if isinstance(found, list):
            if not found:
                raise self.wrong(key, "an empty list; name at least one column")
            return tuple(v for part in found for v in self.field(part, key))
        if isinstance(found, str):
            return (Value((self._path(found, key),)),)
        if isinstance(found, dict):
            return (self._value(found, key),)
        raise self.wrong(
            key,
            f'{found!r}; write a column ("sku"), a list of columns, or {{ value = … }} for a constant',
        )

    def _value(self, found: Mapping[str, Any], key: str) -> Value:
        self.known(found, tuple(_VALUE), f"{key}: ", f"a value has {', '.join(_VALUE)}")
        for name, value in found.items():
            if not isinstance(value, _VALUE[name]) or (isinstance(value, bool) and bool not in _VALUE[name]):
                wanted = " or ".join(
                    {str: "text", list: "a list", bool: "true or false"}.get(t, "a number")
                    for t in _VALUE[name]
                )
                at = f"{key}: {name}"
                raise self.wrong(at, f"{value!r}; should be {wanted}")
        if not any(name in found for name in _SOURCES):
            raise self.wrong(key, f'has no source; add column = "…" or one of {", ".join(_SOURCES[1:])}')
        if "value" in found and "column" in found:
            raise self.wrong(key, "has a column and a value; for a fallback write default instead of value")
        if not key.endswith(_TIMES) and (wrong := [n for n in ("format", "zone") if n in found]):
            at = f"{key}: {wrong[0]}"
            raise self.wrong(at, f"is for times ({', '.join(_TIMES)})")
        if "format" in found:
            self._format(found["format"], key)
        if "zone" in found:
            self._zone(found["zone"], key)
        rest = {
            n: found[n]
            for n in ("prefix", "split", "join", "all", "hash", "format", "zone", "decimal", "default")
            if n in found
        }
        return Value(
            columns=self.paths(found.get("column", []), key),
            constant=found.get("value"),
            day_of=self.paths(found.get("day_of", []), key),
            **rest,
        )

    def _format(self, found: str, key: str) -> None:
        if found in ("iso", *EPOCHS) or "%" in found:
            return
        likely = get_close_matches(found, ("iso", *EPOCHS), n=1)
        hint = f"; did you mean {likely[0]}?" if likely else ""
        at = f"{key}: format"
        raise self.wrong(
            at,
            f'{found!r}; one of iso, {", ".join(EPOCHS)}, or a pattern such as "%d.%m.%Y %H:%M"{hint}',
        )

    def _zone(self, found: str, key: str) -> None:
        try:
            ZoneInfo(found)
        except (KeyError, ValueError, OSError) as error:
            at = f"{key}: zone"
            raise self.wrong(at, f'{found!r} is unknown; write e.g. "UTC" or "Europe/Berlin"') from error

    def when(self, found: Any, key: str) -> When:
        """Read a condition on rows."""
        if not isinstance(found, dict) or found.keys() != {"column", "in"}:
            raise self.wrong(key, 'should be { column = "type", in = ["track"] }')
        return When(self.paths(found["column"], key), frozenset(self.texts(found["in"], f"{key}: in")))

    def text(self, found: Mapping[str, Any], name: str, wanted: str) -> str | None:
        """Read a text; `None` if it is absent."""
        value = found.get(name)
        if value is not None and (not isinstance(value, str) or not value):
            raise self.wrong(name, f"{value!r}; should be {wanted}")
        return value

    def paths(self, found: Any, key: str) -> tuple[str, ...]:
        """Read one path or several."""
        return self.texts([found] if isinstance(found, str) else found, key)

    def _path(self, found: str, key: str) -> str:
        if not found:
            raise self.wrong(key, "an empty column name")
        return found

    def texts(self, found: Any, key: str) -> tuple[str, ...]:
        """Read a list of names."""
        if not isinstance(found, list) or not all(isinstance(part, str) and part for part in found):
            raise self.wrong(key, f'{found!r}; should be a list of names, e.g. ["a", "b"]')
        return tuple(found)

    def known(self, found: Iterable[str], known: tuple[str, ...], before: str, right: str) -> None:
        """Reject unknown names, and suggest the likely one."""
        for name in found:
            if name not in known:
                likely = get_close_matches(name, known, n=1)
                hint = f"; did you mean {likely[0]}?" if likely else ""
                at = f"{before}{name}"
                raise self.wrong(at, f"unknown; {right}{hint}")

    def wrong(self, key: str, why: str) -> SourceError:
        """Create the error for a key."""
        return SourceError(f"{self._name}: {key}{': ' if key else ''}{why}")
