"""The Redis URL of the settings, read by redis-py's own rules; options are tried before anything connects."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from redis import ConnectionPool, RedisError
from redis.asyncio.connection import RedisSSLContext
from redis.connection import parse_url

from feature_repo.errors import SettingsError

_SCHEMES = ("redis", "rediss", "unix")
_UNKNOWN = re.compile(r"unexpected keyword argument '(\w+)'")


def redis_options(url: str) -> Mapping[str, Any]:
    """What a URL says: ``redis://``, ``rediss://`` (TLS) or ``unix://``.

    Raises:
        SettingsError: it is no such URL, has an option that redis-py does not know, or TLS options that
            cannot work (a file that is not there); neither user nor password is shown.
    """
    if (scheme := urlsplit(url).scheme) not in _SCHEMES:
        why = f"scheme {scheme!r} is none of {', '.join(_SCHEMES)}"
        raise _unusable(why)
    try:
        options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
        ConnectionPool.from_url(url).make_connection()
    except (ValueError, RedisError) as error:
        raise _unusable(str(error)) from error
    except TypeError as error:
        unknown = _UNKNOWN.search(str(error))
        why = f"unknown option {unknown[1]!r}" if unknown else str(error)
        raise _unusable(why) from error
    try:
        tls_context(options)
    except (ValueError, TypeError, OSError, RedisError) as error:
        given = ", ".join(
            f"{name}={value}"
            for name, value in options.items()
            if name.startswith("ssl_") and "pass" not in name
        )
        why = f"TLS cannot be set up with {given} ({error})"
        raise _unusable(why) from error
    return options


def tls_context(options: Mapping[str, Any]) -> ssl.SSLContext | None:
    """The TLS that options ask for; `None` for a connection without."""
    if "connection_class" not in options or "path" in options:
        return None
    # redis-py's own defaults for rediss://: the certificate and its host name are checked.
    given: dict[str, Any] = {"cert_reqs": "required", "check_hostname": True}
    given |= {k.removeprefix("ssl_"): v for k, v in options.items() if k.startswith("ssl_")}
    if given["cert_reqs"] == "none":
        given["check_hostname"] = False
    context: ssl.SSLContext = RedisSSLContext(**given).get()
    return context


def _unusable(why: str) -> SettingsError:
    return SettingsError(
        f"HEADRACE_REDIS_URL: {why}; write e.g. redis://127.0.0.1:6379/0, or with password and TLS "
        "rediss://:password@host:6379/0?ssl_ca_certs=/path/ca.pem"
    )
