"""The exception tree. A message says what and where, what was wrong, and what would be right."""

from __future__ import annotations


class HeadraceError(Exception):
    """Base of everything Headrace raises on purpose; the command line prints it without a stack trace."""


class SettingsError(HeadraceError):
    """A setting is unset, malformed or contradicts another; names the environment variable."""


class ContractError(HeadraceError):
    """A record breaks the event contract.

    Attributes:
        code: stable, machine-readable reason (``missing_field``, ``wrong_type``, ``time_out_of_range`` …).
        field: dotted path of the offending field, ``""`` when the record as a whole is unreadable.
    """

    def __init__(self, code: str, field: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.field = field


class SourceError(HeadraceError):
    """A whole input cannot be read (missing path, missing column, empty file); names the file."""


class LogError(HeadraceError):
    """The event log cannot be read or written (disk full, permission, broker gone)."""


class LakeError(HeadraceError):
    """The lake or a feature build cannot be read or written."""


class StoreError(HeadraceError):
    """The online store is unreachable, slow beyond its timeout, or answered garbage."""


class BuildError(HeadraceError):
    """A feature build, materialization or fit failed; the last good version stays in place."""
