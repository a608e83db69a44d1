"""What the demo shows: both orders, the reasons, the figures; readable in a narrow terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from orchestration.commands.demo import label, rankings_table, summary_table, why_table
from orchestration.demo.run import DemoReport
from orchestration.demo.scene import Moment, Scene

SCENE = Scene(
    user_id="u1",
    session_id="s1",
    candidates=("a", "b", "c"),
    titles={"a": "red shoes of a kind", "b": "Léon", "c": ""},
    groups={"a": ("shoes",), "b": ("crime", "drama", "more"), "c": ()},
    clicked=("b", "c"),
    clicked_group="crime",
)


def moment(*order: str) -> Moment:
    none = {"item": 0.0, "long_term": 0.0, "segment": 0.0, "diversity": 0.0}
    items = tuple(
        {"item_id": i, "score": 1.5 - n, "why": {"base": 2.0, "session": -0.5 - n, **none}}
        for n, i in enumerate(order)
    )
    return Moment(items, "session+long_term", (), {}, {})


def shown(table: object, width: int = 80) -> str:
    output = io.StringIO()
    Console(file=output, width=width).print(table)
    assert max(map(len, output.getvalue().splitlines())) <= width
    return output.getvalue()


@pytest.mark.parametrize(
    ("item", "text"),
    [("a", "a red shoes of a kind"), ("b", r"[bold]b Léon \[crime, drama][/bold]"), ("c", "c"), ("x", "x")],
)
def test_a_label_names_the_item_and_what_its_title_does_not_say(item: str, text: str) -> None:
    assert label(SCENE, item, 40) == text


def test_a_long_label_is_cut() -> None:
    assert label(SCENE, "a", 5) == "a re…"


def test_rankings_say_how_far_each_item_moved() -> None:
    lines = shown(rankings_table(SCENE, moment("a", "b", "c"), moment("c", "a", "b"))).splitlines()
    rows = [line.split() for line in lines if line.strip()[:1].isdigit()]
    assert rows[0][-1] == "+2"
    assert rows[1][-1] == "-1"
    assert len(rows) == 3


def test_reasons_sum_to_the_score() -> None:
    text = shown(why_table(SCENE, moment("a", "b")))
    assert "base" in text
    assert "1.50" in text
    assert "+2.00" in text
    assert "-0.50" in text
    assert all(heading in text for heading in ("long_term", "diversity", "segment"))


def test_the_summary_says_what_was_not_measured() -> None:
    report = DemoReport(events=84927, seconds={"total": 60.0})
    assert "84,927" in shown(summary_table(report))
    assert "not measured" in shown(summary_table(report))
    report.click_to_ranking_ms = 59.4
    assert "59 ms" in shown(summary_table(report))
