"""Materialization on real stores: several processes, killed at any moment, read back by Feast."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from feature_repo.errors import BuildError, StoreError
from feature_repo.group import FeatureGroup
from feature_repo.home import Home
from feature_repo.lake.lake import Build, Builds
from feature_repo.online import OnlineStore, open_store
from feature_repo.settings import Settings
from orchestration.materialize.checkpoint import read_checkpoint
from orchestration.materialize.materialize import materialize_current
from tests.support.offline import click_group

AS_OF = datetime(2024, 5, 31, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[4]
GROUP = replace(click_group(), batch=None)


def build(home: Home, count: int, as_of: datetime = AS_OF, clicks: int = 0) -> Build:
    rows = pa.Table.from_pydict(
        {
            "user_id": [f"u{n}" for n in range(count)],
            "clicks": [clicks + n for n in range(count)],
            "last_item": [f"i{n % 50}" for n in range(count)],
            "last_event_time": [as_of - timedelta(seconds=n % 86_400) for n in range(count)],
            "event_timestamp": [as_of] * count,
            "created_timestamp": [as_of] * count,
        },
        schema=GROUP.arrow_schema,
    )
    path = Builds(home.features).path("clicks", as_of)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, row_group_size=2_000)
    return Build(path, as_of, as_of, count)


@pytest.fixture(params=["redis", "sqlite"])
def settings(request: pytest.FixtureRequest, home: Home) -> Settings:
    if request.param == "sqlite":
        return Settings(home=home.root)
    url = request.getfixturevalue("redis_url")
    return Settings(home=home.root, online_store="redis", redis_url=SecretStr(url))


def everything(store: OnlineStore, count: int, group: FeatureGroup = GROUP) -> list[int | None]:
    rows = store.read([(group, f"u{n}") for n in range(count)])
    return [None if row is None else row.values["clicks"] for row in rows]


@pytest.mark.redis
def test_several_processes_write_what_one_would(redis_url: str, home: Home) -> None:
    settings = Settings(home=home.root, online_store="redis", redis_url=SecretStr(redis_url))
    told: list[int] = []
    found = build(home, 9_000)
    assert materialize_current(GROUP, found, settings, home, progress=told.append, workers=2) == 9_000
    assert sum(told) == 9_000
    store = open_store(settings, home)
    assert everything(store, 9_000) == list(range(9_000))
    mark = read_checkpoint(GROUP, store)
    assert mark is not None
    assert (mark.as_of, mark.rows, mark.complete) == (AS_OF, 9_000, True)
    store.close()


def test_an_older_build_leaves_newer_values(settings: Settings, home: Home) -> None:
    newer, older = build(home, 50, clicks=1_000), build(home, 50, AS_OF - timedelta(days=1))
    assert materialize_current(GROUP, newer, settings, home) == 50
    assert materialize_current(GROUP, older, settings, home) == 0
    store = open_store(settings, home)
    assert everything(store, 50) == list(range(1_000, 1_050))
    store.close()


KILLED = """
    import os, sys
    from pathlib import Path
    from feature_repo.home import Home
    from feature_repo.settings import load_settings
    from orchestration.materialize import materialize as m
    from tests.integration.orchestration.materialize.test_materialize import AS_OF, GROUP
    from feature_repo.lake.lake import Build, Builds

    settings = load_settings()
    home = Home(Path(settings.home))
    path = Builds(home.features).path("clicks", AS_OF)
    def told(rows, seen=[]):
        seen.append(rows)
        if len(seen) == 3:
            print("third", flush=True)
            sys.stdin.read()
    build = Build(path, AS_OF, AS_OF, 20_000)
    m.materialize_current(GROUP, build, settings, home, progress=told, workers=WORKERS)
"""


def test_killed_in_the_middle_it_goes_on_and_nothing_is_missing(settings: Settings, home: Home) -> None:
    found = build(home, 20_000)
    workers = 2 if settings.online_store == "redis" else 1
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HEADRACE_HOME": str(home.root),
        "HEADRACE_ONLINE_STORE": settings.online_store,
        "HEADRACE_REDIS_URL": settings.redis_url.get_secret_value(),
    }
    code = textwrap.dedent(KILLED).replace("WORKERS", str(workers))
    script = home.root / "killed.py"
    script.write_text(
        code if workers == 1 else f"if __name__ == '__main__':\n{textwrap.indent(code, '    ')}"
    )
    with subprocess.Popen(
        [sys.executable, str(script)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"third\n"
        child.send_signal(signal.SIGKILL)
        child.wait(20)
    store = open_store(settings, home)
    before = read_checkpoint(GROUP, store)
    assert before is not None
    assert 2 <= len(before.done) < 10
    assert not before.complete
    # What the mark names is really there, whatever else may be.
    values = everything(store, 20_000)
    assert all(values[n] == n for piece in before.done for n in range(piece * 2_000, (piece + 1) * 2_000))
    told: list[int] = []
    assert materialize_current(GROUP, found, settings, home, progress=told.append) == 20_000
    assert everything(store, 20_000) == list(range(20_000))
    assert sum(told) == 20_000
    store.close()


def test_feast_reads_what_was_materialized(settings: Settings, home: Home) -> None:
    import feast

    from feature_repo.feast_store import feature_store
    from feature_repo.views import feast_objects, quiet_globs

    quiet_globs()
    client = feature_store(settings, home)
    client.apply(feast_objects([GROUP], home).all)
    materialize_current(GROUP, build(home, 20), settings, home)
    refs = [f"clicks:{name}" for name in GROUP.feature_names]
    answer = client.get_online_features(refs, [{"user_id": "u3"}, {"user_id": "nobody"}]).to_dict()
    assert answer["clicks"] == [3, None]
    assert answer["last_item"] == ["i3", None]
    assert answer["last_event_time"][0] == AS_OF - timedelta(seconds=3)
    assert isinstance(client, feast.FeatureStore)


@pytest.mark.redis
def test_a_store_that_is_gone_is_named(home: Home) -> None:
    settings = Settings(home=home.root, online_store="redis", redis_url=SecretStr("redis://127.0.0.1:1/0"))
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1"):
        materialize_current(GROUP, build(home, 5), settings, home)


@pytest.mark.redis
def test_a_piece_that_cannot_be_read_fails_the_whole_and_keeps_the_mark(redis_url: str, home: Home) -> None:
    settings = Settings(home=home.root, online_store="redis", redis_url=SecretStr(redis_url))
    found = build(home, 6_000)
    whole = found.path.read_bytes()
    # Damage the data of the last row group only: the footer still reads.
    start = pq.read_metadata(found.path).row_group(2).column(0).data_page_offset
    found.path.write_bytes(whole[:start] + b"\xff" * 200 + whole[start + 200 :])
    with pytest.raises(BuildError, match="not a readable build"):
        materialize_current(GROUP, found, settings, home, workers=2)
    found.path.write_bytes(whole)
    assert materialize_current(GROUP, found, settings, home, workers=2) == 6_000
