"""The rules file with a copy of the rules last in force, for a start on a file that is broken or gone."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from feature_repo.lock import locked
from serving.control.last_good import keep
from serving.control.rules import Rules, load_rules, parse_rules, rules_path

log = logging.getLogger(__name__)


class RuleStore:
    """``rules.json`` (edit it) below `root`, and its copy below `kept`; safe between processes."""

    def __init__(self, root: Path, kept: Path) -> None:
        self.root = root
        self.path = rules_path(root)
        self._copy = kept / "rules.json"
        self._held = False

    def load(self) -> Rules:
        """The rules in force, of which a copy is kept; none where there never was a file.

        A copy that cannot be written (a full disk) holds nothing up.

        Raises:
            SettingsError: the file is malformed, or gone though there were rules.
        """
        try:
            # A reader of an older file must not write the copy last.
            with locked(self._copy.with_name(".rules.lock")):
                rules = self._read()
                self._keep(rules)
                return rules
        except OSError as error:
            log.error("%s: the rules could not be copied for a later start (%s)", self._copy, error)
            return self._read()

    def last_good(self) -> Rules | None:
        """The rules last in force, whatever became of the file; `None` where there were none.

        Raises:
            SettingsError: the copy is damaged.
        """
        try:
            return parse_rules(self._copy.read_bytes())
        except FileNotFoundError:
            return None

    def _read(self) -> Rules:
        rules = load_rules(self.path, self._copy, there_were=self._held)
        self._held = bool(rules.rules)
        return rules

    def _keep(self, rules: Rules) -> None:
        if not rules.rules:
            self._copy.unlink(missing_ok=True)
            return
        keep(self._copy, msgspec.json.format(msgspec.json.encode(rules), indent=2) + b"\n")
