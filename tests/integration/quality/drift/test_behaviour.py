"""Drift of behaviour over a simulated shop, with the days it keeps and the check in Dagster."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.settings import Settings
from orchestration.defs.assembly import build_definitions
from orchestration.defs.jobs import LAKE
from orchestration.defs.quality import BEHAVIOUR
from orchestration.monitoring import behaviour
from orchestration.monitoring.behaviour import NAME, check_behaviour, rates_of
from orchestration.runtime import Runtime
from quality.checks.figures import load_figures
from quality.drift.day_rates import day_rates
from streaming.simulator import Drift, ShopConfig, simulate_lake
from tests.support.offline import click_group, day_events, write_events

DAYS, WEEK = 28, 7
LAST = date(2024, 5, 31)
CONFIG = ShopConfig(users=300, items=120, days=DAYS, seed=4, duplicates=0, late=0, malformed=0)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Three stable weeks, then one in which carts are halved."""
    home = Home(tmp_path_factory.mktemp("shop")).ensure()
    drift = Drift(DAYS - WEEK, "conversion")
    simulate_lake(dataclasses.replace(CONFIG, drift=drift), Lake(home.lake))
    return home


@pytest.fixture
def of_shop(shop: Home) -> Settings:
    return Settings(home=shop.root)


def test_halved_carts_are_reported_and_the_stable_day_before_is_quiet(shop: Home, of_shop: Settings) -> None:
    stable = check_behaviour(of_shop, shop, LAST - timedelta(days=WEEK), plots=False)
    assert stable is not None
    assert stable.failures == ()
    assert len(stable.results) > WEEK
    report = check_behaviour(of_shop, shop, LAST, plots=False)
    assert report is not None
    assert "add_to_cart_per_click" in {r.column for r in report.failures}
    assert {r.column for r in report.failures} <= {"add_to_cart_per_click", "purchase_per_click"}
    [figures] = load_figures(shop.quality, "drift")
    assert (figures.group, figures.failing) == (NAME, tuple(r.column for r in report.failures))
    assert figures.values["add_to_cart_per_click"]["rate_change"] == pytest.approx(-0.5, abs=0.2)


def test_a_day_is_measured_once_until_its_files_change(
    shop: Home, of_shop: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rates_of(of_shop, shop, LAST)
    measured: list[date] = []

    def counting(day: date, *given: object, **more: object) -> object:
        measured.append(day)
        return day_rates(day, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(behaviour, "day_rates", counting)
    assert rates_of(of_shop, shop, LAST) == before
    assert measured == []
    late, damaged = LAST - timedelta(days=3), LAST - timedelta(days=5)
    path = write_events(Lake(shop.lake), late, day_events(late, 20, 500), "part-9")
    (shop.quality / NAME / f"{damaged}.json").write_bytes(b"\xff{")
    after = rates_of(of_shop, shop, LAST)
    assert measured == [damaged, late]
    changed = [a.day for a, b in zip(after, before, strict=True) if a != b]
    assert changed == [late]
    path.unlink()
    assert rates_of(of_shop, shop, LAST) == before


def test_a_day_without_events_is_not_judged(shop: Home, of_shop: Settings) -> None:
    assert check_behaviour(of_shop, shop, LAST + timedelta(days=1)) is None
    assert check_behaviour(of_shop, shop, LAST - timedelta(days=400)) is None


def test_what_is_kept_names_nobody(shop: Home, of_shop: Settings) -> None:
    rates_of(of_shop, shop, LAST)
    kept = json.loads((shop.quality / NAME / "2024-05-31.json").read_bytes())
    assert set(kept) == {"inputs", "rates"}
    assert "user-" not in json.dumps(kept)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def checked(shop: Home, instance: dg.DagsterInstance, day: date, now: datetime) -> dg.AssetCheckEvaluation:
    runtime = Runtime(Settings(home=shop.root), shop, lambda: now, lambda *_: frozenset())
    job = build_definitions(runtime, (click_group(),)).resolve_job_def(LAKE)
    result = job.execute_in_process(partition_key=day.isoformat(), instance=instance)
    [found] = [e for e in result.get_asset_check_evaluations() if e.check_name == BEHAVIOUR]
    return found


def test_the_check_warns_in_dagster_and_leads_to_its_page(shop: Home, instance: dg.DagsterInstance) -> None:
    found = checked(shop, instance, LAST, datetime(2024, 6, 1, 1, tzinfo=UTC))
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert (found.description or "").startswith("add_to_cart_per_click: 0.0")
    assert str(found.metadata["data_docs"].value).endswith("drift/behaviour/2024-05-31/index.html")
    assert (shop.docs / "drift" / NAME / "2024-05-31" / "sessions.png").exists()


def test_a_day_that_lasts_waits_for_its_evening(shop: Home, instance: dg.DagsterInstance) -> None:
    noon = datetime.combine(LAST - timedelta(days=WEEK - 1), datetime.min.time(), UTC) + timedelta(hours=12)
    found = checked(shop, instance, noon.date(), noon)
    assert found.passed
    assert str(found.metadata["data_docs"].value).endswith("2024-05-24/index.html")


def test_the_first_week_has_nothing_to_compare_with(
    shop: Home, instance: dg.DagsterInstance, home: Home
) -> None:
    first = LAST - timedelta(days=DAYS - 1)
    found = checked(shop, instance, first, datetime(2024, 6, 1, 1, tzinfo=UTC))
    assert (found.passed, found.description) == (True, "fewer than 7 previous days to compare with")
    write_events(Lake(home.lake), LAST, day_events(LAST, 20))
    found = checked(home, instance, LAST, datetime(2024, 5, 31, 12, tzinfo=UTC))
    assert found.description == "no events of 2024-05-30, the last finished day"
    assert not Path(home.quality / NAME).exists()
