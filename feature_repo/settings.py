"""`Settings`, the only reader of the environment (``HEADRACE_*``).

An invalid value fails at start with a message that names the variable. Composition roots call `load_settings`
once and pass the object on; no other module reads the environment.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from feature_repo.clock import Clock, shifted_clock, wall_clock
from feature_repo.contract.event_types import registered
from feature_repo.errors import SettingsError

_log = logging.getLogger(__name__)

ENV_PREFIX = "HEADRACE_"
_OWNER = re.compile(r"team:[A-Za-z0-9_-]+|[\w.%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}", re.ASCII)
_OF_BENCHMARKS = f"{ENV_PREFIX}BENCH_"

BUILTIN_EVENT_WEIGHTS: dict[str, float] = {
    "impression": 0.0,
    "search": 0.0,
    "view": 1.0,
    "click": 1.0,
    "like": 2.0,
    "add_to_cart": 3.0,
    "purchase": 5.0,
}
"""Engagement weight of each built-in event type; 0 means the event is context, not engagement."""


def _pairs(value: Any) -> Any:
    """Read ``bookmark=2,comment=3`` into a mapping; leave mappings alone."""
    if not isinstance(value, str):
        return value
    pairs = {}
    for part in filter(None, (p.strip() for p in value.split(","))):
        name, sep, weight = part.partition("=")
        if not sep:
            msg = f"{part!r} is not name=weight; write e.g. bookmark=2,comment=3"
            raise ValueError(msg)
        pairs[name.strip()] = weight.strip()
    return pairs


Pairs = Annotated[dict[str, float], NoDecode, BeforeValidator(_pairs)]
Half = Annotated[float, Field(gt=0)]


class Settings(BaseSettings):
    """All settings of Headrace, with their defaults (embedded mode) and units."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="ignore", frozen=True)

    home: Path = Field(Path("var"), description="Folder for everything written at run time.")
    clock_offset_s: float = Field(
        0.0, description="Seconds added to the wall clock, to serve historical data as current."
    )

    # Event contract.
    event_weights: Pairs = Field(
        default_factory=dict,
        description="Additional event types with engagement weights, e.g. bookmark=2,comment=3,follow=3.",
    )
    earliest_event_time: datetime = Field(
        datetime(1990, 1, 1, tzinfo=UTC), description="Events before this are quarantined."
    )
    future_tolerance_s: float = Field(
        86_400.0,
        ge=0,
        description="How far in the future an event time may be before the event is quarantined.",
    )
    clock_skew_s: float = Field(
        5.0,
        ge=0,
        description="Tolerated error of client clocks: an event up to this much before the request that it "
        "names still belongs to it; one further in the future gets its arrival time (s).",
    )

    # Files.
    ingest_row_bytes: int = Field(
        8_388_608, ge=1024, description="Maximum length of a line or table row in a file (bytes)."
    )
    ingest_unpacked_bytes: int = Field(
        107_374_182_400, ge=1024, description="Maximum size of a compressed file when unpacked (bytes)."
    )
    ingest_unpacked_ratio: float = Field(
        200.0, ge=2, description="Maximum ratio of unpacked to packed size of a file, above 64 MiB unpacked."
    )

    # Event log.
    event_log: Literal["segments", "redis", "kafka"] = Field(
        "segments", description="Backend of the event log."
    )
    log_partitions: int = Field(4, ge=1, le=1024, description="Number of partitions of the event log.")
    log_fsync: Literal["always", "interval", "never"] = Field(
        "interval",
        description="When the segment log is synced to disk: after each batch, each second, or never.",
    )
    log_segment_mb: int = Field(64, ge=1, description="Size at which a segment file is rotated (MiB).")
    log_retention_hours: float = Field(168.0, gt=0, description="Age at which log segments may be removed.")
    decision_retention_hours: float = Field(
        168.0,
        gt=0,
        description="Age at which decision records may be removed; replay and training then lack them.",
    )
    lake_retention_days: float | None = Field(
        None,
        gt=0,
        description="Age, counted from the newest day, at which lake days are removed; unset: never.",
    )
    kafka_bootstrap: str = Field("127.0.0.1:9092", description="Kafka bootstrap servers.")
    kafka_topic: str = Field("headrace-events", description="Kafka topic of the event log.")

    # Online store.
    online_store: Literal["sqlite", "redis"] = Field(
        "sqlite", description="Backend of the Feast online store."
    )
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis URL (rediss:// for TLS; may contain a password).",
    )
    store_timeout_s: float = Field(
        2.0, gt=0, description="Time limit of one call to the online store outside serving (s)."
    )

    # Sessions and stream.
    session_gap_s: float = Field(
        1800.0, gt=0, description="Time without an event after which a session ends."
    )
    session_ttl_s: float = Field(
        86_400.0, gt=0, description="Time after which a session expires from the store."
    )
    session_half_life_s: Half = Field(1800.0, description="Half-life of in-session category affinity.")
    allowed_lateness_s: float = Field(
        600.0, ge=0, description="Maximum lateness of an event that the stream still folds in."
    )
    dedup_horizon_s: float = Field(
        3600.0, gt=0, description="How long the stream remembers event ids to drop repeats."
    )
    stream_batch_size: int = Field(
        1000, ge=1, description="Size at which the online writer writes a micro-batch (rows)."
    )
    stream_batch_ms: float = Field(
        5.0, gt=0, description="Age at which the online writer writes a micro-batch (ms)."
    )
    stream_metrics_host: str = Field("127.0.0.1", description="Address that the stream's metrics bind to.")
    stream_metrics_port: int = Field(
        9464, ge=0, le=65_535, description="Port of the stream's Prometheus metrics (0: none)."
    )
    snapshot_s: float = Field(
        5.0,
        gt=0,
        description="How often the stream saves its state and position; a restart rereads this much.",
    )
    heartbeat_s: float = Field(1.0, gt=0, description="How often the stream writes its heartbeat.")

    # Batch features.
    chain_every_s: float = Field(
        60.0,
        ge=1,
        description="How often the sensor moves the log into the lake and checks for changed days.",
    )
    blend_every_s: float = Field(
        3600.0, ge=0, description="Minimum time between two automatic fits of the blend."
    )
    failure_webhook: SecretStr = Field(
        SecretStr(""), description="URL to which failed batch runs are posted as JSON (may contain a token)."
    )
    segment_attribute: str = Field("segment", description="User attribute that names the segment.")
    affinity_half_life_days: Half = Field(30.0, description="Half-life of long-term affinities.")
    affinity_top_k: int = Field(
        64, ge=1, description="Maximum attribute values per profile and attribute type."
    )
    popularity_half_lives_s: tuple[Half, Half, Half] = Field(
        (3600.0, 86_400.0, 604_800.0), description="Short, mid and long half-life of item popularity (s)."
    )
    history_days: int = Field(365, ge=1, description="Days of events that a batch group uses.")
    neighbours_top_k: int = Field(50, ge=1, description="Maximum neighbours per item.")
    duckdb_memory: str = Field("2GB", description="Memory limit of DuckDB; above it, DuckDB spills to disk.")
    duckdb_threads: int = Field(2, ge=1, description="Number of DuckDB threads.")

    # Quality.
    quarantine_day_mb: int = Field(
        64, ge=1, description="Size above which a day's quarantined records are only counted (MiB)."
    )
    quarantine_mb: int = Field(
        256, ge=1, description="Size above which the oldest day of the quarantine is removed (MiB)."
    )
    drift_psi: float = Field(0.2, gt=0, description="Population stability index that counts as drift.")
    drift_shift: float = Field(
        0.1, gt=0, le=1, description="Kolmogorov–Smirnov or total-variation distance that counts as drift."
    )
    drift_null_share: float = Field(
        0.1, gt=0, le=1, description="Change of a feature's share of nulls that counts as drift."
    )
    drift_cardinality: float = Field(
        0.5,
        gt=0,
        description="Relative change of a feature's number of distinct values that counts as drift.",
    )
    drift_rate: float = Field(
        0.25,
        gt=0,
        description="Relative change of a behavioural rate (carts per click, …) that counts as drift.",
    )
    drift_alpha: float = Field(
        1e-6, gt=0, lt=1, description="Significance level: a distance with a larger p-value is not drift."
    )
    parity_sample: float = Field(
        0.01, ge=0, le=1, description="Share of decisions whose served features are recomputed offline."
    )
    parity_budget: float = Field(
        0.001, ge=0, le=1, description="Share of sampled values that may differ from the recomputed ones."
    )

    # Serving.
    host: str = Field("127.0.0.1", description="Address that serving binds to.")
    port: int = Field(8080, ge=0, le=65_535, description="Port that serving binds to.")
    ui_host: str = Field(
        "127.0.0.1",
        description="Address that Dagster's UI and the built pages bind to; neither requires a key.",
    )
    ui_names: str = Field(
        "",
        description="Additional host names under which UI and pages are opened, comma-separated.",
    )
    dagster_port: int = Field(3000, ge=0, le=65_535, description="Port of Dagster's UI under `headrace up`.")
    docs_port: int = Field(
        3002, ge=0, le=65_535, description="Port of the built pages (Data Docs, drift) under `headrace up`."
    )
    docs_url: str = Field(
        "", description="URL of the built pages for browsers; empty: `HEADRACE_DOCS_PORT` here."
    )
    dagster_url: str = Field(
        "", description="URL of Dagster's UI for browsers; empty: `HEADRACE_DAGSTER_PORT` here."
    )
    api_url: str = Field("", description="URL of serving for browsers; empty: `HEADRACE_PORT`.")
    feast_url: str = Field(
        "",
        description="URL of Feast's UI for browsers; empty: port 8888 (`headrace feast ui`).",
    )
    asset_owners: str = Field(
        "team:features",
        description="Owners of the assets in Dagster's UI, comma-separated: team:NAME or an email address.",
    )
    budget_ms: float = Field(30.0, gt=0, description="Time budget of the whole personalization (ms).")
    store_budget_ms: float = Field(10.0, gt=0, description="Time budget of the online store (ms).")
    stream_stale_s: float = Field(
        30.0, gt=0, description="Lag of the stream above which session signals are not used (s)."
    )
    max_candidates: int = Field(2000, ge=1, description="Maximum candidates of a request.")
    max_feature_values: int = Field(
        20_000,
        ge=1,
        description="Maximum values (entities × features) of one `POST /v1/features`.",
    )
    features_budget_ms: float = Field(
        100.0, gt=0, description="Time budget of `POST /v1/features`, after which it answers 503 (ms)."
    )
    max_body_bytes: int = Field(1_048_576, ge=1024, description="Maximum size of a request's body (bytes).")
    max_connections: int = Field(
        1024,
        ge=1,
        description="Maximum connections of a worker; above it, the one waiting longest is closed.",
    )
    max_header_bytes: int = Field(
        32_768, ge=1024, description="Maximum size of a request's line and headers (bytes)."
    )
    max_url_bytes: int = Field(8192, ge=256, description="Maximum size of a URL (bytes).")
    header_timeout_s: float = Field(
        10.0, gt=0, description="Time limit for a client to send the headers (s)."
    )
    body_timeout_s: float = Field(30.0, gt=0, description="Time limit for a client to send the body (s).")
    idle_timeout_s: float = Field(
        75.0, gt=0, description="How long a connection stays open between requests (s)."
    )
    max_id_bytes: int = Field(256, ge=16, le=256, description="Maximum length of an id (bytes).")
    session_copy_s: float = Field(
        60.0, ge=0, description="Maximum age of a cached session as a fallback for the store (s)."
    )
    profile_copy_s: float = Field(
        3600.0, ge=0, description="Maximum age of a cached profile as a fallback for the store (s)."
    )
    segment_reuse_s: float = Field(
        10.0, ge=0, description="How long a cached segment profile is used without reading the store (s)."
    )
    consent_default: bool = Field(True, description="Consent of users who have stated none.")
    max_concurrency: int = Field(
        32,
        ge=1,
        description="Maximum concurrent personalized rankings of a worker; others get the base order.",
    )
    page_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of recorded answers whose page metrics (diversity, …) are measured.",
    )
    api_keys: str = Field(
        "",
        description="Comma-separated name:scope+scope:sha256 (`headrace key`); empty: off, loopback only.",
    )
    id_salt: SecretStr = Field(
        SecretStr("headrace"),
        description="Salt of the hashes that replace user and session ids in records.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Log level.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.store_budget_ms > self.budget_ms:
            msg = (
                f"HEADRACE_STORE_BUDGET_MS ({self.store_budget_ms:g}) must not exceed "
                f"HEADRACE_BUDGET_MS ({self.budget_ms:g})"
            )
            raise ValueError(msg)
        for owner in self.owners:
            if not _OWNER.fullmatch(owner):
                msg = f"HEADRACE_ASSET_OWNERS: {owner!r} is not an owner; write team:NAME or an email address"
                raise ValueError(msg)
        webhook = self.failure_webhook.get_secret_value()
        if webhook and not webhook.startswith(("http://", "https://")):
            msg = "HEADRACE_FAILURE_WEBHOOK: write the full URL, https://…, or leave it unset"
            raise ValueError(msg)
        if self.lake_retention_days is not None and self.lake_retention_days < self.history_days:
            msg = (
                f"HEADRACE_LAKE_RETENTION_DAYS ({self.lake_retention_days:g}) must not be less than "
                f"HEADRACE_HISTORY_DAYS ({self.history_days}), which the batch features need"
            )
            raise ValueError(msg)
        if self.dedup_horizon_s < self.allowed_lateness_s:
            msg = (
                f"HEADRACE_DEDUP_HORIZON_S ({self.dedup_horizon_s:g}) must not be less than "
                f"HEADRACE_ALLOWED_LATENESS_S ({self.allowed_lateness_s:g}), or a repeat within "
                "the allowed lateness is counted twice"
            )
            raise ValueError(msg)
        if self.earliest_event_time.tzinfo is None:
            msg = "HEADRACE_EARLIEST_EVENT_TIME needs a time zone, e.g. 1990-01-01T00:00:00Z"
            raise ValueError(msg)
        return self

    @property
    def owners(self) -> list[str]:
        """Owners of the assets, in Dagster's format."""
        return [owner.strip() for owner in self.asset_owners.split(",") if owner.strip()]

    @property
    def weights(self) -> dict[str, float]:
        """Engagement weight by event type: the built-in types and those registered in settings."""
        return {**BUILTIN_EVENT_WEIGHTS, **self.event_weights}

    @property
    def clock(self) -> Clock:
        """The wall clock, shifted by `clock_offset_s`."""
        if not self.clock_offset_s:
            return wall_clock
        return shifted_clock(timedelta(seconds=self.clock_offset_s))


def load_settings(**overrides: Any) -> Settings:
    """Read the environment, and the event types registered by ingested data.

    Raises:
        SettingsError: a value is invalid. The message names the variable, the value and what would be right.
    """
    try:
        settings = with_registered(Settings(**overrides))
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None
    _tell_unknown()
    return settings


def with_registered(settings: Settings, more: Mapping[str, float] | None = None) -> Settings:
    """Add the event types registered in the home, and `more`; types in the settings take precedence."""
    found = {**(more or {}), **registered(settings.home)}
    if not found.keys() - settings.event_weights.keys():
        return settings
    return settings.model_copy(update={"event_weights": {**found, **settings.event_weights}})


def _tell_unknown() -> None:
    """Warn about variables that look like settings but are not, because typos would go unnoticed."""
    known = [f"{ENV_PREFIX}{name}".upper() for name in Settings.model_fields]
    for name in sorted(os.environ):
        if name.upper() in known or not name.startswith(ENV_PREFIX) or name.startswith(_OF_BENCHMARKS):
            continue
        likely = get_close_matches(name, known, n=1)
        _log.warning("%s: no such setting%s", name, f"; did you mean {likely[0]}?" if likely else "")


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        name = f"{ENV_PREFIX}{'_'.join(str(p) for p in problem['loc'][:1])}".upper()
        if not problem["loc"]:
            lines.append(problem["msg"].removeprefix("Value error, "))
        else:
            lines.append(f"{name}={problem['input']!r}: {problem['msg'].removeprefix('Value error, ')}")
    return "bad setting: " + "; ".join(lines)
