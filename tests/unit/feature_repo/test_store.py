"""Feast's configuration and objects, derived from settings and declarations."""

from __future__ import annotations

import stat
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from feature_repo.errors import SettingsError
from feature_repo.feast_store import (
    apply,
    declarations,
    feature_store,
    redis_connection,
    repo_config,
    write_config,
)
from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.services import published
from feature_repo.settings import Settings


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://127.0.0.1:6380/0", "127.0.0.1:6380"),
        ("redis://host", "host:6379"),
        ("redis://:p%40ss@host:1/2", "host:1,password=p@ss,db=2"),
        ("rediss://me:secret@host:6379", "host:6379,username=me,password=secret,ssl=true"),
        ("redis://:1e5@host", 'host:6379,password="1e5"'),
        ("redis://:007@host", "host:6379,password=007"),
        ("redis://:true@host", 'host:6379,password="true"'),
        ("redis://:a%2Cb=c@host", r'host:6379,password="a\u002cb=c"'),
        ("redis://:%22q%22@host", r'host:6379,password="\"q\""'),
        ("redis://host?socket_timeout=2.5", "host:6379,socket_timeout=2.5"),
        ("rediss://host?ssl_cert_reqs=none", "host:6379,ssl=true,ssl_cert_reqs=none"),
    ],
)
def test_a_redis_url_in_feasts_words(url: str, expected: str) -> None:
    assert redis_connection(url) == expected


@pytest.mark.parametrize("url", ["http://host", "host:6379", ""])
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match=r"HEADRACE_REDIS_URL: .*; write e\.g\. redis://127.0.0.1:6379/0"):
        redis_connection(url)


@pytest.mark.parametrize("url", ["unix:///run/redis.sock", "redis://[::1]:6379"])
def test_what_feasts_form_cannot_hold_is_refused(url: str) -> None:
    with pytest.raises(
        SettingsError, match=r"HEADRACE_REDIS_URL: Feast's client .*; write redis://host:6379"
    ):
        redis_connection(url)


@given(st.text(min_size=1, max_size=20), st.text(max_size=20))
def test_feast_reads_every_password_as_it_is(username: str, password: str) -> None:
    from feast.infra.online_stores.redis import RedisOnlineStore

    url = f"redis://{quote(username, safe='')}:{quote(password, safe='')}@host:1/2"
    _, found = RedisOnlineStore._parse_connection_string(redis_connection(url))
    assert found == {"username": username, **({"password": password} if password else {}), "db": 2}


def test_paths_are_absolute_and_the_store_follows_the_settings(home: Home) -> None:
    found = repo_config(Settings(home=home.root), home)
    assert found["online_store"] == {"type": "sqlite", "path": str(home.feast.resolve() / "online.db")}
    assert found["registry"] == str(home.feast.resolve() / "registry.db")
    on_redis = Settings(home=home.root, online_store="redis", redis_url=SecretStr("redis://h:1"))
    assert repo_config(on_redis, home)["online_store"] == {"type": "redis", "connection_string": "h:1"}


def test_the_written_file_may_hold_a_password_and_is_private(home: Home) -> None:
    settings = Settings(home=home.root, online_store="redis", redis_url=SecretStr("redis://:pw@h:1"))
    path = write_config(settings, home)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert yaml.safe_load(path.read_text()) == repo_config(settings, home)


def test_feast_objects_follow_the_declarations(home: Home) -> None:
    from feature_repo.views import FEAST_TYPES, feast_objects

    groups = all_groups()
    found = feast_objects(groups.values(), home, published())
    assert [v.name for v in found.views] == [g.view_name for g in groups.values()]
    assert {e.name for e in found.entities} == {g.entity.name for g in groups.values()}
    assert [service.name for service in found.services] == [service.name for service in published()]
    for view, group in zip(found.views, groups.values(), strict=True):
        types = {f.name: f.dtype for f in view.features}
        assert types == {f.name: FEAST_TYPES[f.dtype] for f in group.features}
        assert view.ttl == group.ttl
        assert view.batch_source.path.startswith(str(home.features.resolve()))
        assert (view.stream_source is not None) == (group.batch is None)
    assert len(found.all) == len(found.entities) + len(found.views) + len(found.services)


def test_the_hash_follows_whatever_is_declared(home: Home, tmp_path: Path) -> None:
    [group, *others] = all_groups().values()
    same = declarations([group, *others], home)
    assert declarations([replace(group), *others], home) == same
    feature = replace(group.features[0], meaning="Something else.")
    changed = [
        replace(group, ttl=group.ttl + timedelta(days=1)),
        replace(group, meaning="Something else."),
        replace(group, version=9),
        replace(group, entity=replace(group.entity, meaning="Something else.")),
        replace(group, features=(feature, *group.features[1:])),
        replace(group, features=group.features[1:]),
        replace(group, batch=None if group.batch else all_groups()["user_profile"].batch),
    ]
    hashes = {declarations([other, *others], home) for other in changed}
    assert len(hashes - {same}) == len(changed)
    assert declarations([group], home) != same
    assert declarations([group, *others], home, published()) != same
    assert declarations([group, *others], Home(tmp_path / "elsewhere")) != same


def test_unchanged_declarations_are_not_applied_again(home: Home) -> None:
    settings = Settings(home=home.root)
    first = apply(settings, home)
    registry = home.feast / "registry.db"
    written = registry.stat().st_mtime_ns
    assert first.changed
    again = apply(settings, home)
    assert (again.counts, again.changed) == (first.counts, False)
    assert registry.stat().st_mtime_ns == written


@pytest.mark.parametrize("damage", ["registry changed", "registry gone", "note damaged"])
def test_a_registry_that_is_not_as_we_left_it_is_applied_again(home: Home, damage: str) -> None:
    settings = Settings(home=home.root)
    apply(settings, home)
    match damage:
        case "registry changed":
            (home.feast / "registry.db").write_bytes(b"")
        case "registry gone":
            (home.feast / "registry.db").unlink()
        case _:
            (home.feast / ".applied.json").write_bytes(b"\xff{")
    assert apply(settings, home).changed
    assert {v.name for v in feature_store(settings, home).list_feature_views()} == {
        g.view_name for g in all_groups().values()
    }


def test_the_hash_is_the_same_in_every_process(home: Home) -> None:
    code = (
        "import sys, pathlib; from feature_repo.groups import all_groups; "
        "from feature_repo.home import Home; "
        "from feature_repo.feast_store import declarations; "
        "print(declarations(all_groups().values(), Home(pathlib.Path(sys.argv[1]))))"
    )
    command = [sys.executable, "-c", code, str(home.root)]
    hashes = {subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert hashes == {f"{declarations(all_groups().values(), home)}\n"}
