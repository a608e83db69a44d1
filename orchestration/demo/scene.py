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
"""How the tiers that use the session begin."""


class SceneError(HeadraceError):
    """The data hold no scene to show, or the clicks did not change the ranking."""


@dataclass(frozen=True)
class Scene:
    """Who is shown what, and what gets clicked.

    Attributes:
        candidates: item ids in their un-personalized order.
        titles: names of them.
        groups: what each belongs to (its categories, else its strongest attribute), for display and choice.
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
    """One answer of ``/v1/rank``: the order, why, and from what it was made."""

    items: tuple[dict[str, Any], ...]
    tier: str
    degraded: tuple[str, ...]
    ages: dict[str, float]
    timings_ms: dict[str, float]

    @property
    def order(self) -> tuple[str, ...]:
        """Item ids as ranked."""
        return tuple(i["item_id"] for i in self.items)


def choose_scene(settings: Settings) -> Scene:
    """The most active user who may be personalized, the items touched most, and two of them to click.

    The two are of one group that is seldom on top.

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
        msg = "the data name no user or fewer than three items: there is no session to show"
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
    """Two items of the group that stands lowest on average among those with three or more members."""
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
        client: of the serving process.
        check: raises when a process has died.

    Returns:
        the ranking before, the first one that differs, and the milliseconds from posting the clicks to
        having the answer that differs.

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
    """The clicks of the scene as events, the last one now."""
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
    """Ask for the scene's ranking, with reasons.

    Always under one request id, so that exploration draws the same slots and only the session can change the
    order; and never held out, so that there is something to see.
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
    """Names of the parts of `why`, those that move most first."""
    weight: Counter[str] = Counter()
    for item in moment.items:
        for name, part in (item.get("why") or {}).items():
            weight[name] += abs(part)
    return [name for name, _ in weight.most_common()]
