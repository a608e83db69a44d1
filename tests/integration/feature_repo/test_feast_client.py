"""A program that has Feast and nothing of Headrace reads online features, by the file made for it."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
import yaml
from typer.testing import CliRunner

from feature_repo.group import DType
from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.online import OnlineRow, open_store
from feature_repo.services import published
from feature_repo.settings import Settings, load_settings
from orchestration.cli import app
from tests.conftest import RedisServer
from tests.support.apart import environment, run_apart

pytestmark = pytest.mark.redis

SCRIPT = """
import importlib.util, json, sys
from feast import FeatureStore

store = FeatureStore(fs_yaml_file=sys.argv[1])
rows = [{"item_id": "i1"}, {"item_id": "absent"}]
by_name = store.get_online_features(["item_profile:ctr", "item_profile:categories"], rows).to_dict()
service = store.get_feature_service("ranking_v1")
user = {"user_id": "u1", "item_id": "i1", "segment": "all", "session_id": "s"}
whole = store.get_online_features(service, [user], full_feature_names=True).to_dict()
ours = [m for m in ("feature_repo", "duckdb", "ibis", "dagster") if importlib.util.find_spec(m)]
print(json.dumps([by_name, whole["item_profile__title"], len(whole), ours]))
"""


@pytest.mark.parametrize("password", [None, "1e5", "a,b=c"])
def test_a_plain_feast_reads_what_headrace_wrote(
    password: str | None, own_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = own_redis.url
    if password is not None:
        redis.Redis.from_url(url).config_set("requirepass", password)
        url = url.replace("//", f"//:{quote(password, safe='')}@")
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HEADRACE_ONLINE_STORE", "redis")
    monkeypatch.setenv("HEADRACE_REDIS_URL", url)
    _write(load_settings())
    config = tmp_path / "feature_store.yaml"
    ran = CliRunner().invoke(app, ["feast", "client-config", "-o", str(config)])
    assert ran.exit_code == 0, ran.output
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    environment(tmp_path / "site", ["feast[redis]"])
    printed = run_apart(tmp_path / "site", SCRIPT, str(config))
    by_name, title, count, ours = json.loads(printed.splitlines()[-1])
    assert by_name == {
        "item_id": ["i1", "absent"],
        "ctr": [0.25, None],
        "categories": [["shoes"], None],
    }
    assert title == ["Boots"]
    assert count == 4 + sum(len(view.features) for view in published()[0].views)
    assert ours == []


def _write(settings: Settings) -> None:
    """Apply the registry and store one item."""
    from feature_repo.feast_store import apply

    home = Home(Path(settings.home)).ensure()
    apply(settings, home)
    group = all_groups()["item_profile"]
    values = dict.fromkeys(group.feature_names)
    values |= {
        f.name: [] for f in group.features if f.dtype in (DType.STRINGS, DType.FLOAT64S, DType.FLOAT32S)
    }
    values |= {"title": "Boots", "ctr": 0.25, "categories": ["shoes"]}
    store = open_store(settings, home)
    store.write(group, [OnlineRow("i1", values, datetime.now(UTC))])
    store.close()


def test_another_registry_is_named_and_no_file_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    ran = CliRunner().invoke(app, ["feast", "client-config", "--registry", "s3://bucket/registry.db"])
    assert ran.exit_code == 0, ran.output
    found = yaml.safe_load(ran.output)
    assert found["registry"] == "s3://bucket/registry.db"
    assert found["offline_store"] == {"type": "file"}
