# ruff: noqa: E501 - SQL reads better in long lines
"""Hand-written DuckDB SQL for the four batch groups: the baseline of `batch_build`.

It gives the same results as the Ibis expressions on simulated data, and uses features that only DuckDB has:
ordered lists, `arg_max`, `epoch_us`, and temporary tables shared between groups.
"""

from __future__ import annotations

from collections.abc import Sequence

from feature_repo.group import BatchParams
from feature_repo.groups.user_profile import COUNTED, WINDOWS_DAYS


def statements(files: Sequence[str], items: str, users: str, params: BatchParams) -> dict[str, list[str]]:
    """SQL by group, in the order to run; the last statement of each is the answer."""
    as_of = f"TIMESTAMPTZ '{params.as_of.isoformat()}'"
    fade = f"exp((epoch_us({as_of}) - epoch_us(event_time)) * {-_rate(params.affinity_half_life)})"
    weight = (
        "CASE event_type "
        + " ".join(f"WHEN '{kind}' THEN {w}" for kind, w in params.weights.items() if w > 0)
        + " ELSE 0.0 END"
    )
    weighed = f"({weight}) * (item_id IS NOT NULL)::INT AS w"
    lake = f"read_parquet({list(files)!r})"
    plain = f"SELECT *, {weighed} FROM {lake} WHERE event_time < {as_of}"
    events = (
        f"SELECT e.*, {weighed}, u.consent IS DISTINCT FROM false AND coalesce(e.consent, u.consent, true) AS ok "
        f"FROM {lake} e LEFT JOIN (SELECT user_id AS uid, consent FROM '{users}') u "
        f"ON e.user_id = uid WHERE event_time < {as_of}"
    )
    return {
        "item_neighbours": _neighbours(events, params),
        "item_profile": _items(plain, items, as_of, params),
        "user_profile": _users(events, items, as_of, fade, params),
        "segment_profile": _segments(events, items, fade, params),
    }


def _rate(half_life: object) -> float:
    import math
    from datetime import timedelta

    assert isinstance(half_life, timedelta)
    return math.log(2) / (half_life / timedelta(microseconds=1))


def _keys(items: str) -> str:
    return (
        f"CREATE OR REPLACE TEMP TABLE keys AS SELECT item_id, unnest(_facts.attr_keys) AS k FROM '{items}'"
    )


def _numbers(items: str) -> str:
    return (
        'SELECT item_id, n.name AS name, n."value" AS v '
        f"FROM (SELECT item_id, unnest(_facts.numerics) AS n FROM '{items}')"
    )


def _touched(events: str, by: str, fade: str) -> str:
    return (
        f"CREATE OR REPLACE TEMP TABLE touched AS SELECT who, ok, item_id, sum(c) AS c, sum(n) AS n, "
        "sum(s) AS s, sum(m) AS m FROM ("
        f"SELECT {by} AS who, ok, item_id, w * {fade} AS c, 1 AS n, 0.0 AS s, 0 AS m FROM ev WHERE w > 0 UNION ALL "
        f"SELECT who, ok, i.item_id, 0.0, 0, f, 1 FROM (SELECT {by} AS who, ok, unnest(items) AS i, {fade} AS f FROM ev "
        "WHERE event_type = 'impression')) GROUP BY ALL"
    ).replace("FROM ev", f"FROM ({events}) ev")


_CTR = (
    "CREATE OR REPLACE TEMP TABLE ctr AS WITH r AS (SELECT item_id, sum(m) AS i, sum(n) AS c FROM touched "
    "GROUP BY ALL), g AS (SELECT coalesce(sum(c) / sum(i), 0.1) AS g FROM r WHERE i > 0) "
    "SELECT item_id, CASE WHEN i > 0 THEN (c + 10 * g) / (i + 10) ELSE g END AS ctr FROM r, g"
)

_PREFERENCES = """
attrs AS (SELECT who, k, split_part(k, ':', 1) AS kind, sum(c) AS c, sum(x) AS x
    FROM own JOIN keys USING (item_id) GROUP BY ALL),
kept AS (SELECT * FROM attrs
    QUALIFY row_number() OVER (PARTITION BY who, kind ORDER BY round(ln(greatest(c + x, 1e-300)), 9) DESC, k)
        <= {top}),
lists AS (SELECT who, list(k ORDER BY k) AS attr_keys, list(c ORDER BY k) AS attr_clicks,
    list(x ORDER BY k) AS attr_expected FROM kept GROUP BY who),
cats AS (SELECT who, list(k[10:] ORDER BY o DESC, k)[:{top}] AS categories,
    list(c / t ORDER BY o DESC, k)[:{top}] AS category_shares FROM
    (SELECT who, k, c, round(ln(greatest(c, 1e-300)), 9) AS o, sum(c) OVER (PARTITION BY who) AS t
     FROM attrs WHERE kind = 'category' AND c > 0) GROUP BY who),
total AS (SELECT who, (sum(c) + 5) / (sum(x) + 5) AS click_rate FROM own GROUP BY who)
"""


def _users(events: str, items: str, as_of: str, fade: str, params: BatchParams) -> list[str]:
    counts = ", ".join(
        f"count(*) FILTER (event_type = '{kind}' AND event_time >= {as_of} - INTERVAL {days} DAY) "
        f"AS {kind}_count_{days}d"
        for kind in COUNTED
        for days in WINDOWS_DAYS
    )
    preferences = _PREFERENCES.format(top=params.affinity_top_k)
    return [
        _keys(items),
        _touched(events, "CASE WHEN ok THEN user_id END", fade),
        _CTR,
        "WITH own AS (SELECT *, s * ctr AS x FROM touched JOIN ctr USING (item_id) WHERE who IS NOT NULL), "
        f"{preferences}, taste AS (SELECT who, list(name ORDER BY name) AS numeric_keys, "
        "list(q[2] ORDER BY name) AS numeric_medians, max(q) FILTER (name = 'price') AS price FROM "
        "(SELECT who, name, quantile_cont(v, [0.25, 0.5, 0.75]) AS q FROM own JOIN "
        f"({_numbers(items)}) USING (item_id) WHERE n > 0 GROUP BY ALL) GROUP BY who), "
        f"act AS (SELECT user_id AS who, max(event_time) AS last, {counts} FROM ({events}) "
        "WHERE ok AND user_id IS NOT NULL GROUP BY ALL) "
        "SELECT * FROM act LEFT JOIN total USING (who) LEFT JOIN lists USING (who) LEFT JOIN cats USING (who) "
        "LEFT JOIN taste USING (who)",
    ]


def _segments(events: str, items: str, fade: str, params: BatchParams) -> list[str]:
    preferences = _PREFERENCES.format(top=params.affinity_top_k)
    mapped = f"SELECT e.*, segment FROM ({events}) e LEFT JOIN segments USING (user_id)"
    return [
        _keys(items),
        _touched(mapped, "CASE WHEN ok THEN segment END", fade),
        _CTR,
        "CREATE OR REPLACE TEMP TABLE pooled AS SELECT who, item_id, sum(c) AS c, sum(n) AS n, sum(s) AS s FROM "
        "(SELECT * FROM touched WHERE ok AND who IS NOT NULL AND who != 'all' UNION ALL "
        "SELECT * REPLACE ('all' AS who) FROM touched WHERE ok) GROUP BY ALL",
        "WITH own AS (SELECT *, s * ctr AS x FROM pooled JOIN ctr USING (item_id)), "
        f"{preferences}, top AS (SELECT who, list(item_id ORDER BY c DESC, item_id)[:100] AS top_items, "
        f"quantile_cont(price, 0.5) AS price_median FROM own LEFT JOIN (SELECT item_id, price FROM '{items}') "
        "USING (item_id) WHERE n > 0 GROUP BY ALL) "
        "SELECT * FROM total LEFT JOIN lists USING (who) LEFT JOIN cats USING (who) LEFT JOIN top USING (who)",
    ]


def _items(events: str, items: str, as_of: str, params: BatchParams) -> list[str]:
    popularity = ", ".join(
        f"sum(w * exp((epoch_us({as_of}) - epoch_us(event_time)) * {-_rate(h)})) AS p{n}"
        for n, h in enumerate(params.popularity_half_lives)
    )
    dimensions = ", ".join(f"sum(sign) FILTER (d = {d})" for d in range(32))
    return [
        _keys(items),
        f"CREATE OR REPLACE TEMP TABLE slots AS SELECT item_id, p, count(*) AS n, min(event_time) AS first FROM "
        "(SELECT unnest(items).item_id AS item_id, least(unnest(range(len(items))), 99) AS p, event_time FROM "
        f"({events}) WHERE event_type = 'impression') GROUP BY ALL",
        "WITH eng AS (SELECT item_id, count(*) AS c, count(*) FILTER (event_type = 'purchase') AS b, "
        "min(event_time) AS first, "
        f"{popularity} FROM ({events}) WHERE w > 0 GROUP BY ALL), "
        f"wanted AS (SELECT request_id, item_id FROM ({events}) WHERE w > 0 AND position IS NULL "
        "AND request_id IS NOT NULL), "
        "placed AS (SELECT p, count(*) AS k FROM ("
        f"SELECT least(position, 99) AS p FROM ({events}) WHERE w > 0 AND position IS NOT NULL UNION ALL "
        "SELECT least(pos, 99) FROM (SELECT request_id, unnest(items).item_id AS item_id, "
        f"unnest(range(len(items))) AS pos FROM ({events}) WHERE event_type = 'impression' "
        "AND request_id IN (SELECT request_id FROM wanted)) JOIN wanted USING (request_id, item_id)) GROUP BY p), "
        "rate AS (SELECT p, coalesce(any_value(k), 0) / sum(n) AS r FROM slots LEFT JOIN placed USING (p) GROUP BY p), "
        "shown AS (SELECT item_id, sum(n) AS i, min(first) AS first, sum(n * r) AS e FROM slots JOIN rate USING (p) "
        "GROUP BY item_id), "
        "vec AS (SELECT item_id, list_transform(v, lambda q: (q / greatest(sqrt(list_sum(list_transform(v, "
        "lambda z: z * z))), 1e-9))::FLOAT) AS vector FROM (SELECT item_id, list_transform(["
        + dimensions
        + "], "
        "lambda q: coalesce(q, 0.0)) AS v FROM keys JOIN (SELECT k, ('0x' || h[1:2])::INT % 32 AS d, "
        "CASE WHEN ('0x' || h[3:3])::INT < 8 THEN 1.0 ELSE -1.0 END AS sign FROM "
        "(SELECT DISTINCT k, md5(k) AS h FROM keys)) USING (k) GROUP BY item_id)), "
        "names AS (SELECT item_id, list(k ORDER BY k) AS attr_keys FROM keys GROUP BY item_id), "
        "nums AS (SELECT item_id, list(name ORDER BY name) AS numeric_keys, list(v ORDER BY name) AS numeric_values "
        f"FROM ({_numbers(items)}) GROUP BY item_id) "
        f"SELECT * FROM (SELECT item_id, title, categories, price, created_at FROM '{items}') "
        "FULL JOIN shown USING (item_id) FULL JOIN eng USING (item_id) LEFT JOIN names USING (item_id) "
        "LEFT JOIN nums USING (item_id) LEFT JOIN vec USING (item_id)",
    ]


def _neighbours(events: str, params: BatchParams) -> list[str]:
    gap, most = params.session_gap.total_seconds(), params.neighbours_top_k
    return [
        f"CREATE OR REPLACE TEMP TABLE walks AS WITH ev AS ({events}), "
        "wide AS (SELECT session_id FROM ev WHERE ok GROUP BY ALL "
        f"HAVING max(event_time) - min(event_time) > to_seconds({gap})), "
        "runs AS (SELECT session_id, event_time, item_id, w, sum(gap) OVER (PARTITION BY session_id "
        "ORDER BY event_time) AS run FROM (SELECT *, (event_time - lag(event_time) OVER (PARTITION BY session_id "
        f"ORDER BY event_time) > to_seconds({gap}))::INT AS gap FROM ev WHERE ok AND session_id IN "
        "(SELECT session_id FROM wide))) "
        "SELECT session_id, coalesce(run, 0) AS run, item_id, event_time FROM "
        "(SELECT session_id, run, item_id, w, event_time FROM runs UNION ALL "
        "SELECT session_id, 0, item_id, w, event_time FROM ev WHERE ok AND session_id NOT IN "
        "(SELECT session_id FROM wide)) WHERE w > 0",
        "CREATE OR REPLACE TEMP TABLE si AS SELECT session_id, run, item_id FROM "
        "(SELECT session_id, run, item_id, max(event_time) AS last FROM walks GROUP BY ALL) "
        "QUALIFY row_number() OVER (PARTITION BY session_id, run ORDER BY last DESC, item_id DESC) <= 50",
        "CREATE OR REPLACE TEMP TABLE steps AS WITH moments AS (SELECT *, "
        "lag(newest) OVER (PARTITION BY session_id, run ORDER BY event_time) AS x FROM (SELECT session_id, run, "
        "event_time, max(item_id) AS newest FROM walks GROUP BY ALL)) "
        "SELECT x, item_id AS y, count(*) AS n FROM (SELECT DISTINCT * FROM walks) "
        "JOIN moments USING (session_id, run, event_time) WHERE x IS NOT NULL AND x != item_id GROUP BY ALL",
        "WITH half AS (SELECT a.item_id AS x, b.item_id AS y, count(*) AS n FROM si a JOIN si b "
        "ON a.session_id = b.session_id AND a.run = b.run AND a.item_id < b.item_id GROUP BY ALL), "
        "ranked AS (SELECT x, y, n, row_number() OVER (PARTITION BY x ORDER BY n DESC, y) AS r FROM "
        "(SELECT x, y, n FROM half UNION ALL SELECT y, x, n FROM half) "
        f"QUALIFY r <= {most}), "
        "next AS (SELECT x, y, n, row_number() OVER (PARTITION BY x ORDER BY n DESC, y) AS r FROM steps "
        f"QUALIFY r <= {most}) "
        "SELECT * FROM (SELECT item_id, count(*) AS sessions FROM si GROUP BY ALL) LEFT JOIN "
        "(SELECT x AS item_id, list(y ORDER BY r) AS ids, list(n ORDER BY r) AS counts FROM ranked GROUP BY ALL) "
        "USING (item_id) LEFT JOIN "
        "(SELECT x AS item_id, list(y ORDER BY r) AS next_ids, list(n ORDER BY r) AS next_counts FROM next GROUP BY ALL) "
        "USING (item_id) LEFT JOIN (SELECT x AS item_id, sum(n) AS total FROM steps GROUP BY ALL) USING (item_id)",
    ]
