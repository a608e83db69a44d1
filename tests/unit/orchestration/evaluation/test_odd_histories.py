"""Histories that went wrong: a simple rule serves, and the reason says why."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from msgspec import structs

from feature_repo.contract.validation import Event
from feature_repo.settings import Settings
from orchestration.evaluation.fit_blend import MOST_OF_SESSION, gated_blend
from orchestration.evaluation.history import History
from orchestration.evaluation.history_replay import Replay, Replayed
from orchestration.evaluation.ranking_tasks import PopularCandidates, find_tasks
from orchestration.evaluation.session_features import ReplaySessions
from tests.conftest import NOW
from tests.support.history_data import tasteful

LISTS = 400


def replayed(past: History) -> Replayed:
    settings = Settings()
    tasks = find_tasks(past, PopularCandidates(100, timedelta(hours=1)))
    return Replay(past, ReplaySessions(past, settings), settings).run(tasks)


def changed(change: Callable[[Event], Event]) -> History:
    """A history of tastes, each event changed; sorted by time, as a history is read."""
    past = tasteful(LISTS)
    events = sorted(map(change, past.events), key=lambda event: event.event_time)
    return replace(past, events=tuple(events))


def test_one_session_teaches_nothing() -> None:
    past = changed(lambda event: structs.replace(event, session_id="s", user_id=None))
    blend = gated_blend(replayed(past), NOW)
    assert blend.kind == "base"
    assert f"{MOST_OF_SESSION} lists with an engagement; a fit needs 300" in blend.gate.reason


def test_lists_of_one_item_are_no_lists() -> None:
    past = changed(lambda event: structs.replace(event, items=event.items[:1]))
    blend = gated_blend(replayed(past), NOW)
    assert (blend.kind, blend.gate.reason[:32]) == ("base", "0 lists with an engagement; a fi")


def test_clicks_that_name_no_list_are_not_its_clicks() -> None:
    def lost(event: Event) -> Event:
        clicked = event.event_type != "impression"
        return structs.replace(event, request_id="gone", session_id="other") if clicked else event

    assert gated_blend(replayed(changed(lost)), NOW).gate.reason.startswith("0 lists with an engagement")


def test_where_everybody_clicks_the_first_place_the_base_order_serves() -> None:
    first: dict[str | None, str] = {}

    def clicks_first(event: Event) -> Event:
        if event.event_type == "impression":
            first[event.request_id] = event.items[0].item_id
            return event
        return structs.replace(event, item_id=first[event.request_id])

    blend = gated_blend(replayed(changed(clicks_first)), NOW)
    assert blend.kind == "base"
    assert "not above zero, base serves" in blend.gate.reason


@pytest.mark.parametrize("seed", range(3))
def test_prices_of_several_currencies_or_zero_give_finite_weights(seed: int) -> None:
    draw = random.Random(seed)
    past = tasteful(LISTS)
    prices = [0.0, 1e-9, 12.5, 1_250.0, 1e12, None]
    catalogue = {}
    for item_id, facts in past.catalogue.items():
        price = draw.choice(prices)
        numerics = {**facts.numerics, "price": price} if price is not None else dict(facts.numerics)
        catalogue[item_id] = replace(facts, price=price, numerics=numerics)
    blend = gated_blend(replayed(replace(past, catalogue=catalogue)), NOW)
    assert np.isfinite(blend.weights).all()
    assert np.isfinite(blend.scales).all()
    assert blend.gate.lists_held_out == 160


def test_a_clock_that_jumps_moves_lists_but_loses_none() -> None:
    """Half a day ahead, back again, and a year into the past for some."""

    def jumped(event: Event) -> Event:
        place = int(event.event_time.timestamp()) // 5_000 % 4
        jump = (timedelta(0), timedelta(hours=12), timedelta(0), timedelta(days=-365))[place]
        return structs.replace(event, event_time=event.event_time + jump)

    lists = replayed(changed(jumped))
    assert len(lists) == LISTS
    assert list(lists.times) == sorted(lists.times)
    assert gated_blend(lists, NOW).gate.reason
