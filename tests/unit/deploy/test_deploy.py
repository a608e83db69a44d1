"""The example deployments: they parse, and speak only of settings and metrics that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.registry import Collector

from feature_repo.home import Home
from feature_repo.settings import Settings
from quality.quarantine.store import NOT_KEPT, QUARANTINED
from serving.monitoring.metrics import WANTED, Metrics
from serving.schemas.rank_response import RankAnswer, Tier
from streaming.dataflow.flow_metrics import StreamMetrics

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
METRIC = re.compile(r"headrace_[a-z0-9_]+")
SETTING = re.compile(r"HEADRACE_[A-Z0-9_]+")


def sample_names() -> set[str]:
    """Names of every sample that serving, the stream and the quarantine expose."""
    registry = Metrics().registry
    StreamMetrics.register(registry)
    names = set()
    collectors: list[Collector] = [QUARANTINED, NOT_KEPT]
    for family in (*registry.collect(), *(f for c in collectors for f in c.collect())):
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
        names |= {family.name + ending for ending in endings}
    # The gate's gauges are made from its state file when they are asked for.
    source = (DEPLOY.parent / "quality" / "gate" / "gate_metrics.py").read_text()
    return names | set(re.findall(r'"(headrace_gate_[a-z_]+)"', source))


def documents(path: Path) -> list[dict[str, Any]]:
    return [d for d in yaml.safe_load_all(path.read_text()) if d]


def expressions() -> Iterator[tuple[str, str]]:
    for group in documents(DEPLOY / "prometheus" / "alerts.yml")[0]["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in json.loads((DEPLOY / "grafana" / "headrace.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_every_metric_asked_for_is_exposed(where: str, expression: str) -> None:
    asked = set(METRIC.findall(expression))
    assert asked or "up{" in expression
    assert asked <= sample_names(), where
    assert expression.count("(") == expression.count(")")


def test_every_setting_named_exists() -> None:
    known = {f"HEADRACE_{name}".upper() for name in Settings.model_fields}
    named = {path: set(SETTING.findall(path.read_text())) for path in DEPLOY.rglob("*") if path.is_file()}
    assert len(set().union(*named.values())) > 5
    assert {path: names - known for path, names in named.items() if names - known} == {}


def test_every_alert_says_what_to_do() -> None:
    rules = documents(DEPLOY / "prometheus" / "alerts.yml")[0]["groups"][0]["rules"]
    assert len({r["alert"] for r in rules}) == len(rules)
    for rule in rules:
        assert set(rule["annotations"]) == {"summary", "action"}
        assert rule["labels"]["severity"] in {"page", "ticket"}


def test_the_alert_on_degraded_answers_counts_rankings_that_met_a_fault() -> None:
    """A sum over codes counts a ranking several times, and denials of consent with it: it showed 149 %."""
    (rule,) = (r for r in dict(expressions()).items() if r[0] == "HeadraceDegraded")
    asked = set(METRIC.findall(rule[1]))
    assert asked == {"headrace_ranks_faulty_total", "headrace_ranks_total"}
    metrics = Metrics()
    for degraded in ([], ["consent_denied"], ["gate_closed", "user_expired"], ["store_late", "user_cached"]):
        metrics.ranked(RankAnswer("r", [], Tier.BASE, degraded, {}, {}, [], {}))
    values = {s.name: s.value for family in metrics.registry.collect() for s in family.samples}
    assert {name: values[name] for name in asked} == {
        "headrace_ranks_faulty_total": 1.0,
        "headrace_ranks_total": 4.0,
    }


def test_every_code_that_is_not_a_fault_occurs_in_answers() -> None:
    text = (DEPLOY.parent / "docs" / "reference" / "codes.md").read_text()
    assert {code for code in WANTED if f"`{code}`" not in text} == set()


def test_compose_holds_what_up_starts_and_opens_only_loopback() -> None:
    compose = documents(DEPLOY / "compose.yaml")[0]
    assert {"redis", "serving", "stream", "dagster-webserver", "dagster-daemon"} <= set(compose["services"])
    for name, service in compose["services"].items():
        assert all(p.startswith("127.0.0.1:") for p in service.get("ports", ())), name
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            found = (DEPLOY / source).exists() if source.startswith(".") else source in compose["volumes"]
            assert found, mount
    assert (DEPLOY / compose["services"]["serving"]["build"]["dockerfile"].removeprefix("deploy/")).exists()


def test_kubernetes_objects_refer_to_each_other() -> None:
    objects = documents(DEPLOY / "kubernetes" / "headrace.yaml")
    by_kind: dict[str, set[str]] = {}
    for thing in objects:
        assert {"apiVersion", "kind", "metadata"} <= set(thing)
        by_kind.setdefault(thing["kind"], set()).add(thing["metadata"]["name"])
    for thing in objects:
        template = thing.get("spec", {}).get("template")
        if template is None:
            continue
        assert thing["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        assert template["spec"]["securityContext"]["runAsNonRoot"]
        for volume in template["spec"]["volumes"]:
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            assert claim in by_kind["PersistentVolumeClaim"] or volume == {"name": "cache", "emptyDir": {}}
        for container in template["spec"]["containers"]:
            configs = [e["configMapRef"]["name"] for e in container["envFrom"] if "configMapRef" in e]
            assert set(configs) <= by_kind["ConfigMap"]
            assert container["resources"]["requests"]


def test_the_stream_in_kubernetes_has_its_own_disk_and_a_port_per_worker() -> None:
    """SQLite's WAL does not work over the network file systems that a ReadWriteMany volume usually is."""
    objects = documents(DEPLOY / "kubernetes" / "headrace.yaml")
    (settings,) = (o["data"] for o in objects if o["kind"] == "ConfigMap")
    (stream,) = (o["spec"] for o in objects if o["kind"] == "StatefulSet")
    (container,) = stream["template"]["spec"]["containers"]
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    claims = {c["metadata"]["name"]: c["spec"]["accessModes"] for c in stream["volumeClaimTemplates"]}
    state = Home(Path(settings["HEADRACE_HOME"])).stream
    assert claims[mounted[str(state)]] == ["ReadWriteOnce"]
    workers = int(container["args"][container["args"].index("--workers") + 1])
    first = Settings().stream_metrics_port
    assert [p["containerPort"] for p in container["ports"]] == list(range(first, first + workers))
    assert int(settings["HEADRACE_LOG_PARTITIONS"]) >= 4 * workers


def test_serving_in_kubernetes_keeps_machine_code_per_pod_and_may_take_its_time_to_start() -> None:
    """numba falls back to the user's cache where the package's folder is not its own."""
    objects = documents(DEPLOY / "kubernetes" / "headrace.yaml")
    (spec,) = (
        o["spec"]["template"]["spec"]
        for o in objects
        if (o["kind"], o["metadata"]["name"]) == ("Deployment", "serving")
    )
    (container,) = spec["containers"]
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert {v["name"]: v.get("emptyDir") for v in spec["volumes"]}[mounted["/home/headrace/.cache"]] == {}
    assert "useradd --uid 10001 --create-home headrace" in (DEPLOY / "Dockerfile").read_text()
    assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["fsGroup"] == 10001
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 120


def test_the_image_copies_every_package() -> None:
    lines = (DEPLOY / "Dockerfile").read_text()
    for package in ("feature_repo", "quality", "streaming", "serving", "orchestration"):
        assert f"COPY {package} {package}" in lines
    assert "USER headrace" in lines


def test_the_pages_that_dagster_links_to_are_served_beside_it() -> None:
    port = Settings().docs_port
    compose = documents(DEPLOY / "compose.yaml")[0]["services"]
    assert compose["pages"]["command"] == ["quality", "docs"]
    assert compose["pages"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    (dagster,) = (
        thing["spec"]["template"]["spec"]["containers"]
        for thing in documents(DEPLOY / "kubernetes" / "headrace.yaml")
        if thing["kind"] == "Deployment" and thing["metadata"]["name"] == "dagster"
    )
    (pages,) = (container for container in dagster if container["name"] == "pages")
    assert pages["args"] == ["quality", "docs"]
    assert [p["containerPort"] for p in pages["ports"]] == [port]
