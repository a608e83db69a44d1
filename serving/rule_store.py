"""The rules file with a copy of the rules that stood last, for a start on a file that is broken or gone."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from feature_repo.lock import locked
from serving.rules import Rules, load_rules, parse_rules, rules_path

log = logging.getLogger(__name__)


class RuleStore:
    """``rules.json`` (edit it) and its copy ``rules.last-good.json`` below `root`; safe between processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = rules_path(root)
        self._copy = root / "rules.last-good.json"

    def load(self) -> Rules:
        """The rules as they stand, of which a copy is kept; none where there never was a file.

        A copy that cannot be written (a full disk) holds nothing up.

        Raises:
            SettingsError: the file is malformed, or gone though there were rules.
        """
        try:
            with locked(self.root / ".rules.lock"):  # else who read an older file might write the copy last
                rules = load_rules(self.path, self._copy)
                self._keep(rules)
                return rules
        except OSError as error:
            log.error("%s: the rules could not be copied for a later start (%s)", self._copy, error)
            return load_rules(self.path, self._copy)

    def last_good(self) -> Rules | None:
        """The rules that stood last, whatever became of the file; `None` where there were none.

        Raises:
            SettingsError: the copy is damaged.
        """
        try:
            return parse_rules(self._copy.read_bytes())
        except FileNotFoundError:
            return None

    def _keep(self, rules: Rules) -> None:
        if not rules.rules:
            self._copy.unlink(missing_ok=True)
            return
        content = msgspec.json.format(msgspec.json.encode(rules), indent=2) + b"\n"
        if self._copy.exists() and self._copy.read_bytes() == content:
            return
        aside = self._copy.with_name(".rules.last-good.json.tmp")
        aside.write_bytes(content)
        aside.replace(self._copy)
