"""Redis with TLS and a password: store, serving's row source and event log, with real handshakes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from feature_repo.errors import LogError, SettingsError, StoreError
from feature_repo.groups import all_groups
from feature_repo.online import OnlineRow
from feature_repo.online.redis_store import RedisStore
from feature_repo.online.redis_url import redis_options, tls_context
from feature_repo.settings import Settings
from serving.features.redis_row_source import RedisSource
from streaming.log.redis_streams import RedisLog
from tests.support.stream_support import T0
from tests.support.tls import Authority, tls_proxy

USER = all_groups()["user_profile"]
PASSWORD = "hush/ü"
pytestmark = pytest.mark.redis


class Tls:
    """Redis with TLS and a certificate for 127.0.0.1, signed by `authority`."""

    def __init__(self, proxy: Any, authority: Authority, other: Authority) -> None:
        self.proxy, self.authority, self.other = proxy, authority, other

    def url(self, ca: Path | None = None, password: str = "hush%2F%C3%BC", host: str = "127.0.0.1") -> str:
        return f"rediss://:{password}@{host}:{self.proxy.port}/0?ssl_ca_certs={ca or self.authority.path}"


@pytest.fixture
def tls(own_redis: Any, tmp_path: Path) -> Iterator[Tls]:
    with redis.Redis.from_url(own_redis.url) as admin:
        admin.config_set("requirepass", PASSWORD)
    authority, other = Authority(tmp_path), Authority(tmp_path, "stranger")
    with tls_proxy(authority.server(), own_redis.port) as proxy:
        yield Tls(proxy, authority, other)


def read(url: str) -> OnlineRow | None:
    async def main() -> OnlineRow | None:
        source = RedisSource(url)
        try:
            return (await source.read([(USER, "u")]))[0]
        finally:
            await source.close()

    return asyncio.run(main())


def test_store_and_serving_speak_tls(tls: Tls) -> None:
    store = RedisStore(tls.url())
    assert store.write(USER, [OnlineRow("u", {"segment": "a"}, T0)]) == 1
    rows = store.read([(USER, "u")])
    store.close()
    assert [read(tls.url())] == rows
    assert rows[0] is not None
    assert tls.proxy.handshakes == 2


def test_the_event_log_speaks_tls(tls: Tls) -> None:
    log = RedisLog(tls.url(), "t", 1)
    log.publish([("k", b"one"), ("k", b"two")])
    assert log.read(0, log.start(0), 10).records == [b"one", b"two"]
    log.close()


def refused(url: str) -> list[str]:
    """Return the error of each of the three for a URL."""
    with pytest.raises(StoreError) as serving:
        read(url)
    store = RedisStore(url)
    with pytest.raises(StoreError) as writing:
        store.read([(USER, "u")])
    store.close()
    with pytest.raises(LogError) as logging:
        RedisLog(url, "t", 1)
    return [str(caught.value) for caught in (serving, writing, logging)]


def test_a_certificate_of_a_strange_authority_is_refused_and_said(tls: Tls) -> None:
    for message in refused(tls.url(tls.other.path)):
        assert "CERTIFICATE_VERIFY_FAILED" in message
        assert "HEADRACE_REDIS_URL" in message
        assert "hush" not in message


def test_a_certificate_for_another_name_is_refused_and_said(tls: Tls) -> None:
    for message in refused(tls.url(host="localhost")):
        assert "mismatch" in message.lower()
        assert "localhost" in message


def test_a_wrong_password_is_refused_and_said(tls: Tls) -> None:
    for message in refused(tls.url(password="wrong")):
        assert "invalid username-password pair or user is disabled" in message.lower()
        assert "wrong" not in message.lower().replace("wrongpass", "")


def test_a_plain_url_before_tls_is_refused_and_said(tls: Tls) -> None:
    for message in refused(f"redis://:x@127.0.0.1:{tls.proxy.port}/0"):
        assert "HEADRACE_REDIS_URL" in message


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("ssl_cert_reqs=bogus", "bogus"),
        ("ssl_ca_certs=/nowhere/ca.pem", "/nowhere/ca.pem"),
        ("ssl_ca_cert=/x.pem", "ssl_ca_cert"),
        ("ssl_min_version=9", "ssl_min_version"),
    ],
)
def test_an_option_that_cannot_work_is_said_at_start(query: str, says: str) -> None:
    url = f"rediss://:hush@127.0.0.1:1/0?ssl_password=hush&{query}"
    for made in (RedisSource, RedisStore, lambda url: RedisLog(url, "t", 1)):
        with pytest.raises(SettingsError, match="HEADRACE_REDIS_URL") as caught:
            made(url)
        assert says in str(caught.value)
        assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("query", "checked", "mode"),
    [("", True, ssl.CERT_REQUIRED), ("?ssl_cert_reqs=none", False, ssl.CERT_NONE)],
)
def test_certificate_and_name_are_checked_unless_told_not_to(
    query: str, checked: bool, mode: ssl.VerifyMode
) -> None:
    context = tls_context(redis_options(f"rediss://redis.example:6380/0{query}"))
    assert context is not None
    assert (context.check_hostname, context.verify_mode) == (checked, mode)


@pytest.mark.parametrize("url", ["redis://redis.example/0", "unix:///run/redis.sock"])
def test_without_tls_there_is_none(url: str) -> None:
    assert tls_context(redis_options(url)) is None


def test_an_unknown_option_is_said_at_start_without_tls_too() -> None:
    with pytest.raises(SettingsError, match="HEADRACE_REDIS_URL: unknown option 'colour'"):
        RedisStore("redis://127.0.0.1:1/0?colour=red")


def settings_of(url: str) -> dict[str, Any]:
    return {
        "online_store": "redis",
        "redis_url": SecretStr(url),
        "budget_ms": 10_000,
        "store_budget_ms": 5_000,
    }


def rank(client: Any, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = client.post("/v1/rank", json=body).raise_for_status().json()
    return answer


def test_rankings_over_tls(
    tls: Tls, make_shop: Callable[..., Any], serving: Callable[..., Any], body: Any
) -> None:
    shop = make_shop(**settings_of(tls.url()), event_log="redis")
    with serving(shop.settings) as client:
        answer = rank(client, body(user_id="u", session_id="s"))
        assert (answer["tier"], answer["degraded"]) == ("session+long_term", [])
        event = {"event_id": "e", "event_type": "view", "event_time": "2024-06-01T12:00:00Z"}
        assert (
            client.post("/v1/events", json={**event, "session_id": "s", "item_id": "i1"}).status_code == 202
        )


def test_a_strange_authority_leaves_the_base_order(
    tls: Tls, make_shop: Callable[..., Any], serving: Callable[..., Any], body: Any, caplog: Any
) -> None:
    shop = make_shop(**settings_of(tls.url()))
    wrong = Settings(home=shop.settings.home, **settings_of(tls.url(tls.other.path)))
    with serving(wrong) as client:
        answer = rank(client, body(user_id="u", session_id="s"))
        assert answer["tier"] == "base"
        assert "store_failing" in answer["degraded"]
        assert [i["item_id"] for i in answer["items"]] == [f"i{n}" for n in range(9)]
        assert client.get("/readyz").status_code == 200
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text
    assert "hush" not in caplog.text
