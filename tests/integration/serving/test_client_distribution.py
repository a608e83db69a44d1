"""`headrace-client` is a separate distribution: built as a wheel, and tested with nothing else installed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from tests.integration.serving.test_client_over_http import service, turned
from tests.support.apart import environment, run_apart

ROOT = Path(__file__).resolve().parents[3]
CLIENT = ROOT / "serving" / "client"

SCRIPT = """
import asyncio, json, sys
from headrace_client import AsyncRankClient, RankClient

def ids(ranking):
    return [item.item_id for item in ranking.items]

async def run():
    async with AsyncRankClient(sys.argv[1], rank_timeout_s=30.0) as client:
        return ids(await client.rank(["a", "b"], user_id="u"))

with RankClient(sys.argv[1], rank_timeout_s=30.0) as client:
    found = [ids(client.rank(["a", "b", "c"])), asyncio.run(run())]
with RankClient("http://127.0.0.1:9", rank_timeout_s=5.0) as client:
    ranking = client.rank(["a", "b"])
    found += [ids(ranking), ranking.fallback]
foreign = {"serving", "feature_repo", "orchestration", "dagster", "feast", "bytewax", "tenacity"}
print(json.dumps([found, sorted(foreign & set(sys.modules))]))
"""


def declared() -> dict[str, object]:
    project: dict[str, object] = tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]
    return project


def test_the_wheel_works_where_only_its_own_dependencies_are(tmp_path: Path) -> None:
    build = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist"))
    subprocess.run(build, cwd=CLIENT, check=True, capture_output=True, timeout=120)
    (wheel,) = (tmp_path / "dist").glob("headrace_client-*.whl")
    site = tmp_path / "site"
    environment(site, [str(requirement) for requirement in declared()["dependencies"]])  # type: ignore[attr-defined]
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    with service(turned) as url:
        printed = run_apart(site, SCRIPT, url)
    found, foreign = json.loads(printed)
    assert found == [["c", "b", "a"], ["b", "a"], ["a", "b"], "ConnectError"]
    assert foreign == []


def test_the_wheel_holds_every_module_and_the_version_of_the_project() -> None:
    config = tomllib.loads((CLIENT / "pyproject.toml").read_text())
    shipped = set(config["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"])
    assert {path.name for path in CLIENT.glob("*.py")} | {"py.typed"} == shipped
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert declared()["version"] == whole["version"]
    assert set(declared()["dependencies"]) <= set(whole["dependencies"])  # type: ignore[call-overload]


def test_the_client_imports_nothing_of_the_project() -> None:
    for path in CLIENT.glob("*.py"):
        modules = re.findall(r"^\s*(?:from|import) ([\w.]+)", path.read_text(), re.M)
        tops = {name.partition(".")[0] for name in modules}
        assert not tops & {"serving", "feature_repo", "streaming", "quality", "orchestration"}, path.name
