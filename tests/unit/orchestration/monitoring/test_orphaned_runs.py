"""Runs whose process is gone are ended; runs that still run are not."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.tags import GRPC_INFO_TAG

from orchestration.monitoring.orphaned_runs import LOCK_TAG, end_orphans, held


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def started(instance: dg.DagsterInstance, tags: dict[str, str]) -> str:
    run = dg.DagsterRun(job_name="feature_chain", status=dg.DagsterRunStatus.STARTED, tags=tags)
    return instance.add_run(run).run_id


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


@pytest.mark.parametrize("kind", ["socket", "port"])
def test_a_run_ends_with_its_code_server(instance: dg.DagsterInstance, tmp_path: Path, kind: str) -> None:
    family = socket.AF_UNIX if kind == "socket" else socket.AF_INET
    with socket.socket(family) as server:
        server.bind(str(tmp_path / "s") if kind == "socket" else ("127.0.0.1", 0))
        server.listen()
        address = server.getsockname() if kind == "socket" else server.getsockname()[1]
        run = started(instance, {GRPC_INFO_TAG: json.dumps({"host": "127.0.0.1", kind: address})})
        assert end_orphans(instance) == []
    assert end_orphans(instance) == [run]
    assert status(instance, run) == dg.DagsterRunStatus.FAILURE
    assert end_orphans(instance) == []


def test_a_run_of_a_command_ends_with_its_process(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from orchestration.monitoring.orphaned_runs import held\n"
        "with held(pathlib.Path(sys.argv[1])) as tags:\n"
        "    print(*tags.values(), flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        run = started(instance, {LOCK_TAG: process.stdout.readline().strip()})
        assert end_orphans(instance) == []
        process.kill()
    assert end_orphans(instance) == [run]
    assert status(instance, run) == dg.DagsterRunStatus.FAILURE


def test_a_command_leaves_no_lock_behind(tmp_path: Path) -> None:
    with held(tmp_path) as tags:
        assert Path(tags[LOCK_TAG]).exists()
    assert not list(tmp_path.rglob("*.lock"))


def test_a_run_that_says_nothing_of_its_process_is_left_alone(instance: dg.DagsterInstance) -> None:
    started(instance, {})
    assert end_orphans(instance) == []
