"""Publishes events to the log of its environment at a fixed rate, as shops and apps do."""

from __future__ import annotations

import random
import sys
import time
from datetime import UTC, datetime

from benchmarks._rig import ITEMS, USERS
from feature_repo.contract.validation import Event, encode
from feature_repo.home import Home
from feature_repo.settings import load_settings
from streaming.log import open_log

BATCHES_PER_S = 50
KINDS = ("view", "click", "view", "add_to_cart")


def main(rate: int) -> None:
    """Publish until killed, for twenty times as many sessions as are ranked, including those."""
    settings = load_settings()
    log, rng = open_log(settings, Home(settings.home)), random.Random(5)
    size, due = rate // BATCHES_PER_S, time.monotonic()
    while True:
        now = datetime.now(UTC)
        batch = []
        for n in range(size):
            number = rng.randrange(USERS * 20)
            event = Event(
                event_id=f"{rng.getrandbits(64):016x}",
                event_type=KINDS[n % len(KINDS)],
                event_time=now,
                session_id=f"s{number}",
                item_id=f"i{rng.randrange(ITEMS)}",
                user_id=f"u{number}",
            )
            batch.append((event.session_id, encode(event)))
        log.publish(batch)
        due += 1 / BATCHES_PER_S
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main(int(sys.argv[1]))
