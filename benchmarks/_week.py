"""Plots a week of traffic through one shard: the sessions it holds, and the sessions it has seen.

``python -m benchmarks._week docs/img/stream-week.png``
"""

from __future__ import annotations

import math
import random
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from feature_repo.contract.validation import Event, encode
from feature_repo.errors import ContractError
from feature_repo.lake.lake import Lake
from feature_repo.settings import Settings
from streaming.sessions.item_catalogue import Knowledge
from streaming.sessions.messages import Chunk
from streaming.sessions.session_fold import FoldRules
from streaming.sessions.session_shard import SessionShard
from streaming.sessions.shard_context import ShardTools
from streaming.sessions.state_files import StateFolder

DAYS, SESSIONS_PER_HOUR, EVENTS_EACH = 7, 400, 6
START = datetime(2024, 6, 3, tzinfo=UTC)


class _Nowhere:
    def put(self, raw: bytes, source: str, line: int | None, error: ContractError) -> None:
        raise error


def week() -> list[tuple[float, int, int, float]]:
    """Return (day, sessions seen, sessions held, MiB held) by hour; traffic varies with the time of day."""
    settings, rng = Settings(), random.Random(4)
    with tempfile.TemporaryDirectory() as folder:
        clock = [START]
        tools = ShardTools(
            rules=FoldRules.of(settings),
            weights=settings.weights,
            knowledge=Knowledge(Lake(Path(folder))),
            quarantine=_Nowhere(),
            clock=lambda: clock[0],
        )
        shard = SessionShard(0, tools, StateFolder(Path(folder) / "s"))
        points, seen = [], 0
        for hour in range(24 * DAYS):
            begun = START + timedelta(hours=hour)
            crowd = int(SESSIONS_PER_HOUR * (1.1 - math.cos(2 * math.pi * (hour % 24) / 24)))
            records = []
            for n in range(seen, seen + crowd):
                first = begun + timedelta(seconds=rng.uniform(0, 2400))
                for k in range(EVENTS_EACH):
                    at = first + timedelta(seconds=rng.uniform(0, 900))
                    records.append((at, _click(n, k, at, rng)))
            seen += crowd
            clock[0] = begun + timedelta(hours=1)
            shard.process(Chunk(0, [raw for _, raw in sorted(records)]))
            for _ in range(20):
                heartbeat = shard.process(Chunk(0, [], tick=True)).heartbeat
            shard.save()
            assert heartbeat is not None
            points.append(((hour + 1) / 24, seen, heartbeat.sessions, heartbeat.state_bytes / 2**20))
        return points


def _click(session: int, number: int, at: datetime, rng: random.Random) -> bytes:
    return encode(
        Event(
            event_id=f"{session}-{number}",
            event_type="click",
            event_time=at,
            session_id=f"s{session}",
            item_id=f"i{rng.randrange(1000)}",
        )
    )


def draw(points: list[tuple[float, int, int, float]], path: Path) -> None:
    """Draw the curve."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    days, seen, held, mib = zip(*points, strict=True)
    figure, left = plt.subplots(figsize=(8, 3.5), layout="constrained")
    left.plot(days, [n / 1000 for n in seen], color="0.6", linestyle="--", label="sessions seen")
    left.plot(days, [n / 1000 for n in held], color="tab:blue", label="sessions held")
    left.set(xlabel="day", ylabel="thousand sessions", xlim=(0, DAYS), ylim=(0, None))
    right = left.twinx()
    right.plot(days, mib, color="tab:orange", label="state")
    right.set(ylabel="MiB of state", ylim=(0, None))
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    found = week()
    draw(found, Path(sys.argv[1]))
    held, mib = max(p[2] for p in found), max(p[3] for p in found)
    print(f"seen {found[-1][1]:,}; held at most {held:,}, {mib:.1f} MiB")
