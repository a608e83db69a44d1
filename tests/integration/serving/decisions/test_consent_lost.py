"""Consent when the online store was emptied: denials come back before the rows they forbid."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from pydantic import SecretStr
from typer.testing import CliRunner

from feature_repo.contract.validation import Event, User
from feature_repo.groups.user_profile import GROUP as PROFILE
from feature_repo.lake.lake import Builds
from feature_repo.online import OnlineStore, online_path, open_store
from feature_repo.online.consent_rows import COMPLETE, CONSENT, is_complete
from feature_repo.settings import Settings
from orchestration.builds.build import build_group
from orchestration.builds.lake_sync import sync_lake
from orchestration.cli import app
from streaming.log import open_log
from tests.support.stream_support import publish, stream_to_end

Body = Callable[..., dict[str, Any]]
WAIT = pytest.mark.timeout(120)
pytestmark = [pytest.mark.redis, WAIT]


@pytest.fixture(params=["sqlite", "redis"])
def town(request: pytest.FixtureRequest, make_shop: Callable[..., Any]) -> Any:
    """A shop with materialized user profiles and no denials yet."""
    more: dict[str, Any] = {"budget_ms": 10_000, "store_budget_ms": 300}
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        more |= {"online_store": "redis", "redis_url": SecretStr(url)}
    shop = make_shop(**more)
    now = datetime.now(UTC)
    clicks = [
        Event(
            event_id=f"{user}{n}",
            event_type="click",
            event_time=now - timedelta(minutes=10 + n),
            session_id=f"{user}-long-ago",
            user_id=user,
            item_id=f"i{n}",
        )
        for user in ("u", "v")
        for n in range(3)
    ]
    publish(shop.settings, [*clicks, User(user_id="v", consent=True)])
    stream_to_end(shop.settings)
    sync_lake(shop.settings, shop.home)
    build = build_group(PROFILE, shop.settings, shop.home, now.replace(microsecond=0))
    Builds(shop.home.features).promote(PROFILE.name, build)
    return shop


def empty(settings: Settings, store: OnlineStore) -> None:
    """Empty the store, like `FLUSHALL` or deleting the file."""
    if settings.online_store == "redis":
        client = redis.Redis.from_url(settings.redis_url.get_secret_value())
        client.flushall()
        client.close()
        return
    store.close()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{online_path_of(settings)}{suffix}").unlink(missing_ok=True)


def online_path_of(settings: Settings) -> str:
    from feature_repo.home import Home

    return online_path(Home(settings.home))


def materialize(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(settings.home))
    monkeypatch.setenv("HEADRACE_ONLINE_STORE", settings.online_store)
    monkeypatch.setenv("HEADRACE_REDIS_URL", settings.redis_url.get_secret_value())
    done = CliRunner().invoke(app, ["materialize", "user_profile"], catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.fixture
def opened(town: Any) -> Iterator[OnlineStore]:
    store = open_store(town.settings, town.home)
    yield store
    store.close()


def rank(client: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = client.post("/v1/rank", json=body).raise_for_status().json()
    return answer


def profiles(store: OnlineStore, *users: str) -> list[bool]:
    return [row is not None for row in store.read([(PROFILE, user) for user in users])]


def words(store: OnlineStore, *users: str) -> list[Any]:
    rows = store.read([(CONSENT, user) for user in users])
    return [None if row is None else row.values["permitted"] for row in rows]


def test_a_denial_outlives_the_store(
    town: Any,
    opened: OnlineStore,
    serving: Callable[..., Any],
    body: Body,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Deny, empty the store, then run `headrace materialize` as documented: only the log has the denial."""
    settings = town.settings
    materialize(settings, monkeypatch)
    assert profiles(opened, "u", "v") == [True, True]
    publish(settings, [User(user_id="u", consent=False)])
    stream_to_end(settings)
    assert (profiles(opened, "u", "v"), words(opened, "u")) == ([False, True], [False])

    empty(settings, opened)
    materialize(settings, monkeypatch)
    assert profiles(opened, "u", "v") == [False, True], "the build still holds both"
    assert words(opened, "u", "v") == [False, True]
    assert is_complete(opened)
    with serving(settings) as client:
        assert rank(client, body(user_id="u"))["degraded"] == ["consent_denied"]
        assert "consent_denied" not in rank(client, body(user_id="v"))["degraded"]


@pytest.mark.parametrize("state", ["kept", "new"])
def test_a_stream_states_it_again_to_an_emptied_store(
    town: Any, opened: OnlineStore, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Restart a stream that was down meanwhile, and a new one that knows only the lake."""
    settings = town.settings
    publish(settings, [User(user_id="u", consent=False)])
    stream_to_end(settings)
    sync_lake(settings, town.home)
    empty(settings, opened)
    if state == "new":
        shutil.rmtree(town.home.stream)
        log = open_log(settings, town.home)
        log.trim(timedelta(0))
        log.close()
    assert words(opened, "u", "v") == [None, None]
    stream_to_end(settings)
    assert words(opened, "u", "v") == [False, True]
    assert is_complete(opened)
    materialize(settings, monkeypatch)
    assert profiles(opened, "u", "v") == [False, True]


def test_rows_of_a_store_that_may_have_lost_a_denial_are_not_used(
    town: Any, opened: OnlineStore, serving: Callable[..., Any], body: Body
) -> None:
    """If rows come back in a way unknown to Headrace, denials may be missing."""
    settings = town.settings
    town.user()
    town.session()
    with serving(settings) as client:
        assert rank(client, body(user_id="u", session_id="s"))["tier"] == "session+long_term"
    empty(settings, opened)
    town.store.close()
    town.store = open_store(settings, town.home)
    town.user()
    town.session()
    town.segment()
    with serving(settings) as client:
        answer = rank(client, body(user_id="u", session_id="s"))
        assert (answer["tier"], answer["degraded"], answer["ages"]) == ("base", ["consent_unknown"], {})
        assert rank(client, body(user_id="u", consent=True))["degraded"] == ["consent_unknown"]
        assert rank(client, body(user_id="nobody"))["tier"] == "segment", "nothing personal is used"
    town.store.put_marks({COMPLETE: b"1"})
    with serving(settings) as client:
        assert rank(client, body(user_id="u", session_id="s"))["tier"] == "session+long_term"


def test_records_of_who_denies_hold_neither_who_nor_what(
    town: Any, serving: Callable[..., Any], body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving.decisions.record import TOPIC

    settings = town.settings
    publish(settings, [User(user_id="u", consent=False)])
    stream_to_end(settings)
    ids = []
    with serving(settings) as client:
        for user, consent in (("u", None), ("v", False), ("v", None)):
            asked = body(user_id=user, session_id="s", query=f"secret of {user} {consent}", consent=consent)
            answer = rank(client, {name: value for name, value in asked.items() if value is not None})
            ids.append(answer["request_id"])
    log = open_log(settings, town.home, TOPIC)
    raw = b"".join(r for p in range(log.partitions) for r in log.read(p, log.start(p), 100).records)
    log.close()
    assert raw.count(b'"query":"secret of') == 1
    assert b"secret of v None" in raw
    assert raw.count(b'"withheld":["user","session","query"]') == 2
    monkeypatch.setenv("HEADRACE_HOME", str(settings.home))
    said = [CliRunner().invoke(app, ["replay", name], catch_exceptions=False).output for name in ids]
    left_out = "left out of the record because consent was denied or unknown: user, session, query"
    assert [left_out in output for output in said] == [True, True, False]
    assert not any("secret of" in output for output in said[:2])
