"""Constructs the services of a serving process from its settings."""

from __future__ import annotations

from datetime import timedelta

from feature_repo.contract.validation import Contract
from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.online import OnlineStore, open_store
from feature_repo.online.consent_rows import is_complete
from feature_repo.services import published
from feature_repo.settings import Settings
from quality.checks.figures import FiguresCollector
from quality.gate.build_gate import Gate
from quality.gate.gate_metrics import GateCollector
from quality.quarantine.store import Quarantine
from quality.run_failures import RunFailuresCollector
from serving.api.api_keys import Keys
from serving.control.flag_control import FlagControl
from serving.control.flag_store import FlagStore
from serving.control.flags import Flags
from serving.control.reloading import Model, Watched
from serving.control.rule_store import RuleStore
from serving.control.rules import Rules
from serving.decisions.exposures import observe_page
from serving.decisions.lookup import DecisionFinder
from serving.decisions.record import TOPIC
from serving.decisions.recorder import Recorder
from serving.decisions.time_marks import Marks, marks_of
from serving.features.consent_denials import Permissions
from serving.features.consent_store import ConsentStore
from serving.features.door_denials import Denials
from serving.features.feature_plan import Catalogue
from serving.features.feature_table import FeatureTable
from serving.features.ranked_groups import ranked_groups
from serving.features.reader import FeatureReader
from serving.features.reading import ReadLimits
from serving.features.row_source import RowSource, ThreadSource
from serving.features.stream_health import StreamHealth
from serving.items.item_store import ItemStore
from serving.monitoring.circuit_breaker import Breaker
from serving.monitoring.metrics import Metrics
from serving.pipeline.blend import BlendStage
from serving.pipeline.cap import CapStage
from serving.pipeline.diversity import DiversityStage
from serving.pipeline.experiment import ArmStage, HoldoutStage
from serving.pipeline.exploration import ExplorationStage
from serving.pipeline.features import FeaturesStage
from serving.pipeline.permission import ConsentStage, FlagsStage
from serving.pipeline.rules import RulesStage
from serving.pipeline.runner import Ranker
from serving.pipeline.stage import Stage
from serving.schemas.rank_request import RequestDecoder
from serving.scoring.blend_state import BlendCollector
from serving.scoring.blend_store import BlendStore
from serving.services import Parts, Services
from streaming.ingest.denials import Denying
from streaming.ingest.event_door import EventDoor, count_unknown
from streaming.log import EventLog, open_log
from streaming.sessions.heartbeat import read_heartbeats

LOOKED_THROUGH = 20_000
"""Maximum number of log records read to find one decision."""
REMEMBERED = 10_000
"""Maximum number of users and sessions whose cached rows or denials are kept."""


def open_services(settings: Settings) -> Services:
    """Construct all services. Only the home is touched; nothing else is read or connected yet.

    Raises:
        SettingsError: a setting cannot work.
        LogError: the event log cannot be opened.
    """
    home = Home(settings.home).ensure()
    keys = Keys.of(settings)
    metrics = Metrics(
        GateCollector(Gate(home.quality, settings.clock)),
        FiguresCollector(home.quality),
        BlendCollector(home.models),
        RunFailuresCollector(home.runs),
    )
    store = open_store(settings, home, remembered=REMEMBERED)
    control = FlagControl(FlagStore(home.flags, settings.clock, home.last_good))
    parts = _parts(settings, home, metrics, store, control)
    source = open_source(settings, store)
    event_log, decisions = open_log(settings, home), open_log(settings, home, TOPIC)
    marks = marks_of(home.decisions, settings.decision_retention_hours)
    return Services(
        settings=settings,
        home=home,
        metrics=metrics,
        keys=keys,
        store=store,
        source=source,
        parts=parts,
        permissions=(permissions := Permissions(REMEMBERED)),
        reader=(reader := _reader(settings, source, parts, permissions)),
        feature_table=FeatureTable(
            source,
            permissions,
            consent_default=settings.consent_default,
            session_ttl=timedelta(seconds=settings.session_ttl_s),
            clock=settings.clock,
            consent_complete=lambda: parts.consent.complete,
        ),
        catalogue=Catalogue(list(all_groups().values()), published()),
        ranker=_ranker(settings, reader, parts),
        scoring=scoring_stages(settings),
        decoder=RequestDecoder(settings),
        flag_control=control,
        log=event_log,
        decisions=decisions,
        recorder=_recorder(settings, decisions, metrics, parts.breakers["event_log"], marks),
        finder=DecisionFinder(decisions, marks, LOOKED_THROUGH),
        door=_door(settings, home, event_log, Denials(permissions, store)),
    )


def scoring_stages(settings: Settings) -> tuple[Stage, ...]:
    """Return the stages that run after the features are read. A replay runs the same ones."""
    return (
        BlendStage(),
        CapStage(),
        DiversityStage(),
        ExplorationStage(settings.weights["purchase"]),
        HoldoutStage(),
        RulesStage(settings.weights["purchase"]),
    )


def open_source(settings: Settings, store: OnlineStore) -> RowSource:
    """Open a non-blocking row source: asyncio for Redis, threads for SQLite."""
    if settings.online_store == "redis":
        from serving.features.redis_row_source import RedisSource  # noqa: PLC0415 - takes half a second to import

        return RedisSource(settings.redis_url.get_secret_value())
    return ThreadSource(store)


def _parts(
    settings: Settings, home: Home, metrics: Metrics, store: OnlineStore, control: FlagControl
) -> Parts:
    items, blend = ItemStore(home.features, home.last_good), BlendStore(home.models, home.last_good)
    flags, rules = control.store, RuleStore(home.flags, settings.clock, home.last_good)
    failed = metrics.reload_failed
    return Parts(
        snapshot=Watched("items", items.stamp, items.load, None, failed, last_good=items.last_good),
        blend=Watched("blend", blend.stamp, blend.load, None, failed, last_good=blend.last_good),
        flags=Watched("flags", control.stamp, control.load, Flags(), failed, last_good=flags.last_good),
        rules=Watched("rules", rules.stamp, rules.load, Rules(), failed, last_good=rules.last_good),
        consent=ConsentStore(lambda: is_complete(store)),
        stream=StreamHealth(lambda: read_heartbeats(store), settings.clock, settings.stream_stale_s),
        breakers={n: Breaker(n, on_change=metrics.breaker_moved) for n in ("store", "blend", "event_log")},
    )


def _ranker(settings: Settings, reader: FeatureReader, parts: Parts) -> Ranker:
    features = FeaturesStage(reader, settings.consent_default)
    before = (ConsentStage(), FlagsStage(), ArmStage(), features)
    return Ranker(
        (*before, *scoring_stages(settings)),
        lambda: Model(parts.snapshot.value, parts.blend.value, parts.flags.value, parts.rules.value),
        settings.clock,
        timedelta(milliseconds=settings.budget_ms),
        breakers={"blend": parts.breakers["blend"]},
    )


def _reader(settings: Settings, source: RowSource, parts: Parts, permissions: Permissions) -> FeatureReader:
    limits = ReadLimits(
        store=timedelta(milliseconds=settings.store_budget_ms),
        session_ttl=timedelta(seconds=settings.session_ttl_s),
        session_copy=timedelta(seconds=settings.session_copy_s),
        profile_copy=timedelta(seconds=settings.profile_copy_s),
        segment_reuse=timedelta(seconds=settings.segment_reuse_s),
    )
    return FeatureReader(
        source,
        ranked_groups(),
        limits,
        stream_stale=lambda: parts.stream.stale,
        breaker=parts.breakers["store"],
        permissions=permissions,
        consent_complete=lambda: parts.consent.complete,
        copies=REMEMBERED,
    )


def _recorder(
    settings: Settings, decisions: EventLog, metrics: Metrics, breaker: Breaker, marks: Marks
) -> Recorder:
    return Recorder(
        decisions,
        settings.id_salt.get_secret_value(),
        metrics.decisions.labels("written").inc,
        lambda why, count: metrics.decisions_dropped.labels(why).inc(count),
        on_each=lambda context: observe_page(metrics, context, settings.page_share),
        breaker=breaker,
        marks=marks,
    )


def _door(settings: Settings, home: Home, event_log: EventLog, known: Denying) -> EventDoor:
    contract = Contract(settings, settings.clock, count_unknown)
    return EventDoor(contract, event_log, Quarantine.of(settings, home).warm(), known)
