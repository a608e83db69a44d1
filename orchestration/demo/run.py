"""``headrace demo``: the main job end to end, on simulated or given data, with each step timed.

simulate → ingest → Dagster chain → stream and serving as processes → one session's ranking before and
after two clicks → evaluation → ``report.json``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from feature_repo.home import Home
from feature_repo.settings import Settings, with_registered
from orchestration.demo.home import (
    EMBEDDED,
    at_end_of_data,
    clean_folder,
    embedded,
    end_of_shop,
    events_by_type,
    note_end,
    open_command,
)
from orchestration.demo.scene import Moment, Scene, choose_scene, play, rank
from orchestration.processes.children import Children, headrace
from orchestration.processes.up import stream_is_ready, wait_for_serving
from serving.control.flag_store import FlagStore
from serving.scoring.blend import load_blend

READY_S = 240.0
LOOPBACK = {"host": "127.0.0.1", "api_keys": ""}
"""The demo's serving listens on loopback only, so it needs no API key."""
SPLIT, CANDIDATES, MAX_LISTS = 0.8, "popular:100:1h", 5_000
"""For the evaluation: share of history, candidates if nothing was shown, and the most lists to rank."""


@dataclass(frozen=True)
class DemoPlan:
    """The parameters of a demo.

    Attributes:
        data: files to ingest instead of a simulated shop, of format `fmt`.
        users, items, days, seed: of the simulated shop.
        evaluate: whether to run the evaluation.
    """

    data: Path | None = None
    fmt: str = "headrace"
    users: int = 2000
    items: int = 1000
    days: int = 14
    seed: int = 0
    evaluate: bool = True


@dataclass
class DemoReport:
    """The results of a demo; `write` saves them as ``report.json``."""

    events: int = 0
    items: int = 0
    users: int = 0
    quarantined: int = 0
    duplicates: int = 0
    by_type: Mapping[str, int] = field(default_factory=dict)
    features: Mapping[str, int] = field(default_factory=dict)
    click_to_ranking_ms: float | None = None
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    open_with: str = ""

    def ndcg(self) -> dict[str, str]:
        """Return NDCG@10 by arm, with the paired difference to popularity and its 95 % interval."""
        texts = {}
        for arm in self.evaluation.get("arms", ()):
            texts[arm["name"]] = f"{arm['ndcg_10']['mean']:.3f}"
            if versus := arm["versus"].get("popularity"):
                interval = f"[{versus['low']:+.3f}, {versus['high']:+.3f}]"
                texts[arm["name"]] += f"  ({versus['mean']:+.3f} {interval} against popularity)"
        return texts

    def write(self, path: Path) -> None:
        """Write the report as JSON."""
        path.write_text(json.dumps(self.__dict__, indent=2, default=str) + "\n")


@dataclass(frozen=True)
class Progress:
    """Callbacks for the demo's progress; the command line prints what they receive.

    Attributes:
        step: called when a step has ended, with its name, its seconds and a one-line result.
        scene: called with the session's rankings before and after the clicks.
        scene: the rankings of the session around its clicks.
    """

    step: Callable[[str, float, str], None]
    scene: Callable[[Scene, Moment, Moment], None]


def demo(settings: Settings, plan: DemoPlan, progress: Progress) -> DemoReport:
    """Run everything in ``<home>/demo``, which is emptied first; `DemoReport.open_with` opens it later.

    Raises:
        DemoError: the folder holds something else, or the data have no event.
        SceneError: the data have no session to show, or the clicks did not change the ranking.
        HeadraceError: a step failed.
    """
    folder = clean_folder(settings.home / "demo")
    settings = embedded(settings.model_copy(update={"home": folder}))
    report = DemoReport()
    run = _Demo(settings, plan, progress, report)
    started = time.monotonic()
    run.fill_lake()
    run.settings = at_end_of_data(with_registered(settings))
    run.build_features()
    run.show_session()
    if plan.evaluate:
        run.evaluate()
    report.seconds["total"] = round(time.monotonic() - started, 2)
    note_end(folder)
    report.open_with = open_command(run.settings)
    report.write(folder / "report.json")
    return report


class _Demo:
    """The steps, in the order of `demo`."""

    def __init__(self, settings: Settings, plan: DemoPlan, progress: Progress, report: DemoReport) -> None:
        self.settings = settings
        self._plan = plan
        self._progress = progress
        self._report = report
        self._data = (plan.data or settings.home / "shop.jsonl.gz", plan.fmt if plan.data else "headrace")

    @contextmanager
    def _step(self, name: str) -> Iterator[list[str]]:
        """Time a step; report the lines added to the yielded list when it ends."""
        said: list[str] = []
        start = time.monotonic()
        yield said
        seconds = time.monotonic() - start
        self._report.seconds[name] = round(seconds, 2)
        self._progress.step(name, seconds, " ".join(said))

    def fill_lake(self) -> None:
        from streaming.ingest.files import ingest  # noqa: PLC0415
        from streaming.simulator import ShopConfig, simulate  # noqa: PLC0415

        plan, report = self._plan, self._report
        path, fmt = self._data
        if plan.data is None:
            with self._step("simulate") as said:
                config = ShopConfig(
                    plan.users, plan.items, plan.days, plan.seed, end=end_of_shop(self.settings.clock())
                )
                counts = simulate(config, path)
                said.append(
                    f"{counts.lines:,} lines of {plan.users:,} users, {plan.items:,} items, {plan.days} days"
                )
        with self._step("ingest") as said:
            taken = ingest([path], fmt, self.settings)
            report.events = taken.kinds["event"].accepted
            report.items = taken.kinds["item"].accepted
            report.users = taken.kinds["user"].accepted
            report.quarantined, report.duplicates = taken.quarantined, taken.duplicate
            report.by_type = events_by_type(self.settings)
            said.append(
                f"{taken.read:,} records read: {taken.accepted:,} accepted ({report.events:,} events, "
                f"{report.items:,} items, {report.users:,} users), {taken.duplicate:,} duplicate, "
                f"{taken.quarantined:,} quarantined"
            )

    def build_features(self) -> None:
        from orchestration.defs.run_chain import run_chain  # noqa: PLC0415

        with self._step("chain") as said:
            self._report.features = dict(run_chain(self.settings).rows)
            said.append(", ".join(f"{name} {rows:,}" for name, rows in self._report.features.items()))

    def show_session(self) -> None:
        settings = self.settings
        scene = choose_scene(settings)
        # Exploration would move items too and hide the effect of the clicks.
        flags = FlagStore(Home(settings.home).flags, settings.clock)
        flags.change({"exploration.share": 0.0, "holdout": 0.0}, "demo")
        with Children() as children:
            with self._step("start") as said:
                began = settings.clock()
                children.start(headrace("stream", ["stream"], settings, stream_metrics_port=0, **EMBEDDED))
                serve = headrace("serving", ["serve", "--port", "0"], settings, **LOOPBACK, **EMBEDDED)
                serving = children.start(serve)
                address = wait_for_serving(children, serving, READY_S)
                assert address is not None
                children.wait_for("stream", lambda: stream_is_ready(settings, began), READY_S)
                said.append(f"stream and serving on {address}")
            with self._step("session") as said, httpx.Client(base_url=address, timeout=5) as client:
                said.append(self._play(client, scene, children))
        flags.rollback("demo")  # the home's next user gets the defaults

    def _play(self, client: httpx.Client, scene: Scene, children: Children) -> str:
        blend = load_blend(Home(self.settings.home).models)
        if blend is None or blend.kind != "fitted":
            before = rank(client, scene)
            self._progress.scene(scene, before, before)
            why = "no blend was fitted" if blend is None else blend.gate.reason
            return f"clicks change nothing here ({why})"
        before, after, delay_ms = play(client, scene, self.settings.clock, children.check)
        self._report.click_to_ranking_ms = round(delay_ms, 1)
        self._progress.scene(scene, before, after)
        return f"two clicks changed the ranking in {delay_ms:.0f} ms"

    def evaluate(self) -> None:
        import msgspec  # noqa: PLC0415

        from orchestration.evaluation.evaluate import Plan, evaluate  # noqa: PLC0415
        from orchestration.evaluation.history import read_history  # noqa: PLC0415
        from orchestration.evaluation.ranking_tasks import parse_candidates  # noqa: PLC0415

        with self._step("evaluate") as said:
            path, fmt = self._data
            plan = Plan(SPLIT, parse_candidates(CANDIDATES), MAX_LISTS)
            history = read_history(path, fmt, self.settings)
            found = evaluate(history, self.settings, plan, data=path.name, fmt=fmt)
            self._report.evaluation = msgspec.to_builtins(found)
            said.append(f"{found.test_lists:,} test rankings since {found.test_from:%Y-%m-%d %H:%M} UTC")
