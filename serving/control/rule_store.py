"""The versions of the business rules."""

from __future__ import annotations

import msgspec

from feature_repo.errors import SettingsError
from serving.control.change_log import Change
from serving.control.rules import Rules, parse_rules
from serving.control.versions import Versions


class RuleStore(Versions[Rules]):
    """``rules.json`` and its log, ``rules-audit.jsonl``."""

    name = "rules"
    log_name = "rules-audit.jsonl"
    entry = Change[Rules]

    def default(self) -> Rules:
        """Return no rules."""
        return Rules()

    def parse(self, raw: bytes) -> Rules:
        """Read the file's content.

        Raises:
            SettingsError: it is malformed; names the rule.
        """
        try:
            return parse_rules(raw)
        except SettingsError as error:
            msg = f"{self.path}: {error}"
            raise SettingsError(msg) from error

    def encode(self, value: Rules) -> bytes:
        """Return the file's content."""
        return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
