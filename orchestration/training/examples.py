"""One row per slot shown, with its outcome: the SQL of examples and labels."""

from datetime import timedelta

from feature_repo.clock_skew import TOLERANCE
from feature_repo.offline.point_in_time import text
from orchestration.training.spec import LABELS

EXAMPLE_COLUMNS = (
    "request_id",
    "position",
    "decision_time",
    "user_id",
    "session_id",
    "item_id",
    "score",
    *LABELS,
    "label_time",
)


def shown_sql(events: str) -> str:
    """Return SQL for the slots of the impressions in a table of events.

    An item shown twice in a list counts at its first position. An impression without a request id is a
    separate decision, named by its event. If a request has several impressions (further pages, or a repeat),
    the first is the decision: its time, user and session apply to the request, so no feature is newer than
    the decision and the request is in one split. Items of the other impressions follow those of the first.
    """
    shown = (
        f"SELECT *, coalesce(request_id, event_id) AS request FROM {events} WHERE event_type = 'impression'"
    )
    first = "OVER (PARTITION BY request ORDER BY event_time, event_id)"
    before = f"{first[:-1]} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    return (
        "SELECT request_id, min(position) AS position, any_value(decision_time) AS decision_time, "
        "any_value(user_id) AS user_id, any_value(session_id) AS session_id, item_id, "
        "arg_min(score, position) AS score FROM ("
        "SELECT request AS request_id, decision_time, user_id, session_id, unnest(items).item_id AS item_id, "
        "unnest(items).score AS score, unnest(range(len(items))) + offset_ AS position FROM ("
        f"SELECT request, items, first_value(event_time) {first} AS decision_time, "
        f"first_value(user_id) {first} AS user_id, first_value(session_id) {first} AS session_id, "
        f"coalesce(sum(len(items)) {before}, 0)::BIGINT AS offset_ FROM ({shown}))"
        ") GROUP BY request_id, item_id"
    )


def examples_sql(shown: str, events: str, attribution: timedelta, tolerance: timedelta = TOLERANCE) -> str:
    """Return SQL for labelled slots: whether each kind of event followed in the window, and the first's time.

    An event that names a request belongs to it, even if its clock is behind by up to the tolerance; it then
    counts at the moment the list was shown. An event without one belongs to the session's last showing of the
    item before it, so the earlier of two showings gets no credit for events after the later.

    Args:
        shown: table of `shown_sql`.
        events: table of creditable events.
        tolerance: maximum error of clients' clocks.
    """
    window = f"to_microseconds({attribution // timedelta(microseconds=1)})"
    skew = f"to_microseconds({tolerance // timedelta(microseconds=1)})"
    kinds = ", ".join(text(kind) for kind in LABELS.values())
    candidates = (
        f"SELECT event_type, event_time, request_id, session_id, item_id FROM {events} "
        f"WHERE event_type IN ({kinds}) AND item_id IS NOT NULL"
    )
    named = (
        "SELECT s.request_id, s.item_id, c.event_type, greatest(c.event_time, s.decision_time) AS event_time "
        f"FROM ({candidates}) c "
        f"JOIN {shown} s ON c.request_id = s.request_id AND c.item_id = s.item_id "
        f"WHERE c.event_time >= s.decision_time - {skew} AND c.event_time < s.decision_time + {window}"
    )
    unnamed = (
        f"SELECT s.request_id, s.item_id, c.event_type, c.event_time "
        f"FROM (SELECT * FROM ({candidates}) WHERE request_id IS NULL) c "
        f"ASOF JOIN {shown} s ON c.session_id = s.session_id AND c.item_id = s.item_id "
        f"AND c.event_time >= s.decision_time WHERE c.event_time < s.decision_time + {window}"
    )
    flags = ", ".join(
        f"coalesce(bool_or(event_type = {text(kind)}), false) AS {label}" for label, kind in LABELS.items()
    )
    credited = (
        f"SELECT request_id, item_id, {flags}, min(event_time) AS label_time "
        f"FROM ({named} UNION ALL {unnamed}) GROUP BY request_id, item_id"
    )
    labels = ", ".join(f"coalesce(l.{label}, false) AS {label}" for label in LABELS)
    return (
        f"SELECT s.*, {labels}, l.label_time FROM {shown} s "
        f"LEFT JOIN ({credited}) l ON s.request_id = l.request_id AND s.item_id = l.item_id"
    )
