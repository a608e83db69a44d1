"""Feast's configuration and objects, derived from settings and declarations."""

from __future__ import annotations

import stat

import pytest
import yaml
from pydantic import SecretStr

from feature_repo.errors import SettingsError
from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.services import published
from feature_repo.settings import Settings
from feature_repo.store import redis_connection, repo_config, write_config


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://127.0.0.1:6380/0", "127.0.0.1:6380"),
        ("redis://host", "host:6379"),
        ("redis://:p%40ss@host:1/2", "host:1,password=p@ss,db=2"),
        ("rediss://me:secret@host:6379", "host:6379,username=me,password=secret,ssl=true"),
    ],
)
def test_a_redis_url_in_feasts_words(url: str, expected: str) -> None:
    assert redis_connection(url) == expected


@pytest.mark.parametrize("url", ["http://host", "host:6379", ""])
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match=r"HEADRACE_REDIS_URL: scheme .*; write redis://host:6379/0"):
        redis_connection(url)


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
    from feature_repo.views import FEAST_TYPES, feast_objects  # noqa: PLC0415

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
