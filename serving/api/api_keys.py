"""API keys and their scopes. The settings hold only hashes of the keys."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from urllib.parse import urlsplit

from feature_repo.errors import SettingsError
from feature_repo.settings import Settings
from serving.schemas.errors import ApiError

LOCAL = "local"
"""Name of the caller when keys are off."""
KNOWN_SALTS = frozenset({"headrace", "change-me", ""})
"""The default and placeholders. Anyone who knows the salt can recover an id from its hash by guessing."""
_DIGEST_LENGTH = 64


class Scope(StrEnum):
    """What a key may be used for."""

    RANK = "rank"
    EVENTS = "events"
    FEATURES = "features"
    ADMIN = "admin"


@dataclass(frozen=True)
class ApiKey:
    """A key as stored in the settings: the SHA-256 of a random secret, which needs no slow hash."""

    name: str
    scopes: frozenset[Scope]
    digest: str


class Keys:
    """Checks the key of a request. Without any keys every local caller has every scope (loopback only)."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys = tuple(keys)

    @classmethod
    def of(cls, settings: Settings) -> Keys:
        """Read the keys from the settings.

        Raises:
            SettingsError: the keys are malformed; or the address is not loopback and there are no keys or
                the id salt is a well-known one.
        """
        keys = parse_keys(settings.api_keys)
        if not is_loopback(settings.host):
            _check_reach(settings, keys)
        return cls(keys)

    def check(self, headers: Iterable[tuple[bytes, bytes]], scope: Scope) -> str:
        """Check the request's key and return the caller's name.

        Args:
            headers: request headers with lower-case names; ``Authorization: Bearer …`` or ``X-Api-Key: …``.

        Raises:
            ApiError: 401 without a valid key; 403 if the key lacks the scope or, with keys off, if a page
                from another origin sends the request through a local browser.
        """
        if not self._keys:
            _refuse_foreign(headers)
            return LOCAL
        digest = hashlib.sha256(_secret(headers)).hexdigest()
        # Compare every key, so that the time taken does not reveal which one came close.
        found = [key for key in self._keys if hmac.compare_digest(key.digest, digest)]
        if not found:
            message = "a valid API key is required: Authorization: Bearer <key>"
            raise ApiError(401, "unauthorized", "authorization", message)
        if scope not in found[0].scopes:
            message = f"the key {found[0].name!r} lacks the scope {scope.value!r}"
            raise ApiError(403, "forbidden", "authorization", message)
        return found[0].name


def _check_reach(settings: Settings, keys: tuple[ApiKey, ...]) -> None:
    beyond = f"HEADRACE_HOST={settings.host}: serving beyond this machine needs"
    if not keys:
        msg = (
            f"{beyond} HEADRACE_API_KEYS; "
            "make one with `headrace key NAME --scope rank`, or bind to 127.0.0.1"
        )
        raise SettingsError(msg)
    if settings.id_salt.get_secret_value() in KNOWN_SALTS:
        msg = (
            f"{beyond} a private HEADRACE_ID_SALT, otherwise anyone can recover the ids hashed in records; "
            "set it to the same random text in every process, or bind to 127.0.0.1"
        )
        raise SettingsError(msg)


def _refuse_foreign(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Reject requests from other origins, and requests whose Host header is not ours (DNS rebinding)."""
    for name, value in headers:
        if name in {b"origin", b"host"} and not _is_local(value.decode("latin-1")):
            message = (
                "without API keys only requests to 127.0.0.1 or localhost from this machine are served; "
                "set HEADRACE_API_KEYS to allow other origins and host names"
            )
            raise ApiError(403, "forbidden", name.decode(), message)


@lru_cache(maxsize=256)
def _is_local(origin: str) -> bool:
    """Whether an origin (``http://host:port``) or a host (``host:port``) is this machine."""
    try:
        return is_loopback(urlsplit(origin if "//" in origin else f"//{origin}").hostname or "")
    except ValueError:
        return False


def _secret(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    for name, value in headers:
        if name == b"x-api-key":
            return value
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip()
    return b""


def parse_keys(text: str) -> tuple[ApiKey, ...]:
    """Read ``name:scope+scope:sha256,…``.

    Raises:
        SettingsError: an entry is malformed. The message names it, never its hash, and shows the format.
    """
    keys = []
    for place, entry in enumerate(filter(None, (part.strip() for part in text.split(","))), 1):
        name, colon, rest = entry.partition(":")
        scopes, _, digest = rest.partition(":")
        wrong = _complaint(name, scopes.split("+"), digest)
        if wrong:
            # An entry without a colon may be a secret put there by mistake.
            shown = repr(name) if colon else f"entry {place}"
            msg = (
                f"HEADRACE_API_KEYS: {shown}: {wrong}; write name:scope+scope:sha256, "
                "as `headrace key NAME --scope rank --scope events` prints it"
            )
            raise SettingsError(msg)
        keys.append(ApiKey(name, frozenset(map(Scope, scopes.split("+"))), digest.lower()))
    return tuple(keys)


def _complaint(name: str, scopes: list[str], digest: str) -> str:
    if not name:
        return "a key needs a name"
    if unknown := [s for s in scopes if s not in set(Scope)]:
        return f"{unknown[0]!r} is not a scope ({', '.join(Scope)})"
    if len(digest) != _DIGEST_LENGTH or not set(digest.lower()) <= set("0123456789abcdef"):
        return "the last part is not a hexadecimal SHA-256"
    return ""


def new_key(name: str, scopes: Iterable[Scope]) -> tuple[str, str]:
    """Make a new secret and its entry for ``HEADRACE_API_KEYS``."""
    secret = secrets.token_urlsafe(32)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return secret, f"{name}:{'+'.join(scopes)}:{digest}"


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
