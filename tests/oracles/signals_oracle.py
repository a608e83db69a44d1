"""The signals by definition: one item and one attribute value at a time, in plain Python."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.ranking_data import NOW_MS

Row = Mapping[str, Any]
NAN = math.nan


def signed_log(value: float) -> float:
    return math.copysign(math.log(1 + abs(value)), value)


class Shop:
    """Rows of `item_profile` and pairs of `item_neighbours`, read one at a time."""

    def __init__(
        self,
        items: Sequence[Row],
        pairs: Mapping[str, Mapping[str, float]],
        sessions: Mapping[str, int],
        steps: Mapping[str, Mapping[str, float]],
    ) -> None:
        self.items = {row["item_id"]: row for row in items}
        self.pairs = pairs
        self.sessions = sessions
        self.steps = steps
        self.values = [key for row in items for key in row["attr_keys"]]
        self.types = sorted({key.split(":")[0] for key in self.values})
        self.numerics = sorted({name for row in items for name in row["numeric_keys"]})

    def of_type(self, item_id: str, kind: str) -> list[str]:
        return [key for key in self.items[item_id]["attr_keys"] if key.split(":")[0] == kind]

    def chance(self, key: str) -> float:
        """Return the share of a value among the occurrences of its type."""
        kind = key.split(":", maxsplit=1)[0]
        return self.values.count(key) / sum(1 for v in self.values if v.split(":")[0] == kind)

    def share(self, item_id: str) -> float:
        total = sum(row["popularity_long"] for row in self.items.values()) + len(self.items)
        return float((self.items[item_id]["popularity_long"] + 1) / total)

    def number(self, item_id: str, name: str) -> float:
        row = self.items[item_id]
        found = dict(zip(row["numeric_keys"], row["numeric_values"], strict=True))
        return signed_log(found[name]) if name in found else NAN

    def log_odds(self, item_id: str, kind: str, profile: Row | None) -> float:
        if profile is None or not profile["attr_keys"]:
            return NAN
        clicks = dict(zip(profile["attr_keys"], profile["attr_clicks"], strict=True))
        expected = dict(zip(profile["attr_keys"], profile["attr_expected"], strict=True))
        return sum(
            math.log((clicks[key] + 1) / (expected[key] * profile["click_rate"] + 1))
            for key in self.of_type(item_id, kind)
            if key in clicks
        )

    def distance(self, item_id: str, name: str, profile: Row | None) -> float:
        if profile is None or name not in profile["numeric_keys"]:
            return NAN
        median = dict(zip(profile["numeric_keys"], profile["numeric_medians"], strict=True))[name]
        return abs(self.number(item_id, name) - signed_log(median))

    def affinity(self, item_id: str, kind: str, session: Row | None) -> float:
        if session is None or not session["attr_keys"]:
            return NAN
        weights = dict(zip(session["attr_keys"], session["attr_weights"], strict=True))
        known = {key for key in weights if key in self.values}
        total = sum(weights[key] for key in known if key.split(":")[0] == kind)
        found = sum(
            math.log((weights.get(key, 0.0) + 1) / (total * self.chance(key) + 1))
            for key in self.of_type(item_id, kind)
        )
        touched = len(session["item_ids"])
        return found * touched / (touched + 1)

    def covisit(self, item_id: str, session: Row | None) -> float:
        if session is None or not session["item_ids"]:
            return NAN
        share, lifts, weights = self.share(item_id), 0.0, 0.0
        for last, at in list(zip(session["item_ids"], session["item_times_ms"], strict=True))[:5]:
            together = self.pairs.get(last, {}).get(item_id, 0.0) if last in self.items else 0.0
            seen = self.sessions.get(last, 0) if last in self.items and last in self.pairs else 0
            weight = 0.5 ** (max(NOW_MS - at, 0) / 1000 / 7200)
            lifts += weight * math.log((together + 3 * share) / ((seen + 3) * share))
            weights += weight
        touched = len(session["item_ids"])
        return lifts / weights * touched / (touched + 1)

    def touched(self, item_id: str, session: Row | None) -> tuple[float, float]:
        if session is None or item_id not in session["item_ids"]:
            return 0.0, 0.0
        at = session["item_times_ms"][session["item_ids"].index(item_id)]
        return 1.0, 0.5 ** (max(NOW_MS - at, 0) / 1000 / 600)

    def recent(self, item_id: str, session: Row | None, most: int) -> float:
        """Mean of log((c + 3p) / (n + 3)) over the last touched items."""
        if session is None or not session["item_ids"]:
            return NAN
        found = []
        for last in session["item_ids"][:most]:
            known = last in self.items
            together = self.pairs.get(last, {}).get(item_id, 0.0) if known else 0.0
            seen = self.sessions.get(last, 0) if known and last in self.pairs else 0
            found.append(math.log((together + 3 * self.share(item_id)) / (seen + 3)))
        return sum(found) / len(found)

    def following(self, item_id: str, session: Row | None, most: int) -> float:
        """Mean of log((c + 3p) / (n + 3)) of steps from the last touched items."""
        if session is None or not session["item_ids"]:
            return NAN
        found = []
        for last in session["item_ids"][:most]:
            then = self.steps.get(last, {}) if last in self.items and last in self.pairs else {}
            chance = (then.get(item_id, 0.0) + 3 * self.share(item_id)) / (int(sum(then.values())) + 3)
            found.append(math.log(chance))
        return sum(found) / len(found)

    def likeness(self, item_id: str, session: Row | None, most: int) -> float:
        """Mean cosine of attribute values, each weighing −log(chance), over the last touched items."""
        if session is None or not session["item_ids"]:
            return NAN
        last = session["item_ids"][:most]
        return sum(self.cosine(item_id, other) for other in last) / len(last)

    def cosine(self, one: str, other: str) -> float:
        if other not in self.items:
            return 0.0
        keys, others = (self.items[name]["attr_keys"] for name in (one, other))
        both, own, its = (
            sum(math.log(self.chance(key)) ** 2 for key in chosen)
            for chosen in ([key for key in keys if key in others], keys, others)
        )
        return both / max(math.sqrt(own) * math.sqrt(its), 1e-9)

    def in_list(self, item_id: str, candidates: Sequence[str], session: Row | None) -> dict[str, float]:
        """What the place in the list says, beside the items of the list that the session touched."""
        touched = [i for i in (session or {}).get("item_ids", ()) if i in candidates and i in self.items]
        newest = (session or {}).get("item_ids", ())[:1]
        place, steps = candidates.index(item_id), 0
        if newest and newest[0] in touched:
            steps = place - candidates.index(newest[0])
        rank = list((session or {}).get("item_ids", ())).index(item_id) if item_id in touched else None
        return {
            "touch_rank": 0.0 if rank is None else 1 / (1 + rank),
            "last_touched": float(rank == 0),
            "below_last": 1 / steps if steps > 0 else 0.0,
            "above_last": -1 / steps if steps < 0 else 0.0,
            "position_untouched": 0.0 if touched else -math.log2(place + 2),
        }

    def signals(
        self,
        item_id: str,
        candidates: Sequence[str],
        user: Row | None,
        segment: Row | None,
        session: Row | None,
    ) -> dict[str, float]:
        """Every signal of an item but those of the base order."""
        row = self.items[item_id]
        last = (session or {}).get("item_ids", ())[:1]
        found = {
            "log_ctr": math.log(max(row["ctr"], 1e-4)),
            "log_clicks": math.log(1 + row["clicks"]),
            "log_debiased": math.log(max(row["ctr_debiased"], 1e-4)),
            "log_age": math.log(1 + row["age_days"]),
            "log_purchases": math.log(1 + row["purchases"]),
            "covisit": self.covisit(item_id, session),
            "covisit_last": self.recent(item_id, session, 1),
            "covisit_recent": self.recent(item_id, session, 3),
            "next_last": self.following(item_id, session, 1),
            "next_recent": self.following(item_id, session, 3),
            "content_last": self.likeness(item_id, session, 1),
            "content_recent": self.likeness(item_id, session, 3),
            **self.in_list(item_id, candidates, session),
        }
        found["touched"], found["touched_recently"] = self.touched(item_id, session)
        for span in ("short", "mid", "long"):
            found[f"popularity:{span}"] = math.log(1 + row[f"popularity_{span}"])
        for name in self.numerics:
            number = self.number(item_id, name)
            known = last and last[0] in self.items
            found[f"numeric:{name}"] = number
            found[f"distance:{name}"] = self.distance(item_id, name, user)
            found[f"distance_last:{name}"] = abs(number - self.number(last[0], name)) if known else NAN
        for kind in self.types:
            found[f"log_odds:{kind}"] = self.log_odds(item_id, kind, user)
            found[f"segment_log_odds:{kind}"] = self.log_odds(item_id, kind, segment)
            found[f"session_affinity:{kind}"] = self.affinity(item_id, kind, session)
        return found
