"""Many answers with every feature on, each replayed byte for byte from its record."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import msgspec
import pytest

from feature_repo.clock import wall_clock
from feature_repo.groups import all_groups
from feature_repo.online import OnlineRow
from serving.bootstrap import scoring_stages
from serving.control.experiments import HOLDOUT, Experiment, assign
from serving.control.reloading import Model
from serving.decisions.record import TOPIC, Decision, decode_decision
from serving.decisions.replay import model_of, replay
from serving.schemas.rank_response import Tier
from streaming.log import EventLog, open_log

ANSWERS = 120
HELD_OUT = 0.2
PARTS = ("cap", "diversity", "exploration", "rules")
RULES = [
    {"kind": "exclude", "name": "out of stock", "items": ["i2", "i11"]},
    {"kind": "exclude", "name": "already bought", "bought": True},
    {"kind": "demote", "name": "clearance", "items": ["i4"]},
    {"kind": "demote", "name": "slow", "items": ["i9"], "by": 3},
    {"kind": "at_most", "name": "four a category", "count": 4, "first": 12},
    {"kind": "pin", "name": "campaign", "items": ["i7"], "position": 1},
]
EXPERIMENTS = [
    {
        "name": "boost",
        "arms": {
            "off": {"flags": {"personalization": False}},
            "plain": {},
            "tight": {"flags": {"cap.positions": 3}},
        },
    },
    {"name": "mix", "layer": "second", "arms": {"a": {}, "b": {"flags": {"weights": {"session": 0.25}}}}},
]
"""The experiments are in separate layers, so a unit is in both. Arms are sorted, as in the file."""


@pytest.fixture
def busy(shop: Any) -> Any:
    """The shop with every stage active that can move an item."""
    shop.blend(
        "2",
        **{
            "base": 1.0,
            "log_odds:category": 1.0,
            "segment_log_odds:category": 1.5,
            "session_affinity:category": 2.0,
            "touched_recently": 0.3,
        },
    )
    for name, likes, bought in (("v", "shoes", ["i5"]), ("w", "coats", []), ("x", "hats", ["i0", "i1"])):
        shop.user(name, likes, bought=bought)
        session(shop, f"s-{name}", name, likes)
    weight = shop.settings.weights["purchase"]
    lately = {"item_ids": ["i14", "i6"], "item_weights": [weight, weight / 2], "purchase_count": 1}
    written = shop.store.write(all_groups()["user_recent"], [OnlineRow("w", lately, wall_clock())])
    assert written == 1
    (shop.home.flags / "rules.json").write_text(json.dumps({"rules": RULES}))
    shop.flags(
        **{
            "cap": {"positions": 12, "share": 0.9},
            "diversity": {"relevance": 0.6, "per_category": 5},
            "exploration": {"share": 0.2, "slots": 10},
            "experiments": EXPERIMENTS,
            "holdout": HELD_OUT,
        }
    )
    return shop


def session(shop: Any, session_id: str, user_id: str, likes: str) -> None:
    """A session that touched items, so that its signals change with the time of the request."""
    at = wall_clock() - timedelta(minutes=2)
    values = {
        "user_id": user_id,
        "item_ids": ["i3", "i8", "i20"],
        "item_times_ms": [int((at - timedelta(minutes=n)).timestamp() * 1000) for n in range(3)],
        "item_weights": [1.0, 1.0, 1.0],
        "attr_keys": [f"category:{likes}"],
        "attr_weights": [4.0],
        "started_at": at - timedelta(minutes=3),
        "last_event_time": at,
    }
    assert shop.store.write(all_groups()["session_profile"], [OnlineRow(session_id, values, at)]) == 1


def bodies(count: int) -> Iterator[dict[str, Any]]:
    """Make requests that vary in every field."""
    drawn = random.Random(20240601)
    for n in range(count):
        known = drawn.sample([f"i{i}" for i in range(30)], drawn.randint(1, 30))
        ids = drawn.sample([*known, "unknown-1", "unknown-2"], len(known))
        scored = drawn.random() < 0.8
        unit = drawn.choice(["u", "v", "w", "x", f"stranger-{n}", None])
        session_id = drawn.choice(["s", "s-v", "s-w", "s-x", f"new-{n}", None])
        yield {
            "request_id": f"random/{n}",
            "candidates": [
                {
                    "item_id": i,
                    **({"score": drawn.choice([drawn.gauss(0, 1e3), drawn.random()])} if scored else {}),
                }
                for i in ids
            ],
            "explain": drawn.random() < 0.5,
            **({} if drawn.random() < 0.5 else {"limit": drawn.randint(1, 35)}),
            **{name: value for name, value in (("user_id", unit), ("session_id", session_id)) if value},
        }


def records(log: EventLog) -> dict[str, Decision]:
    """Return all records of the log by request id."""
    found: dict[str, Decision] = {}
    for partition in range(log.partitions):
        position = log.start(partition)
        while (batch := log.read(partition, position, 256)).position != position:
            position = batch.position
            found |= {d.request_id: d for d in map(decode_decision, batch.records)}
    return found


@pytest.fixture
def made(busy: Any, serving: Callable[..., Any], until: Callable[..., Any]) -> dict[str, Decision]:
    """Return the records of `ANSWERS` answers over HTTP, each checked against its answer."""
    with serving(busy.settings) as client:
        answers = [rank(client, body) for body in bodies(ANSWERS)]
        log = open_log(busy.settings, busy.home, TOPIC)
        try:
            found: dict[str, Decision] = until(lambda: len(read := records(log)) == ANSWERS and read)
        finally:
            log.close()
    for answer in answers:
        decision = found[answer["request_id"]]
        told = {
            "items": decision.items,
            "tier": decision.tier,
            "dropped": decision.dropped,
            "arms": decision.arms,
        }
        assert msgspec.to_builtins(told) == {name: answer[name] for name in told}
    return found


def rank(client: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = client.post("/v1/rank", json=body).raise_for_status().json()
    return answer


def test_with_everything_on_each_replay_is_byte_for_byte(busy: Any, made: dict[str, Decision]) -> None:
    stages, models = scoring_stages(busy.settings), dict[str, Model]()
    seen: Counter[str] = Counter()
    for decision in made.values():
        made_with = f"{decision.versions.items} {decision.versions.blend}"
        if made_with not in models:
            models[made_with] = model_of(decision, busy.home)
        model = msgspec.structs.replace(models[made_with], flags=decision.flags, rules=decision.rules)
        again = replay(decision, stages, model)
        assert again.same, decision.request_id
        moved = again.context.adjustments.keys()
        seen.update([*moved, decision.tier, *(["all at once"] if moved >= set(PARTS) else [])])
        seen["dropped"] += bool(decision.dropped)
        seen["explained"] += decision.explain
        seen["with chances"] += any(item.propensity not in {None, 1.0} for item in decision.items)
    often = (*PARTS, "all at once", "dropped", "explained", "with chances")
    assert all(seen[what] >= 5 for what in often), seen
    assert seen.keys() >= set(Tier)


def test_exposure_is_part_of_the_record(made: dict[str, Decision]) -> None:
    """Arms and holdout of a unit, as assigned and as answered."""
    experiments = msgspec.convert(EXPERIMENTS, list[Experiment])
    seen: Counter[str] = Counter()
    for body in bodies(ANSWERS):
        decision = made[body["request_id"]]
        given = assign(experiments, HELD_OUT, body.get("user_id"), body.get("session_id"))
        named = "user_id" in body or "session_id" in body
        assert decision.arms == (given.arms if named else {})
        assert decision.held_out is (HOLDOUT in decision.arms or decision.arms.get("boost") == "off")
        if decision.held_out:
            assert (decision.tier, "blend" in decision.completed) == (Tier.BASE, True), "after the same work"
        seen.update([*map("=".join, decision.arms.items()), "held out" if decision.held_out else "ranked"])
    arms = [f"{e.name}={arm}" for e in experiments for arm in e.arms]
    assert all(seen[what] >= 5 for what in (*arms, f"{HOLDOUT}=in", "held out", "ranked")), seen
