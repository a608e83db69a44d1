"""The flow's own Prometheus metrics, per partition."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, start_http_server

from feature_repo.errors import SettingsError
from streaming.sessions.heartbeat import Counts, Heartbeat

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StreamMetrics:
    """What an operator watches; every metric has the label ``partition``."""

    read: Counter
    folded: Counter
    duplicate: Counter
    late: Counter
    quarantined: Counter
    replayed: Counter
    written: Counter
    retries: Counter
    sessions: Gauge
    state_bytes: Gauge
    event_time_lag: Gauge
    processing_lag: Gauge
    _last: dict[str, Counts] = field(default_factory=dict)

    @classmethod
    def register(cls, registry: CollectorRegistry = REGISTRY) -> StreamMetrics:
        """Make the metrics in a registry, once per registry."""

        def counter(name: str, meaning: str) -> Counter:
            return Counter(f"headrace_stream_{name}", meaning, ["partition"], registry=registry)

        def gauge(name: str, meaning: str) -> Gauge:
            return Gauge(f"headrace_stream_{name}", meaning, ["partition"], registry=registry)

        return cls(
            read=counter("records_total", "Records read from the log."),
            folded=counter("folded_total", "Events folded into a session."),
            duplicate=counter("duplicate_total", "Events whose id was known already."),
            late=counter("late_total", "Events later than allowed: in the lake, in no session."),
            quarantined=counter("quarantined_total", "Records that could not be decoded or folded."),
            replayed=counter("replayed_total", "Records read again that the state held already."),
            written=counter("written_total", "Rows written to the online store."),
            retries=counter("write_retries_total", "Writes to the online store that had to be repeated."),
            sessions=gauge("sessions", "Live sessions held."),
            state_bytes=gauge("state_bytes", "Bytes of state held."),
            event_time_lag=gauge("event_time_lag_seconds", "Age of the newest event."),
            processing_lag=gauge("processing_lag_seconds", "Time since the log was last read to its end."),
        )

    def observe(self, heartbeat: Heartbeat) -> None:
        """Take over the figures of a heartbeat; counters move on by what is new in it."""
        label = str(heartbeat.partition)
        last = self._last.get(label, Counts())
        for name in ("read", "folded", "duplicate", "late", "quarantined", "replayed"):
            getattr(self, name).labels(label).inc(
                max(getattr(heartbeat.counts, name) - getattr(last, name), 0)
            )
        self._last[label] = heartbeat.counts
        self.sessions.labels(label).set(heartbeat.sessions)
        self.state_bytes.labels(label).set(heartbeat.state_bytes)
        self.processing_lag.labels(label).set(heartbeat.behind_s)
        if (lag := heartbeat.event_lag_s()) is not None:
            self.event_time_lag.labels(label).set(lag)


_lock = threading.Lock()
_shared: list[StreamMetrics] = []


def shared_metrics() -> StreamMetrics:
    """The metrics of this process."""
    with _lock:
        if not _shared:
            _shared.append(StreamMetrics.register())
        return _shared[0]


def serve_metrics(host: str, port: int, tries: int = 1) -> Callable[[], Any]:
    """Serve the process's metrics; returns what ends it.

    Args:
        tries: ports to try, from `port` on; for processes that do not know of each other.

    Raises:
        SettingsError: they are taken; names the variable.
    """
    for tried in range(port, port + tries):
        try:
            server, thread = start_http_server(tried, addr=host)
            break
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
    else:
        msg = (
            f"HEADRACE_STREAM_METRICS_PORT: cannot listen on {host}:{tried} ({reason}); "
            "is another stream running? Choose another port (worker n takes the nth after it), "
            "or 0 for no endpoint"
        )
        raise SettingsError(msg)
    if tries > 1:
        _log.info("metrics at http://%s:%d/metrics", host, tried)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
