"""The scene the demo shows: one user, one list of candidates, two clicks, and what they change."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx

from feature_repo.clock import Clock
from feature_repo.consent import permitted_sql, stated_sql
from feature_repo.errors import HeadraceError
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.settings import Settings
from orchestration.training.reading import parquet

DEADLINE_S = 20.0
POLL_S = 0.002
CANDIDATES = 40
CLICKS = 2
SESSION_TIER = "session"
"""Prefixes of the tiers that use the session."""


class SceneError(HeadraceError):
    """The data have no scene to show, or the clicks did not change the ranking."""


@dataclass(frozen=True)
class Scene:
    """A user, the candidates shown, and the items clicked.

    Attributes:
        candidates: item ids in their un-personalized order.
        titles: their names.
        groups: the categories of each item, or else its strongest attribute; used for display and choice.
        clicked: the two items clicked, which share `clicked_group`.
    """

    user_id: str
    session_id: str
    candidates: tuple[str, ...]
    titles: dict[str, str]
    groups: dict[str, tuple[str, ...]]
    clicked: tuple[str, ...]
    clicked_group: str


@dataclass(frozen=True)
class Moment:
    """One answer of ``/v1/rank``: the order, the reasons, and the tier."""

    items: tuple[dict[str, Any], ...]
    tier: str
    degraded: tuple[str, ...]
    ages: dict[str, float]
    timings_ms: dict[str, float]

    @property
    def order(self) -> tuple[str, ...]:
        return tuple(i["item_id"] for i in self.items)


def choose_scene(settings: Settings) -> Scene:
    """Choose the most active user who may be personalized, the most touched items, and two items to click.

    The two share a group that is rarely near the top.

    Raises:
        SceneError: no user, or fewer than three items.
    """
    import duckdb  # noqa: PLC0415

    lake = Lake(Home(settings.home).lake)
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    con.execute(f"CREATE VIEW events AS SELECT * FROM {parquet(lake.files('event'))}")
    user = con.execute(_most_active(lake, settings.consent_default)).fetchone()
    candidates = [row[0] for row in con.execute(_MOST_TOUCHED, [CANDIDATES]).fetchall()]
    if user is None or len(candidates) <= CLICKS:
        msg = "the data have no user or fewer than three items, so there is no session to show"
        raise SceneError(msg)
    titles, groups = _names(con, lake, candidates)
    group, clicked = _what_to_click(candidates, groups)
    return Scene(user[0], "demo-session", tuple(candidates), titles, groups, clicked, group)


def _most_active(lake: Lake, consent_default: bool) -> str:
    files = lake.files("user")
    stated = stated_sql(parquet(files)) if files else "SELECT '' AS user_id, NULL::BOOLEAN AS stated"
    rule = permitted_sql("e.consent", "s.stated", consent_default)
    return (
        f"SELECT e.user_id FROM events e LEFT JOIN ({stated}) s ON e.user_id = s.user_id "
        f"WHERE e.user_id IS NOT NULL AND e.item_id IS NOT NULL AND {rule} "
        "GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1"
    )


_MOST_TOUCHED = """
    SELECT item_id FROM events WHERE item_id IS NOT NULL GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT $1
"""
_NAMES = """
    SELECT item_id, arg_max(title, ingested_at), arg_max(categories, ingested_at),
           arg_max(attributes, ingested_at)
    FROM read_parquet($1) WHERE list_contains($2, item_id) GROUP BY 1
"""


def _names(
    con: Any, lake: Lake, candidates: Sequence[str]
) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    titles = dict.fromkeys(candidates, "")
    groups: dict[str, tuple[str, ...]] = dict.fromkeys(candidates, ())
    files = lake.files("item")
    for item, title, categories, attributes in (
        con.execute(_NAMES, [files, list(candidates)]).fetchall() if files else ()
    ):
        titles[item] = title or ""
        texts = [v for a in attributes or () for v in a["values"] or ()]
        groups[item] = tuple(categories or texts[:3])
    return titles, groups


def _what_to_click(
    candidates: Sequence[str], groups: dict[str, tuple[str, ...]]
) -> tuple[str, tuple[str, ...]]:
    """Choose two items of the lowest-ranked group, on average, among those with three or more members."""
    members: dict[str, list[int]] = {}
    for position, item in enumerate(candidates):
        for group in groups[item]:
            members.setdefault(group, []).append(position)
    several = {g: p for g, p in members.items() if len(p) > CLICKS} or {
        g: p for g, p in members.items() if len(p) == CLICKS
    }
    if not several:
        return "", tuple(candidates[-CLICKS:])
    group = max(several, key=lambda g: (sum(several[g]) / len(several[g]), g))
    return group, tuple(candidates[p] for p in several[group][:CLICKS])


def play(
    client: httpx.Client,
    scene: Scene,
    clock: Clock,
    check: Callable[[], None] = lambda: None,
    deadline_s: float = DEADLINE_S,
) -> tuple[Moment, Moment, float]:
    """Rank, click twice, and rank again until the order has changed.

    Args:
        client: connected to the serving process.
        check: raises when a process has died.

    Returns:
        the ranking before, the first one that differs, and the milliseconds from posting the clicks to
        receiving the ranking that differs.

    Raises:
        SceneError: the order stayed as it was until the deadline, or serving refused a request.
    """
    before = after = rank(client, scene)
    start = time.perf_counter()
    _answer(client.post("/v1/events", json=clicks(scene, clock())))
    while after.order == before.order or not after.tier.startswith(SESSION_TIER):
        if time.perf_counter() - start > deadline_s:
            msg = (
                f"two clicks did not change the ranking within {deadline_s:g} s "
                f"(tier {after.tier}, degraded {list(after.degraded)}); see the logs of stream and serving"
            )
            raise SceneError(msg)
        check()
        time.sleep(POLL_S)
        after = rank(client, scene)
    return before, after, (time.perf_counter() - start) * 1000


def clicks(scene: Scene, now: datetime) -> list[dict[str, Any]]:
    """Build the scene's clicks as events, the last one now."""
    return [
        {
            "record": "event",
            "event_id": f"{scene.session_id}-{n}",
            "event_type": "click",
            "event_time": (now - timedelta(milliseconds=CLICKS - 1 - n)).isoformat(),
            "user_id": scene.user_id,
            "session_id": scene.session_id,
            "item_id": item,
        }
        for n, item in enumerate(scene.clicked)
    ]


def rank(client: httpx.Client, scene: Scene) -> Moment:
    """Request the scene's ranking, with reasons.

    Every request has the same id, so exploration draws the same slots and only the session can change the
    order. It is never held out, so the effect is visible.
    """
    body = {
        "request_id": f"{scene.session_id}-ranking",
        "overrides": {"holdout": "out"},
        "user_id": scene.user_id,
        "session_id": scene.session_id,
        "candidates": [{"item_id": item} for item in scene.candidates],
        "explain": True,
    }
    answer = _answer(client.post("/v1/rank", json=body))
    return Moment(
        items=tuple(answer["items"]),
        tier=answer["tier"],
        degraded=tuple(answer["degraded"]),
        ages=answer["ages"],
        timings_ms=answer["timings_ms"],
    )


def _answer(response: httpx.Response) -> Any:
    if not response.is_success:
        msg = f"{response.request.method} {response.request.url.path}: {response.status_code} {response.text}"
        raise SceneError(msg)
    return response.json()


def parts_of(moment: Moment) -> list[str]:
    """List the parts of `why`, the most influential first."""
    weight: Counter[str] = Counter()
    for item in moment.items:
        for name, part in (item.get("why") or {}).items():
            weight[name] += abs(part)
    return [name for name, _ in weight.most_common()]
