"""`docs/how-to/add-a-feature.md`, followed to the letter in a copy of the tree."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.e2e.conftest import ROOT, command, environment

pytestmark = [pytest.mark.timeout(280), pytest.mark.xdist_group("up")]
PAGE = ROOT / "docs" / "how-to" / "add-a-feature.md"
PACKAGES = ("feature_repo", "quality", "streaming", "serving", "orchestration")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = "localhost:8080"


def blocks(*kinds: str) -> list[tuple[str, str]]:
    """The fenced blocks of the page, in order, by kind."""
    return [(kind, text) for kind, text in BLOCK.findall(PAGE.read_text()) if kind in kinds]


def changed(text: str, hunk: str) -> str:
    """A file after one hunk: its unmarked lines stand in the file once, those with a plus are added."""
    lines = hunk.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if not line.startswith("+"))
    after = "".join(line[1:] for line in lines if not line.startswith("-"))
    assert text.count(before) == 1, f"occurs {text.count(before)} times in the file:\n{before}"
    return text.replace(before, after)


def apply(kind: str, block: str, tree: Path) -> None:
    """Make the change of a block, whose first line names the file."""
    head, _, body = block.partition("\n")
    path = tree / head.removeprefix("# ")
    if kind == "python":
        assert not path.exists()
        path.write_text(block)
        return
    text = path.read_text()
    for hunk in body.split("@@\n"):
        text = changed(text, hunk)
    path.write_text(text)


@contextmanager
def serving(environ: dict[str, str], tree: Path) -> Iterator[str]:
    """A server on a port of the system's choice; its address."""
    ran = subprocess.Popen(
        command("serve", "--port", "0"), cwd=tree, env=environ, stdout=subprocess.PIPE, text=True
    )
    assert ran.stdout is not None
    try:
        said = ""
        for line in ran.stdout:
            said += line
            if found := re.search(r"http://([\w.]+:\d+)", line):
                yield found[1]
                break
        else:
            pytest.fail(f"the server said no address: {said}")
    finally:
        ran.send_signal(signal.SIGINT)
        ran.wait(30)
        ran.stdout.close()


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the commands of the page print, by command; `home` and `tree` beside them."""
    folder = tmp_path_factory.mktemp("followed")
    tree, home = folder / "tree", folder / "home"
    tracked = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard", *PACKAGES], cwd=ROOT)
    for name in tracked.decode().split():
        if (ROOT / name).exists():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())
    for kind, block in blocks("diff", "python"):
        apply(kind, block, tree)
    script = tree / "bin" / "headrace"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m orchestration.cli "$@"\n')
    script.chmod(0o700)
    environ = environment(home, stream_metrics_port=0)
    environ |= {"PYTHONPATH": str(tree), "PATH": f"{script.parent}:{os.environ['PATH']}"}
    commands = [
        line for _, text in blocks("sh") for line in re.split(r"\n(?=curl|headrace|date|echo)", text.strip())
    ]
    offline = [line for line in commands if not line.startswith("curl") and "stream" not in line]
    online = commands[commands.index(offline[-1]) + 1 :]
    found = {line: _run(line, tree, environ) for line in offline}
    with serving(environ, tree) as address:
        for line in online:
            found[line] = _run(line.replace(ADDRESS, address), tree, environ)
    return {**found, "home": home, "tree": tree}


def _run(line: str, tree: Path, environ: dict[str, str]) -> str:
    ran = subprocess.run(
        ["bash", "-c", line], cwd=tree, env=environ, capture_output=True, text=True, timeout=200, check=False
    )
    assert ran.returncode == 0, f"{line}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def answer_of(answers: dict[str, Any], part: str) -> Any:
    [said] = [text for line, text in answers.items() if part in line]
    return json.loads(said)


def test_the_changed_tree_is_the_one_that_ran(answers: dict[str, Any]) -> None:
    assert (answers["tree"] / "feature_repo" / "services" / "ranking_v2.json").exists()
    assert not (ROOT / "feature_repo" / "services" / "ranking_v2.json").exists()


def test_every_new_feature_is_read_online(answers: dict[str, Any]) -> None:
    answer = answer_of(answers, "/v1/features")
    values = {
        name: column["values"][0]
        for name, column in zip(answer["metadata"]["feature_names"], answer["results"], strict=True)
    }
    assert values["item_profile__is_new"] in {True, False}
    assert 0 <= values["user_hours__evening_share"] <= 1
    assert values["session_profile__last_kind"] == "click"
    assert values["session_pace__events_per_minute"] == 1.0


def test_a_ranking_reads_and_records_the_new_groups(answers: dict[str, Any]) -> None:
    decision = answer_of(answers, "/v1/decisions")
    decision = decision.get("decision", decision)
    assert {"user", "session", "hours", "pace"} <= decision["features"].keys()
    assert decision["features"]["pace"]["values"] == {"events_per_minute": 1.0}
    assert decision["features"]["session"]["values"]["last_kind"] == "click"
    assert {"user_hours", "session_pace"} <= decision["ages"].keys()


def test_the_new_rule_ranks_by_the_new_signal(answers: dict[str, Any]) -> None:
    items = answer_of(answers, '"explain": true')["items"]
    shares = [item["why"]["item"] for item in items]
    assert shares == sorted(shares, reverse=True)
    assert len(set(shares)) == len(shares), "each item has another share"


def test_the_new_format_reads_its_file_and_quarantines_the_bad_line(answers: dict[str, Any]) -> None:
    [said] = [text for line, text in answers.items() if "clicklog" in line]
    assert re.search(r"events .* 1 │ +1 │", said), said
    assert re.search(r"bad_line .* 1 │$", said, re.MULTILINE), said


def test_the_backfill_writes_their_history(answers: dict[str, Any]) -> None:
    for group, column in (("session_pace", "events_per_minute"), ("session_profile", "last_kind")):
        [file] = (answers["home"] / "features" / group).glob("v1/as_of=*/data.parquet")
        table = pq.read_table(file)
        assert table.num_rows > 0
        assert table[column].null_count == 0


def test_a_hunk_that_does_not_fit_is_refused() -> None:
    with pytest.raises(AssertionError, match="occurs 0 times"):
        changed("a\nb\n", " c\n+d\n")
    assert changed("a\nb\n", " a\n+c\n b\n") == "a\nc\nb\n"
