"""The versions of the flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.control.change_log import Change
from serving.control.flags import Flags, FlagsError, changed, encode_flags, parse_flags
from serving.control.versions import Versions


class FlagStore(Versions[Flags]):
    """``flags.json`` and its log, ``audit.jsonl``."""

    name = "flags"
    log_name = "audit.jsonl"
    entry = Change[Flags]

    def default(self) -> Flags:
        """Return the flags of a new installation."""
        return Flags()

    def parse(self, raw: bytes) -> Flags:
        """Read the file's content.

        Raises:
            FlagsError: it is malformed; names the flag.
        """
        return parse_flags(raw)

    def encode(self, value: Flags) -> bytes:
        """Return the file's content."""
        return encode_flags(value)

    def refusal(self, message: str) -> FlagsError:
        """Return the error of a change that is impossible."""
        return FlagsError("", f"{self.name}: {message}")

    def change(self, changes: Mapping[str, Any], who: str) -> Flags:
        """Replace some flags, by name or path.

        Raises:
            FlagsError: a flag or value cannot be; nothing is changed then.
            NotStoredError: the change cannot be written.
        """
        return self.update(lambda before: changed(before, changes), who)
