"""What is evaluated is what serves: signals of a replay equal those of a snapshot of the batch builds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from feature_repo.group import BatchParams
from feature_repo.settings import Settings
from orchestration.evaluation.history_replay import Replay
from orchestration.evaluation.ranking_tasks import PopularCandidates, find_tasks
from orchestration.evaluation.session_features import ReplaySessions
from serving.items.item_snapshot import snapshot_of
from serving.scoring.base_order import base_scores
from serving.scoring.signal_matrix import Known, signals, touched_items
from tests.support.batch import build_all, rows_of
from tests.support.history_data import shop_items, tasteful

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("number", [3, 30, 59])
def test_replayed_signals_equal_served_ones(number: int, settings: Settings) -> None:
    past = tasteful(60, users=6, session_lists=60)
    task = find_tasks(past, PopularCandidates(100, timedelta(hours=1)))[number]
    lists = Replay(past, ReplaySessions(past, settings), settings).run([task])

    params = BatchParams.of(settings, task.time)
    built = build_all(past.events, shop_items(40), [], params)
    snapshot = snapshot_of(built["item_profile"], built["item_neighbours"], "v", task.time)
    users, segments = rows_of(built["user_profile"], "user_id"), rows_of(built["segment_profile"], "segment")
    user = users.get(task.user_id or "")
    segment = segments["all" if user is None else user["segment"]]
    sessions = ReplaySessions(past, settings)
    sessions.add([e for e in past.events if e.event_time < task.time])
    session = sessions.row(task.session_id, task.time)
    rows = snapshot.rows(snapshot.numbers(task.item_ids), touched_items(session))
    now_ms = (task.time - EPOCH) // timedelta(milliseconds=1)
    served = signals(base_scores(task.scores), rows, Known(user, segment, session), now_ms)

    assert served.names == lists.names
    assert number < 30 or (user is not None and session is not None and session["item_ids"])
    np.testing.assert_allclose(lists.values, served.values, rtol=1e-5, atol=1e-5, equal_nan=True)
    assert np.isfinite(served.values[:, served.names.index("log_ctr")]).all()
