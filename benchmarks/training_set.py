"""`training_set`: examples of simulated lists with labels, features as of each decision, splits and card.

Half of the decisions are logged with the profile of their user. The baseline is a hand-written DuckDB join of
lists, clicks, carts and purchases within the hour, and profiles by ASOF JOIN; it has no sessions, logged
rows, splits or order. Peak memory is that of a separate process, and should stay within DuckDB's limit (512
MB here) plus 1 GiB. `training_set_1m`, a million decisions, runs with HEADRACE_BENCH_LONG=1.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._apart import apart
from benchmarks.harness import Row, Target
from feature_repo.home import Home
from feature_repo.lake.lake import Builds, Lake
from feature_repo.settings import Settings

if TYPE_CHECKING:
    from serving.decisions.record import Decision

MEMORY, THREADS = "512MB", 2
LIMIT_MIB = 512 + 1024
ITEMS, DAYS, PER_USER_DAY = 2_000, 7, 0.9
"""Approximate number of lists per user and day in the simulator."""
DECISIONS, DECISIONS_1M = 3_000, 1_000_000
PROFILES = ("user_profile", "segment_profile", "item_profile")
LOGGED_USERS = 500
TARGETS = {
    "training_set_memory": Target(LIMIT_MIB),
    "training_set_1m_memory": Target(LIMIT_MIB),
}
LIMITS = {"training_set_1m": 7200.0}


def write_shop(root: Path, decisions: int) -> None:
    """Write a lake with about `decisions` lists, and profiles as of the morning of its third day."""
    from feature_repo.groups import all_groups
    from orchestration.builds.build import build_group
    from streaming.simulator import ShopConfig, simulate_lake

    home = Home(root).ensure()
    config = ShopConfig(
        users=round(decisions / DAYS / PER_USER_DAY),
        items=ITEMS,
        days=DAYS,
        duplicates=0,
        late=0,
        malformed=0,
    )
    simulate_lake(config, Lake(home.lake))
    as_of = config.start + timedelta(days=2)
    for name in PROFILES:
        build_group(all_groups()[name], _settings(root), home, as_of, lambda: as_of)


def _settings(root: Path) -> Settings:
    return Settings(home=root, duckdb_memory=MEMORY, duckdb_threads=THREADS)


def _ours(root: str) -> None:
    from orchestration.training.dataset import TrainingSet
    from orchestration.training.spec import TrainingSpec

    home = Home(Path(root))
    days = Lake(home.lake).days()
    now = datetime(2030, 1, 1, tzinfo=UTC)
    spec = TrainingSpec(days[0], days[-1])
    TrainingSet(spec, _settings(home.root), home, lambda: now, _logged(home)).make()


def _logged(home: Home) -> Iterator[Decision]:
    """Log every second list with a profile. Whose profile it is does not affect the cost."""
    import duckdb
    import pyarrow.parquet as pq

    path = Builds(home.features).history("user_profile", 1)[0]
    columns = [name for name in pq.read_schema(path).names if not name.endswith("_timestamp")]
    people = pq.read_table(path, columns=columns).slice(0, LOGGED_USERS).to_pylist()
    files = Lake(home.lake).files("event")
    query = "SELECT request_id, event_time FROM read_parquet(?) WHERE event_type = 'impression'"
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        rows = con.execute(query, [files])
        number = 0
        while some := rows.fetchmany(1000):
            for request, time in some[::2]:
                number += 1
                yield _decision(request, time, people[number % len(people)])


def _decision(request: str, time: datetime, values: dict[str, Any]) -> Decision:
    from serving.control.flags import Flags
    from serving.control.rules import Rules
    from serving.decisions.record import Decision, UsedRow, Versions
    from serving.schemas.rank_response import Tier

    return Decision(
        request_id=request,
        time=time,
        user="u",
        session="s",
        query=None,
        candidates=[],
        limit=None,
        explain=False,
        features={"user": UsedRow(values, time, cached=False)},
        flags=Flags(),
        rules=Rules(),
        versions=Versions(None, None, "f"),
        arms={},
        held_out=False,
        seed=request,
        completed=[],
        tier=Tier.BASE,
        degraded=[],
        ages={},
        timings_ms={},
        items=[],
        dropped=[],
    )


def _by_hand(root: str) -> None:
    import duckdb

    home = Home(Path(root))
    builds = {name: Builds(home.features).history(name, 1) for name in PROFILES}
    config: dict[str, Any] = {
        "memory_limit": MEMORY,
        "threads": THREADS,
        "temp_directory": str(home.root / "spill"),
    }
    with duckdb.connect(config=config) as con:
        con.execute("SET TimeZone = 'UTC'")
        con.read_parquet(Lake(home.lake).files("event"), hive_partitioning=False).create_view("events")
        for name, (path, *_) in builds.items():
            con.read_parquet(str(path), hive_partitioning=False).create_view(name)
        con.execute(f"COPY ({_HAND}) TO '{home.root}/by_hand.parquet' (FORMAT parquet, COMPRESSION zstd)")


_HAND = """
WITH shown AS (
    SELECT request_id, event_time AS t, user_id, session_id, unnest(items).item_id AS item_id
    FROM events WHERE event_type = 'impression'
), labels AS (
    SELECT s.request_id, s.item_id, bool_or(e.event_type = 'click') AS click,
           bool_or(e.event_type = 'add_to_cart') AS cart, bool_or(e.event_type = 'purchase') AS purchase
    FROM shown s JOIN events e ON e.session_id = s.session_id AND e.item_id = s.item_id
        AND e.event_time >= s.t AND e.event_time < s.t + INTERVAL 1 HOUR AND e.event_type <> 'impression'
    GROUP BY ALL
), labelled AS (SELECT * FROM shown LEFT JOIN labels USING (request_id, item_id))
SELECT l.*, u.* EXCLUDE (user_id), i.* EXCLUDE (item_id), g.* EXCLUDE (segment) FROM labelled l
ASOF LEFT JOIN user_profile u ON l.user_id = u.user_id AND l.t >= u.event_timestamp
ASOF LEFT JOIN item_profile i ON l.item_id = i.item_id AND l.t >= i.event_timestamp
ASOF LEFT JOIN segment_profile g ON u.segment = g.segment AND l.t >= g.event_timestamp
"""


def _rows(name: str, decisions: int, rounds: int) -> Sequence[Row]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_shop(root, decisions)
        ours, hand = [], []
        for _ in range(rounds):
            ours.append(apart(_ours, folder, spill=root / "training"))
            hand.append(apart(_by_hand, folder))
        size = (root / "training" / "data.parquet").stat().st_size / 2**20
    found = min(ours, key=lambda cost: cost.seconds)
    seconds = min(cost.seconds for cost in hand)
    facts = {
        "decisions": decisions,
        "memory_limit": MEMORY,
        "spilled_mib": found.spilled_mib,
        "file_mib": size,
    }
    peak = max(cost.peak_mib for cost in ours)
    return [
        Row(name, found.seconds, "s", "hand-written DuckDB SQL", seconds, rounds, facts),
        Row(f"{name}_memory", peak, "MiB", "bound", LIMIT_MIB, rounds, facts),
    ]


def run() -> Sequence[Row]:
    """Measure some thousand decisions."""
    return _rows("training_set", DECISIONS, rounds=2)


def run_1m() -> Sequence[Row]:
    """Measure a million decisions."""
    return _rows("training_set_1m", DECISIONS_1M, rounds=1)


RUNS = {"training_set": run}
if os.environ.get("HEADRACE_BENCH_LONG"):
    RUNS["training_set_1m"] = run_1m
