"""The sections of `headrace status`, each from one function in `PROVIDERS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from feature_repo.errors import HeadraceError
from feature_repo.home import Home
from feature_repo.online import open_store
from feature_repo.run_mode import check_mode
from feature_repo.settings import Settings
from streaming.sessions.heartbeat import Heartbeat, read_heartbeats


@dataclass(frozen=True)
class Section:
    """A table with a title; `healthy` decides the exit code.

    Attributes:
        note: a line below the table: what is wrong and what to do.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    healthy: bool = True
    note: str = ""


_FAILURES_SHOWN, _RECENT = 3, timedelta(hours=1)

Provider = Callable[[Settings, Home], Section]

STREAM_FIGURES = (
    "lag",
    "event lag",
    "behind",
    "read",
    "folded",
    "duplicate",
    "late",
    "quarantined",
    "written",
    "retries",
    "sessions",
    "state",
    "heartbeat",
)
"""Rows of the stream's table. Partitions are its columns, so it fits 80 characters."""


def stream_section(settings: Settings, home: Home) -> Section:
    """Show every partition of the stream from its heartbeat in the online store.

    Raises:
        SettingsError: the home ran with a different log or store, so its heartbeats are elsewhere.
    """
    check_mode(settings, home)
    store = open_store(settings, home)
    try:
        heartbeats = read_heartbeats(store)
    finally:
        store.close()
    now = datetime.now(UTC) if not settings.clock_offset_s else settings.clock()
    by_partition = [_figures(h, now) for h in heartbeats]
    rows = tuple((name, *(f[n] for f in by_partition)) for n, name in enumerate(STREAM_FIGURES))
    columns = ("partition", *(str(h.partition) for h in heartbeats))
    title = f"stream: {settings.event_log} → {settings.online_store}"
    if not heartbeats:
        return Section(title, (), (), False, "no heartbeat yet: start it with `headrace stream`")
    stale = [h.partition for h in heartbeats if h.lag_s(now) > settings.stream_stale_s]
    return Section(title, columns, rows, not stale, _note(stale))


def _note(stale: Sequence[int]) -> str:
    """Say what to do about partitions with an old heartbeat."""
    if not stale:
        return ""
    which = f"partition {stale[0]} is" if len(stale) == 1 else f"partitions {', '.join(map(str, stale))} are"
    return f"{which} stale: is `headrace stream` running?"


def _figures(h: Heartbeat, now: datetime) -> tuple[str, ...]:
    event_lag = None if h.last_event_time is None else (now - h.last_event_time).total_seconds()
    counts = h.counts
    numbers = (
        counts.read,
        counts.folded,
        counts.duplicate,
        counts.late,
        counts.quarantined,
        counts.written,
        counts.retries,
    )
    return (
        _seconds(h.lag_s(now)),
        "–" if event_lag is None else _seconds(event_lag),
        _seconds(h.behind_s),
        *(f"{n:,}" for n in numbers),
        f"{h.sessions:,}",
        f"{h.state_bytes / 2**20:,.1f} MiB",
        f"{h.wall_time:%H:%M:%S}",
    )


def _seconds(value: float) -> str:
    """Format a time span for people."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if value >= 2 * size:
            return f"{value / size:,.0f} {unit}"
    return f"{value:.1f} s"


def features_section(settings: Settings, home: Home) -> Section:
    """Show every checked group: its last good build, and why a newer one was held back."""
    from quality.gate.build_gate import Gate  # noqa: PLC0415 - Arrow and Prometheus, for this section only

    rows = Gate(home.quality, settings.clock).status()
    title, columns = "features", ("group", "state", "last good build", "detail")
    if not rows:
        return Section(
            title, (), (), True, "no group was checked yet: `headrace build` builds and checks them"
        )
    blocked = [row.group for row in rows if row.state == "blocked"]
    held = f"held back: {', '.join(blocked)}; the last good build stays online" if blocked else ""
    found = tuple((row.group, row.state, row.last_good, row.detail) for row in rows)
    return Section(title, columns, found, not blocked, held)


def quarantine_section(settings: Settings, home: Home) -> Section:
    """Show how many rejected records are held, and how many a full quarantine could not keep."""
    from quality.quarantine.store import Quarantine  # noqa: PLC0415

    size = sum(path.stat().st_size for path in home.quarantine.glob("day=*.jsonl"))
    lost = Quarantine.of(settings, home).not_kept()
    title, columns = "quarantine", ("held", "bound", "not kept")
    if not size and not lost:
        return Section(title, (), (), True, "empty")
    row = (f"{size / 2**20:,.1f} MiB", f"{settings.quarantine_mb:,} MiB", f"{sum(lost.values()):,}")
    full = (
        f"full on {', '.join(map(str, lost))}: records rejected that day were counted but not kept"
        if lost
        else ""
    )
    return Section(title, columns, (row,), True, full or "`headrace quarantine list` says why")


def ranking_section(settings: Settings, home: Home) -> Section:
    """Show what orders the rankings: the fitted blend, or the order the gate kept instead."""
    from serving.scoring.blend_state import read_blend_state  # noqa: PLC0415

    state = read_blend_state(home.models)
    if state is None:
        return Section("ranking", (), (), True, "no blend was fitted yet: the base order serves")
    gate = "open" if state.gate.passed else "closed"
    row = (state.serves, gate, state.fitted_at[:16], state.gate.reason)
    note = "" if state.gate.passed else f"the gate is closed: {state.serves} serves, not the fitted blend"
    return Section("ranking", ("serves", "gate", "fitted at", "why"), (row,), True, note)


def runs_section(settings: Settings, home: Home) -> Section:
    """Show failed batch runs; unhealthy for an hour after the last failure."""
    from quality.run_failures import read_failures  # noqa: PLC0415

    found = read_failures(home.runs)
    title = f"failed runs: {sum(found.totals.values()):,}"
    if not found.recent:
        return Section(title, (), ())
    rows = tuple(
        (f"{f.time:%Y-%m-%d %H:%M}", f.run[:8], f"{f.job} {f.partition}".strip(), f.step, f.error)
        for f in reversed(found.recent[-_FAILURES_SHOWN:])
    )
    recent = settings.clock() - found.recent[-1].time < _RECENT
    note = "the last one failed within the hour: see the run in Dagster's UI" if recent else ""
    return Section(title, ("time", "run", "what", "step", "error"), rows, not recent, note)


PROVIDERS: tuple[Provider, ...] = (
    stream_section,
    features_section,
    ranking_section,
    runs_section,
    quarantine_section,
)


def sections(settings: Settings, home: Home) -> list[Section]:
    """Return every section; one that fails shows its error and does not hide the others."""
    found = []
    for provider in PROVIDERS:
        try:
            found.append(provider(settings, home))
        except HeadraceError as error:
            title = provider.__name__.removesuffix("_section")
            found.append(Section(title, (), (), False, str(error)))
    return found
