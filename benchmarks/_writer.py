"""Writes session rows to Redis at a set rate: what the stream does beside serving."""

from __future__ import annotations

import random
import sys
import time
from datetime import UTC, datetime

from benchmarks._rig import USERS, profile
from feature_repo.groups import all_groups
from feature_repo.online import OnlineRow
from feature_repo.online.redis_store import RedisStore

BATCHES_PER_S = 20


def main(url: str, rate: int) -> None:
    """Write until ended."""
    store, group, rng = RedisStore(url), all_groups()["session_profile"], random.Random(5)
    values = [profile(group, rng, datetime.now(UTC)) for _ in range(50)]
    size = rate // BATCHES_PER_S
    due = time.monotonic()
    while True:
        now = datetime.now(UTC)
        store.write(
            group,
            [OnlineRow(f"s{rng.randrange(USERS * 20)}", values[n % len(values)], now) for n in range(size)],
        )
        due += 1 / BATCHES_PER_S
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
