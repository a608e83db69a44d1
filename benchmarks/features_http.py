"""Online features over HTTP: `POST /v1/features` beside Feast's own server, on the same Redis.

Each request reads all 70 features of one user, session and segment. Both sides use a bare socket with one
keep-alive connection, in turn. `features_http_100` reads three features of a hundred users.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.harness import Row, Target, latency_rows

if TYPE_CHECKING:
    from benchmarks._rig import Stage

WARM, ROUNDS = 50, 300
TARGETS = {"features_http": Target(0.25, "ratio")}
_BASELINE = "feast serve, the same request"


def run() -> list[Row]:
    """Measure ``features_http`` and ``features_http_100``, and their p99."""
    from benchmarks._rig import served, stage

    with stage("redis") as scene, served(scene) as port, feast_served(scene) as feast_port:
        one = _measure(port, feast_port, _bodies_of_one())
        hundred = _measure(port, feast_port, _bodies_of_a_hundred())
    return [
        *latency_rows("features_http", *_apart(one)),
        *latency_rows("features_http_100", *_apart(hundred)),
    ]


def _apart(samples: Sequence[tuple[float, float]]) -> tuple[Sequence[float], str, Sequence[float]]:
    ours, theirs = zip(*samples, strict=True)
    return ours, _BASELINE, theirs


def _bodies_of_one() -> list[bytes]:
    from benchmarks._rig import USERS
    from feature_repo.groups import all_groups

    groups = [all_groups()[name] for name in ("user_profile", "session_profile", "segment_profile")]
    features = [f"{group.view_name}:{name}" for group in groups for name in group.feature_names]
    asked = {"features": features, "full_feature_names": True}
    keys = [
        {"user_id": [f"u{n % USERS}"], "session_id": [f"s{n % USERS}"], "segment": ["all"]}
        for n in range(200)
    ]
    return [json.dumps({**asked, "entities": entities}).encode() for entities in keys]


def _bodies_of_a_hundred() -> list[bytes]:
    features = ["user_profile:segment", "user_profile:click_rate", "user_profile:attr_keys"]
    return [
        json.dumps(
            {"features": features, "entities": {"user_id": [f"u{start + n}" for n in range(100)]}}
        ).encode()
        for start in range(0, 400, 100)
    ]


def _measure(port: int, feast_port: int, sent: Sequence[bytes]) -> list[tuple[float, float]]:
    from benchmarks._clients import Client, milliseconds

    ours, theirs = Client(port), Client(feast_port)
    ways = milliseconds(ours, "/v1/features", sent), milliseconds(theirs, "/get-online-features", sent)
    samples = [(next(ways[0]), next(ways[1])) for _ in range(WARM + ROUNDS)][WARM:]
    ours.close()
    theirs.close()
    return samples


@contextmanager
def feast_served(scene: Stage) -> Iterator[int]:
    """Run Feast's feature server on the scene's store."""
    from benchmarks._rig import wait_for_port
    from feature_repo.feast_store import apply

    apply(scene.settings, scene.home)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    folder = str(scene.home.feast.resolve())
    arguments = (
        "-c",
        folder,
        "serve",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-access-log",
        "--max-requests",
        "0",
    )
    command = (sys.executable, "-W", "ignore", "-m", "feast.cli.cli", *arguments)
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, 90.0)
        yield port
    finally:
        running.terminate()
        running.wait()
