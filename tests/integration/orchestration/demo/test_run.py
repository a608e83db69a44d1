"""The demo's own parts: its folder, its clock, the scene it chooses, what it says when nothing changes."""

from __future__ import annotations

import fcntl
import json
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from feature_repo.contract.validation import Contract, encode
from feature_repo.home import Home
from feature_repo.settings import Settings
from orchestration.demo.home import (
    DemoError,
    at_end_of_data,
    clean_folder,
    end_of_shop,
    events_by_type,
    note_end,
    open_command,
)
from orchestration.demo.run import DemoReport
from orchestration.demo.scene import Scene, SceneError, choose_scene, clicks, parts_of, play, rank
from orchestration.processes.up import demo_hint
from streaming.dataflow.service import lock
from streaming.ingest.files import ingest
from streaming.simulator import ShopConfig, simulate

CONFIG = ShopConfig(users=200, items=60, days=2, seed=3)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("demo")
    settings = Settings(home=folder / "home")
    simulate(CONFIG, folder / "shop.jsonl.gz")
    ingest([folder / "shop.jsonl.gz"], "headrace", settings)
    return settings


def test_the_folder_is_emptied_only_if_it_is_the_demos(tmp_path: Path) -> None:
    folder = clean_folder(tmp_path / "demo")
    (folder / "report.json").write_text("{}")
    assert [p.name for p in clean_folder(folder).iterdir()] == [".headrace-demo"]
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.tex").touch()
    with pytest.raises(DemoError, match=r"mine: holds files that are not the demo's; .*HEADRACE_HOME"):
        clean_folder(other)
    assert (other / "thesis.tex").exists()


def test_a_demo_that_took_events_since_is_moved_aside(tmp_path: Path, filled: Settings) -> None:
    folder = clean_folder(tmp_path / "demo")
    shutil.copytree(filled.home, folder, dirs_exist_ok=True)
    note_end(folder)
    clean_folder(folder)
    assert [p.name for p in tmp_path.iterdir()] == ["demo"], "only the demo's: emptied"
    shutil.copytree(filled.home, folder, dirs_exist_ok=True)
    note_end(folder)
    mine = tmp_path / "mine.jsonl"
    mine.write_text(
        '{"record":"event","event_id":"mine","event_type":"view","event_time":1700000000000,"session_id":"s",'
        '"item_id":"i"}'
    )
    ingest([mine], "headrace", filled.model_copy(update={"home": folder}))
    clean_folder(folder)
    [kept] = tmp_path.glob("demo-*")
    assert any((kept / "lake").rglob("*.parquet"))
    assert [p.name for p in folder.iterdir()] == [".headrace-demo"]


def test_a_demo_on_which_a_stream_runs_is_not_touched(tmp_path: Path) -> None:
    folder = clean_folder(tmp_path / "demo")
    held = lock(folder / "stream", fcntl.LOCK_SH)
    with pytest.raises(DemoError, match=r"demo: `headrace up` or .* runs on it; stop it first"):
        clean_folder(folder)
    held.close()
    assert clean_folder(folder) == folder


def test_data_near_the_present_need_no_other_clock(filled: Settings) -> None:
    now = at_end_of_data(filled).clock()
    late = (now + timedelta(hours=3) - datetime.now(UTC)).total_seconds()
    near = filled.model_copy(update={"clock_offset_s": late})
    assert at_end_of_data(near) is near
    assert CONFIG.end - end_of_shop(CONFIG.end) == timedelta(hours=1)


def test_the_command_that_opens_it_says_what_differs(
    filled: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [".venv/bin/headrace", "demo"])
    plain = filled.model_copy(update={"home": Path("var/demo")})
    assert open_command(plain) == "HEADRACE_HOME=var/demo .venv/bin/headrace up"
    then = plain.model_copy(update={"home": Path("my home"), "clock_offset_s": -86_400.4})
    assert open_command(then) == (
        "HEADRACE_HOME='my home' HEADRACE_CLOCK_OFFSET_S=-86400 .venv/bin/headrace up"
    )
    monkeypatch.setenv("HEADRACE_EVENT_LOG", "redis")
    assert "HEADRACE_EVENT_LOG=segments .venv" in open_command(plain)


def test_an_empty_home_beside_a_demo_says_how_to_open_the_demo(tmp_path: Path, filled: Settings) -> None:
    settings = Settings(home=tmp_path)
    assert demo_hint(settings, Home(tmp_path)) == ""
    clean_folder(tmp_path / "demo")
    assert f"HEADRACE_HOME={tmp_path}/demo " in demo_hint(settings, Home(tmp_path))
    (tmp_path / "demo" / "report.json").write_text('{"open_with": "THE COMMAND"}')
    assert demo_hint(settings, Home(tmp_path)).endswith("\n    THE COMMAND")
    shutil.copytree(filled.home / "lake", tmp_path / "lake")
    assert demo_hint(settings, Home(tmp_path)) == "", "it has data of its own"


def test_the_clock_is_at_the_end_of_the_data(filled: Settings) -> None:
    now = at_end_of_data(filled).clock()
    assert CONFIG.end - timedelta(hours=6) < now < CONFIG.end + timedelta(hours=2)


def test_without_events_there_is_no_demo(settings: Settings) -> None:
    with pytest.raises(DemoError, match="no event was accepted"):
        at_end_of_data(settings)
    assert events_by_type(settings) == {}


def test_events_are_counted_by_type(filled: Settings) -> None:
    counted = events_by_type(filled)
    assert {"impression", "click", "search"} <= set(counted)
    assert list(counted.values()) == sorted(counted.values(), reverse=True)


def test_the_scene_clicks_two_items_of_one_category(filled: Settings) -> None:
    scene = choose_scene(filled)
    assert scene.user_id.startswith("u")
    assert len(set(scene.candidates)) == len(scene.candidates) == 40
    assert len(scene.clicked) == 2
    assert all(scene.clicked_group in scene.groups[item] for item in scene.clicked)
    assert all(scene.titles[item] for item in scene.candidates)
    assert choose_scene(filled) == scene


def test_the_scene_needs_no_categories(settings: Settings, tmp_path: Path) -> None:
    lines = [
        {
            "record": "event", "event_id": f"e{n}", "event_type": "view", "event_time": 1_700_000_000_000 + n,
            "session_id": "s", "user_id": "u", "item_id": f"i{n % 4}",
        }
        for n in range(9)
    ]  # fmt: skip
    path = tmp_path / "bare.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    ingest([path], "headrace", settings)
    scene = choose_scene(settings)
    assert scene.candidates == ("i0", "i1", "i2", "i3")
    assert (scene.clicked_group, scene.clicked) == ("", ("i2", "i3"))


def test_no_user_or_too_few_items_make_no_scene(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text(
        '{"record":"event","event_id":"e","event_type":"view","event_time":1700000000000,"session_id":"s",'
        '"item_id":"i"}'
    )
    ingest([path], "headrace", settings)
    with pytest.raises(SceneError, match="have no user or fewer than three items"):
        choose_scene(settings)


def test_the_scene_is_of_a_user_who_may_be_personalized(settings: Settings, tmp_path: Path) -> None:
    """The most active one denied in a record, the next in the events."""
    lines: list[dict[str, object]] = [{"record": "user", "user_id": "a", "consent": False}]
    for user, count, said in (("a", 9, True), ("b", 6, False), ("c", 3, None)):
        lines += [
            {
                "record": "event", "event_id": f"{user}{n}", "event_type": "view", "consent": said,
                "event_time": 1_700_000_000_000 + n, "session_id": user, "user_id": user, "item_id": f"i{n}",
            }
            for n in range(count)
        ]  # fmt: skip
    path = tmp_path / "some.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    ingest([path], "headrace", settings)
    assert choose_scene(settings).user_id == "c"
    with pytest.raises(SceneError, match="have no user"):
        choose_scene(settings.model_copy(update={"consent_default": False}))


SCENE = Scene(
    user_id="u1",
    session_id="s1",
    candidates=("a", "b", "c"),
    titles=dict.fromkeys("abc", ""),
    groups={"a": ("x",), "b": ("y",), "c": ("y",)},
    clicked=("b", "c"),
    clicked_group="y",
)


class FakeServing:
    """Answers as serving does; the order turns on the `turns_at`-th ranking."""

    def __init__(self, turns_at: int, refuse: bool = False, tier: str = "session+long_term") -> None:
        self.turns_at = turns_at
        self.tier = tier
        self.refuse = refuse
        self.rankings = 0
        self.posted: list[dict[str, Any]] = []
        self.asked: list[tuple[str, dict[str, str]]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if request.url.path == "/v1/events":
            self.posted = body
            return httpx.Response(503, text="retry") if self.refuse else httpx.Response(202, json={})
        self.rankings += 1
        order = [c["item_id"] for c in body["candidates"]]
        if self.rankings >= self.turns_at:
            order.reverse()
        self.asked.append((body["request_id"], body["overrides"]))
        items = [{"item_id": i, "score": 1.0, "why": {"base": 0.4, "session": -0.6}} for i in order]
        return httpx.Response(
            200,
            json={"items": items, "tier": self.tier, "degraded": [], "ages": {}, "timings_ms": {}},
        )

    @property
    def client(self) -> httpx.Client:
        return httpx.Client(base_url="http://serving", transport=httpx.MockTransport(self))


def test_play_waits_until_the_order_has_changed(clock: Callable[[], datetime]) -> None:
    serving, checked = FakeServing(turns_at=4), []
    before, after, delay_ms = play(serving.client, SCENE, clock, lambda: checked.append(1))
    assert before.order == ("a", "b", "c")
    assert after.order == ("c", "b", "a")
    assert delay_ms > 0
    assert len(checked) == 3
    assert [e["item_id"] for e in serving.posted] == ["b", "c"]
    assert parts_of(after) == ["session", "base"]
    assert set(map(str, serving.asked)) == {str(("s1-ranking", {"holdout": "out"}))}


def test_play_says_so_when_nothing_changes(clock: Callable[[], datetime]) -> None:
    serving = FakeServing(turns_at=10**9)
    with pytest.raises(
        SceneError, match=r"two clicks did not change the ranking within 0.05 s \(tier session"
    ):
        play(serving.client, SCENE, clock, deadline_s=0.05)


def test_a_change_that_is_not_the_sessions_does_not_count(clock: Callable[[], datetime]) -> None:
    serving = FakeServing(turns_at=2, tier="long_term")
    with pytest.raises(SceneError, match="tier long_term"):
        play(serving.client, SCENE, clock, deadline_s=0.05)


def test_a_refused_request_is_reported_verbatim(clock: Callable[[], datetime]) -> None:
    with pytest.raises(SceneError, match="POST /v1/events: 503 retry"):
        play(FakeServing(2, refuse=True).client, SCENE, clock)


def test_clicks_are_valid_events_in_order(settings: Settings, clock: Callable[[], datetime]) -> None:
    made = [Contract(settings, clock).parse(event) for event in clicks(SCENE, clock())]
    assert [encode(e) for e in made]
    times = [e.event_time for e in made]  # type: ignore[union-attr]
    assert times == sorted(times)
    assert times[-1] == datetime(2024, 6, 1, 12, tzinfo=UTC)


def test_rank_asks_with_reasons_and_in_base_order() -> None:
    moment = rank(FakeServing(turns_at=9).client, SCENE)
    assert moment.order == SCENE.candidates
    assert moment.tier == "session+long_term"


def test_the_report_is_json(tmp_path: Path) -> None:
    report = DemoReport(events=5, features={"user_profile": 3}, seconds={"total": 1.5})
    report.write(tmp_path / "report.json")
    written = json.loads((tmp_path / "report.json").read_text())
    assert {
        "events",
        "quarantined",
        "duplicates",
        "features",
        "click_to_ranking_ms",
        "evaluation",
        "seconds",
    } <= set(written)
    assert written["features"] == {"user_profile": 3}


def test_the_summary_tells_each_arm_and_its_difference_to_popularity() -> None:
    versus = {"popularity": {"mean": 0.1219, "low": 0.1061, "high": 0.1372}}
    report = DemoReport(
        evaluation={
            "arms": [
                {"name": "popularity", "ndcg_10": {"mean": 0.49}, "versus": {}},
                {"name": "blend", "ndcg_10": {"mean": 0.6114}, "versus": versus},
            ]
        }
    )
    assert report.ndcg() == {
        "popularity": "0.490",
        "blend": "0.611  (+0.122 [+0.106, +0.137] against popularity)",
    }
    assert DemoReport().ndcg() == {}
