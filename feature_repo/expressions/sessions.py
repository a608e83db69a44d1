"""Sessions by the gap rule, and pairs of items touched in the same session."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from feature_repo.expressions.events import engagements
from feature_repo.group import SESSION_ITEMS, BatchParams


def engaged_in_runs(events: ir.Table, params: BatchParams) -> ir.Table:
    """Return `session_id`, `run`, `event_time`, `item_id` of every permitted engagement.

    A session id that is quiet for longer than the gap starts another run. Only ids that span more than the
    gap can do so, so only those are sorted.
    """
    seen = events.filter(events.permitted)
    spans = seen.group_by("session_id").agg(first=seen.event_time.min(), last=seen.event_time.max())
    gap_us = int(params.session_gap.total_seconds() * 1_000_000)
    spans = spans.filter(spans["last"].delta(spans["first"], unit="microsecond") > gap_us)
    wide = spans.select(_wide="session_id")
    narrow = seen.anti_join(wide, seen.session_id == wide._wide)
    columns = ("session_id", "event_time", "item_id", "weight")
    events = ibis.union(
        narrow.select(*columns, run=ibis.literal(0, "int64")),
        _runs(seen.semi_join(wide, seen.session_id == wide._wide).select(*columns), gap_us),
    )
    return engagements(events).select("session_id", "run", "event_time", "item_id")


def session_items(engaged: ir.Table) -> ir.Table:
    """Return `session_id`, `run`, `item_id`: the last few distinct items of each run of `engaged_in_runs`."""
    items = engaged.group_by("session_id", "run", "item_id").agg(last=engaged.event_time.max())
    newest = [items["last"].desc(), items.item_id.desc()]
    place = ibis.row_number().over(group_by=["session_id", "run"], order_by=newest)
    items = items.mutate(place=place)
    return items.filter(items.place < SESSION_ITEMS).select("session_id", "run", "item_id")


def _runs(events: ir.Table, gap_us: int) -> ir.Table:
    before = events.event_time.lag().over(group_by="session_id", order_by="event_time")
    events = events.mutate(_quiet=events.event_time.delta(before, unit="microsecond"))
    starts = (events._quiet > gap_us).fill_null(False).cast("int64")
    run = starts.sum().over(ibis.cumulative_window(group_by="session_id", order_by="event_time"))
    return events.mutate(run=run).drop("_quiet")


def steps(engaged: ir.Table) -> ir.Table:
    """Return `item_id`, `other`, `times`: how often the next engagement of a run was with another item.

    Of engagements at one moment each follows the one before that moment; the largest id goes on.
    """
    each = engaged.distinct()
    moments = each.group_by("session_id", "run", "event_time").agg(newest=each.item_id.max())
    window = ibis.window(group_by=["session_id", "run"], order_by="event_time")
    moments = moments.mutate(before=moments.newest.lag().over(window))
    moments = moments.select(_session="session_id", _run="run", _time="event_time", before="before")
    same = [each.session_id == moments._session, each.run == moments._run, each.event_time == moments._time]
    taken = each.join(moments, same)
    taken = taken.filter(taken.before.notnull(), taken.before != taken.item_id)
    return taken.group_by(item_id=taken.before, other=taken.item_id).agg(times=taken.count())


def strongest(pairs: ir.Table, count: str, top_k: int) -> ir.Table:
    """Return `_item` and `found`: the `top_k` others with the largest count, largest first, ties by id."""
    order = [pairs[count].desc(), pairs.other.asc()]
    ranked = pairs.mutate(rank=ibis.row_number().over(group_by="item_id", order_by=order))
    ranked = ranked.filter(ranked["rank"] < top_k)
    one = ibis.struct({"rank": ranked["rank"], "other": ranked.other, "count": ranked[count]})
    lists = ranked.group_by("item_id").agg(found=one.collect())
    return lists.select(_item="item_id", found=lists.found.sort())


def pairs(items: ir.Table) -> ir.Table:
    """Return `item_id`, `other`, `sessions` for every two items of a session, in both directions."""
    left = items.rename(one="item_id")
    right = items.rename(two="item_id", _session="session_id", _run="run")
    both = left.join(right, [left.session_id == right._session, left.run == right._run, left.one < right.two])
    counted = both.group_by("one", "two").agg(sessions=both.count())
    return ibis.union(
        counted.select(item_id="one", other="two", sessions="sessions"),
        counted.select(item_id="two", other="one", sessions="sessions"),
    )
