"""The statistics of docs/reference/statistics.md in plain loops: oracle of batch groups and replay."""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np

from feature_repo.catalogue import facts_of
from feature_repo.contract.validation import Event, Item, User
from feature_repo.group import BatchParams

DAY = timedelta(days=1)
Row = dict[str, Any]


def strength(score: float) -> float:
    return round(math.log(max(score, 1e-300)), 9)


class Oracle:
    """Every feature of the four slow groups as of ``params.as_of``."""

    def __init__(
        self, events: Sequence[Event], items: Sequence[Item], users: Sequence[User], params: BatchParams
    ) -> None:
        self.p = params
        self.events = [e for e in events if e.event_time < params.as_of]
        self.items = {item.item_id: item for item in items}
        self.facts = {item.item_id: facts_of(item) for item in items}
        self.users = {user.user_id: user for user in users}

    # building blocks

    def weight(self, event: Event) -> float:
        return max(self.p.weights.get(event.event_type, 0.0), 0.0) if event.item_id is not None else 0.0

    def faded(self, event: Event, half_life: timedelta) -> float:
        return float(2.0 ** (-((self.p.as_of - event.event_time) / half_life)))

    def consents(self, event: Event) -> bool:
        record = self.users.get(event.user_id or "")
        if record is not None and record.consent is False:
            return False
        if event.consent is not None:
            return event.consent
        if record is not None and record.consent is not None:
            return record.consent
        return self.p.consent_default

    def keys(self, item_id: str) -> tuple[str, ...]:
        return self.facts[item_id].attr_keys if item_id in self.facts else ()

    def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        shown: dict[str, int] = defaultdict(int)
        clicked: dict[str, int] = defaultdict(int)
        for event in self.events:
            if event.event_type == "impression":
                for slot in event.items:
                    shown[slot.item_id] += 1
            if self.weight(event):
                clicked[str(event.item_id)] += 1
        return shown, clicked

    def ctr(self, item_id: str) -> float:
        shown, clicked = self.counts()
        slots = sum(shown.values())
        mean = sum(clicked[i] for i in shown) / slots if slots else 0.1
        if not shown[item_id]:
            return mean
        return (clicked[item_id] + 10 * mean) / (shown[item_id] + 10)

    # item_profile

    def expected_by_position(self) -> dict[str, float]:
        slots: dict[int, int] = defaultdict(int)
        clicks: dict[int, int] = defaultdict(int)
        own: dict[str, list[int]] = defaultdict(list)
        for event in self.events:
            if event.event_type == "impression":
                for place, slot in enumerate(event.items):
                    slots[min(place, 99)] += 1
                    own[slot.item_id].append(min(place, 99))
        for event in self.events:
            if not self.weight(event):
                continue
            if event.position is not None:
                clicks[min(event.position, 99)] += 1
            elif event.request_id is not None:
                for shown in self.events:
                    if shown.event_type == "impression" and shown.request_id == event.request_id:
                        for place, slot in enumerate(shown.items):
                            clicks[min(place, 99)] += slot.item_id == event.item_id
        return {item: sum(clicks[at] / slots[at] for at in places) for item, places in own.items()}

    def vector(self, item_id: str) -> list[float]:
        entries = [0.0] * 32
        for key in self.keys(item_id):
            digest = hashlib.md5(key.encode()).hexdigest()
            entries[int(digest[:2], 16) % 32] += 1.0 if int(digest[2], 16) < 8 else -1.0
        length = math.sqrt(sum(e * e for e in entries))
        return [e / length if length else 0.0 for e in entries]

    def buys(self, event: Event, item_id: str) -> bool:
        return event.event_type == "purchase" and event.item_id == item_id and self.weight(event) > 0

    def item_profile(self) -> dict[str, Row]:
        shown, clicked = self.counts()
        expected = self.expected_by_position()
        rows = {}
        for item_id in {*self.items, *shown, *clicked}:
            item = self.items.get(item_id)
            touched = [
                e.event_time
                for e in self.events
                if (self.weight(e) and e.item_id == item_id)
                or (e.event_type == "impression" and any(s.item_id == item_id for s in e.items))
            ]
            born = (item.created_at if item else None) or min(touched, default=None)
            numerics = sorted(self.facts[item_id].numerics.items()) if item else []
            popularity = [
                sum(
                    self.weight(e) * self.faded(e, half_life)
                    for e in self.events
                    if self.weight(e) and e.item_id == item_id
                )
                for half_life in self.p.popularity_half_lives
            ]
            rows[item_id] = {
                "title": item.title if item else "",
                "categories": list(item.categories) if item else [],
                "price": item.price if item else None,
                "created_at": item.created_at if item else None,
                "age_days": max((self.p.as_of - born) / DAY, 0.0) if born else None,
                "attr_keys": sorted(self.keys(item_id)),
                "numeric_keys": [name for name, _ in numerics],
                "numeric_values": [value for _, value in numerics],
                "impressions": float(shown[item_id]),
                "clicks": float(clicked[item_id]),
                "purchases": float(sum(self.buys(event, item_id) for event in self.events)),
                "ctr": self.ctr(item_id),
                "ctr_debiased": (clicked[item_id] + 10) / (expected.get(item_id, 0.0) + 10),
                "popularity_short": popularity[0],
                "popularity_mid": popularity[1],
                "popularity_long": popularity[2],
                "vector": self.vector(item_id),
            }
        return rows

    # user_profile and segment_profile

    def clicks_by_key(self, events: Sequence[Event]) -> dict[str, float]:
        clicks: dict[str, float] = defaultdict(float)
        for event in events:
            if self.weight(event):
                for key in self.keys(str(event.item_id)):
                    clicks[key] += self.weight(event) * self.faded(event, self.p.affinity_half_life)
        return clicks

    def preferences(self, events: Sequence[Event]) -> Row:
        half_life = self.p.affinity_half_life
        clicks = self.clicks_by_key(events)
        expected: dict[str, float] = defaultdict(float)
        all_clicks = sum(self.weight(e) * self.faded(e, half_life) for e in events)
        all_expected = 0.0
        slots = [(s.item_id, e) for e in events if e.event_type == "impression" for s in e.items]
        for item_id, event in slots:
            amount = self.ctr(item_id) * self.faded(event, half_life)
            all_expected += amount
            for key in self.keys(item_id):
                expected[key] += amount
        if not slots:
            everybody = self.clicks_by_key([e for e in self.events if self.consents(e)])
            for key in clicks:
                kind = key.split(":")[0] + ":"
                whole = sum(v for k, v in everybody.items() if k.startswith(kind))
                mine = sum(v for k, v in clicks.items() if k.startswith(kind))
                expected[key] = everybody[key] / whole * mine if whole else 0.0
        met = sorted({*clicks, *expected})
        kept = []
        for kind in {key.split(":")[0] for key in met}:
            values = [key for key in met if key.startswith(f"{kind}:")]
            values.sort(key=lambda k: (-strength(clicks[k] + expected[k]), k))
            kept += values[: self.p.affinity_top_k]
        kept.sort()
        liked = {k.removeprefix("category:"): v for k, v in clicks.items() if k.startswith("category:") and v}
        order = sorted(liked, key=lambda c: (-strength(liked[c]), c))[: self.p.affinity_top_k]
        return {
            "attr_keys": kept,
            "attr_clicks": [clicks[k] for k in kept],
            "attr_expected": [expected[k] for k in kept],
            "click_rate": (all_clicks + 5) / (all_expected + 5) if slots else 1.0,
            "categories": order,
            "category_shares": [liked[c] / sum(liked.values()) for c in order],
        }

    def segment(self, user_id: str, categories: Sequence[str]) -> str:
        record = self.users.get(user_id)
        value = record.attributes.get(self.p.segment_attribute) if record else None
        if isinstance(value, list):
            value = value[0] if value else None
        if isinstance(value, float | int):
            value = f"{value:g}"
        value = unicodedata.normalize("NFC", value or "")
        return value or (f"likes:{categories[0]}" if categories else "all")

    def user_profile(self) -> dict[str, Row]:
        own: dict[str, list[Event]] = defaultdict(list)
        for user in self.users.values():
            if user.consent or (user.consent is None and self.p.consent_default):
                own[user.user_id] = []
        for event in self.events:
            if event.user_id is not None and self.consents(event):
                own[event.user_id].append(event)
        return {user_id: self._user(user_id, events) for user_id, events in own.items()}

    def _user(self, user_id: str, events: Sequence[Event]) -> Row:
        row = self.preferences(events)
        engaged = {str(e.item_id) for e in events if self.weight(e)}
        numerics: dict[str, list[float]] = defaultdict(list)
        for item_id in engaged & set(self.facts):
            for name, value in self.facts[item_id].numerics.items():
                numerics[name].append(value)
        prices = numerics.get("price")
        low, high = (np.quantile(prices, q) if prices else None for q in (0.25, 0.75))
        last = max((e.event_time for e in events), default=None)
        counts = {
            f"{kind}_count_{days}d": sum(
                e.event_type == kind and e.event_time >= self.p.as_of - days * DAY for e in events
            )
            for kind in ("impression", "view", "click", "like", "add_to_cart", "purchase")
            for days in (1, 7, 30, 90)
        }
        bought: dict[str, datetime] = {}
        for event in events:
            if event.event_type == "purchase" and event.item_id is not None:
                bought[event.item_id] = max(event.event_time, bought.get(event.item_id, event.event_time))
        return {
            "segment": self.segment(user_id, row["categories"]),
            **row,
            "numeric_keys": sorted(numerics),
            "numeric_medians": [median(numerics[name]) for name in sorted(numerics)],
            "price_low": low,
            "price_median": median(prices) if prices else None,
            "price_high": high,
            **counts,
            "purchased_items": sorted(bought, key=lambda i: (-bought[i].timestamp(), i))[:50],
            "recency_days": (self.p.as_of - last) / DAY if last else None,
            "last_event_time": last,
        }

    def segment_profile(self) -> dict[str, Row]:
        segments = {user_id: row["segment"] for user_id, row in self.user_profile().items()}
        rows = {}
        for segment in {*segments.values(), "all"}:
            users = {u for u, s in segments.items() if segment in (s, "all")}
            events = [e for e in self.events if self.consents(e) and (segment == "all" or e.user_id in users)]
            strong: dict[str, float] = defaultdict(float)
            for event in events:
                if self.weight(event):
                    amount = self.weight(event) * self.faded(event, self.p.affinity_half_life)
                    strong[str(event.item_id)] += amount
            prices = [self.items[i].price for i in strong if i in self.items]
            known = [price for price in prices if price is not None]
            rows[segment] = {
                "user_count": len(users),
                **self.preferences(events),
                "top_items": sorted(strong, key=lambda i: (-strength(strong[i]), i))[:100],
                "price_median": median(known) if known else None,
            }
        return rows

    # item_neighbours

    def steps(self) -> dict[str, dict[str, int]]:
        """How often each item was engaged with next after each other, within a session."""
        last: dict[str, datetime] = {}
        walks: dict[str, list[tuple[datetime, set[str]]]] = {}
        ended: list[list[tuple[datetime, set[str]]]] = []
        for event in sorted(self.events, key=lambda e: e.event_time):
            if not self.consents(event):
                continue
            name = event.session_id
            if name not in last or event.event_time - last[name] > self.p.session_gap:
                walks[name] = []
                ended.append(walks[name])
            last[name] = event.event_time
            if self.weight(event):
                if not walks[name] or walks[name][-1][0] != event.event_time:
                    walks[name].append((event.event_time, set()))
                walks[name][-1][1].add(str(event.item_id))
        found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for walk in ended:
            for (_, here), (_, then) in pairwise(walk):
                for item in then - {max(here)}:
                    found[max(here)][item] += 1
        return found

    def sessions(self) -> list[list[str]]:
        last: dict[str, datetime] = {}
        running: dict[str, dict[str, datetime]] = {}
        done: list[dict[str, datetime]] = []
        for event in sorted(self.events, key=lambda e: e.event_time):
            if not self.consents(event):
                continue
            name = event.session_id
            if name not in last or event.event_time - last[name] > self.p.session_gap:
                running[name] = {}
                done.append(running[name])
            last[name] = event.event_time
            if self.weight(event):
                running[name][str(event.item_id)] = event.event_time
        return [sorted(items, key=lambda i, s=items: (s[i], i))[-50:] for items in done]

    def item_neighbours(self) -> dict[str, Row]:
        sessions, steps = self.sessions(), self.steps()
        rows = {}
        for item_id in {item for session in sessions for item in session}:
            mine = [session for session in sessions if item_id in session]
            counts: dict[str, int] = defaultdict(int)
            for session in mine:
                for other in session:
                    counts[other] += other != item_id
            others = sorted((o for o in counts if counts[o]), key=lambda o: (-counts[o], o))
            others = others[: self.p.neighbours_top_k]
            rows[item_id] = {
                "neighbour_ids": others,
                "neighbour_counts": [float(counts[o]) for o in others],
                "session_count": len(mine),
            }
            then = steps.get(item_id, {})
            most = sorted(then, key=lambda o: (-then[o], o))[: self.p.neighbours_top_k]
            rows[item_id] |= {
                "next_ids": most,
                "next_counts": [float(then[o]) for o in most],
                "next_total": sum(then.values()),
            }
        return rows


def differences(wanted: Any, got: Any, where: str = "", tolerance: float = 1e-9) -> list[str]:
    """List the differences of two values, with a relative tolerance for numbers; empty if they agree."""
    if isinstance(wanted, Mapping) and isinstance(got, Mapping):
        if set(wanted) != set(got):
            return [f"{where}: only in one: {sorted(set(wanted) ^ set(got))[:5]}"]
        return [d for k in wanted for d in differences(wanted[k], got[k], f"{where}.{k}", tolerance)]
    if isinstance(wanted, list | tuple) and isinstance(got, list | tuple):
        if len(wanted) != len(got):
            return [f"{where}: {wanted} != {got}"]
        pairs = enumerate(zip(wanted, got, strict=True))
        return [d for n, (a, b) in pairs for d in differences(a, b, f"{where}[{n}]", tolerance)]
    if isinstance(wanted, float) and isinstance(got, float | int):
        near = math.isclose(wanted, got, rel_tol=tolerance, abs_tol=tolerance)
        return [] if near else [f"{where}: {wanted!r} != {got!r}"]
    return [] if wanted == got else [f"{where}: {wanted!r} != {got!r}"]
