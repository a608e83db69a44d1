"""The pages on serving say what the code does: every code it may answer, its defaults, bodies it takes."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import reduce
from itertools import chain
from operator import getitem
from pathlib import Path
from textwrap import dedent
from typing import Any

import msgspec
import pytest

from feature_repo.clock import wall_clock
from feature_repo.contract.validation import Contract
from feature_repo.groups import all_groups
from feature_repo.settings import Settings
from orchestration.commands.control import _assignment
from serving.api.events import records_of
from serving.bootstrap import scoring_stages
from serving.control.flags import Flags, changed
from serving.control.rules import parse_rules
from serving.schemas.rank_request import RequestDecoder

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
ONCALL = (DOCS / "how-to/on-call.md").read_text()
CONTRACT = (DOCS / "reference/contract.md").read_text()
CODES = (DOCS / "reference/codes.md").read_text()
SETTINGS = (DOCS / "reference/serving-settings.md").read_text()
FLAGS = (DOCS / "how-to/change-flags-and-rules.md").read_text()
SERVING = (DOCS / "explanation/serving.md").read_text()
PAGES = [
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.name != "add-a-feature.md"),
]
SPAN = re.compile(r"`([a-z][a-z0-9_]*|<stage>_[a-z]+)`")

PLACEHOLDERS = {
    "stage.name": ["<stage>"],
    "what": [group.ranked_as for group in all_groups().values() if group.ranked_as],
    "name": ["items", "neighbours"],
}
"""What a code that is put together contains, by the expression."""
ONE_STAGE_ONLY = {"<stage>_late": "features_late", "<stage>_open": "blend_open"}
"""Only one stage waits for something, and only one has a breaker."""
NEVER = {"session_stale", "recent_stale", "items", "neighbours"}
"""What the stream writes is as fresh as the stream (`stream_stale`); and names that codes are made of."""


class Codes(ast.NodeVisitor):
    """The codes that a module hands to calls of some names, or to arguments of some names."""

    def __init__(self, tree: ast.Module, calls: dict[str, int], keywords: frozenset[str]) -> None:
        self._calls, self._keywords = calls, keywords
        self._held: dict[str, ast.expr] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self._held.setdefault(node.targets[0].id, node.value)
        self.found: set[str] = set()
        self.visit(tree)

    def visit_Call(self, node: ast.Call) -> None:
        place = self._calls.get(_called(node))
        if place is not None and len(node.args) > place:
            self.found |= set(self._texts(node.args[place]))
        for keyword in node.keywords:
            if keyword.arg in self._keywords:
                self.found |= set(self._texts(keyword.value))
        self.generic_visit(node)

    def _texts(self, node: ast.expr) -> Iterator[str]:
        """The texts an expression may be; of a call, those it is given."""
        match node:
            case ast.Constant(value=str(text)):
                yield text
            case ast.Constant() | ast.Attribute():  # no code; or one that was made elsewhere, and found there
                return
            case ast.JoinedStr(values=values):
                yield from _spelled(values)
            case ast.IfExp(body=one, orelse=other):
                yield from chain(self._texts(one), self._texts(other))
            case ast.Name(id=name):
                yield from self._texts(self._held[name]) if name in self._held else ()
            case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Dict(values=parts):
                pairs = [part.elts[-1] if isinstance(part, ast.Tuple) else part for part in parts]
                yield from chain.from_iterable(map(self._texts, pairs))
            case ast.Call(func=ast.Attribute(value=held), args=args):
                yield from chain(self._texts(held), *map(self._texts, args[1:]))
            case ast.Call(func=ast.Name(id="next"), args=[ast.GeneratorExp(generators=[loop]), other]):
                yield from chain(self._texts(loop.iter), self._texts(other))
            case _:
                pytest.fail(f"a code that the test cannot read: {ast.unparse(node)}")


def _called(node: ast.Call) -> str:
    """Name of what is called; of `append` with what is appended to."""
    match node.func:
        case ast.Attribute(value=ast.Attribute(attr="codes"), attr="append"):
            return "codes.append"
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def _spelled(values: list[ast.expr]) -> Iterator[str]:
    texts = [""]
    for value in values:
        if isinstance(value, ast.FormattedValue):
            fills = PLACEHOLDERS[ast.unparse(value.value)]
        else:
            fills = [str(value.value)] if isinstance(value, ast.Constant) else []
        texts = [text + fill for text in texts for fill in fills]
    yield from texts


def codes_of(folders: str, calls: dict[str, int], *keywords: str) -> set[str]:
    found: set[str] = set()
    for folder in folders.split():
        for path in sorted((ROOT / folder).rglob("*.py")):
            found |= Codes(ast.parse(path.read_text()), calls, frozenset(keywords)).found
    return found


def section(page: str, title: str) -> str:
    begin = page.index(f"## {title}\n")
    end = page.find("\n## ", begin)
    return page[begin:end] if end > 0 else page[begin:]


def first_cells(text: str) -> list[str]:
    return [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]


def spans(text: str) -> set[str]:
    return set(SPAN.findall(text))


DEGRADED = {
    ONE_STAGE_ONLY.get(code, code)
    for code in codes_of(
        "serving", {"degrade": 0, "settle": 0, "codes.append": 0, "_from_copies": 1, "in_time": 3}, "degraded"
    )
} - NEVER
STAGES = ["consent", "flags", "arm", "features", *(stage.name for stage in scoring_stages(Settings()))]


def test_the_codes_are_found_in_the_code() -> None:
    some = {"overload", "store_late", "store_failing", "user_stale", "<stage>_failed", "client_fallback"}
    assert some <= DEGRADED
    assert "<stage>_late" not in DEGRADED


def test_every_degraded_code_is_documented_and_no_other() -> None:
    assert spans("".join(first_cells(section(CODES, "Codes in `degraded`")))) == DEGRADED


def test_who_is_on_call_finds_every_code_and_every_stage() -> None:
    named = spans("".join(first_cells(ONCALL)))
    assert DEGRADED - {"<stage>_failed"} - named == set()
    assert {f"{stage}_failed" for stage in STAGES} - named == set()
    assert {n for n in named if n.endswith("_failed") and n.removesuffix("_failed") not in STAGES} == set()


def test_the_pipeline_is_the_one_that_runs() -> None:
    line = next(line for line in SERVING.splitlines() if line.startswith("    consent →"))
    assert line.strip().removesuffix(" → answer, record").split(" → ") == STAGES


def test_every_error_code_is_documented_and_no_other() -> None:
    named = spans(section(CODES, "Errors")) - {"error", "code", "field", "message"}
    assert named == codes_of("serving", {"ApiError": 1}) - {""}


def test_every_reason_for_a_rejection_is_documented() -> None:
    calls = {"ContractError": 0}
    assert codes_of("feature_repo streaming", calls) <= spans(section(CONTRACT, "Reasons for a rejection"))


def test_every_reason_for_a_lost_record_is_documented() -> None:
    reasons = codes_of("serving", {"_on_dropped": 0})
    assert {"queue_full", "broken", "shutdown"} <= reasons
    row = next(line for line in ONCALL.splitlines() if "`headrace_decisions_dropped_total` rises" in line)
    assert reasons <= spans(row)


def test_metrics_exist() -> None:
    sources = "".join(
        path.read_text()
        for name in ("serving", "quality", "streaming")
        for path in (ROOT / name).rglob("*.py")
    )
    named = set(re.findall(r"headrace_[a-z_]+[a-z]", SERVING + CODES + FLAGS + ONCALL))
    missing = [
        n for n in sorted(named) if not {n, n.removesuffix("_total")} & set(re.findall(r'"(\w+)"', sources))
    ]
    assert missing == []


def defaults() -> Iterator[tuple[str, str]]:
    """Settings and defaults, as the table gives them: several to a row, the later names cut short."""
    for line in SETTINGS.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        names = re.findall(r"`(?:HEADRACE|…)_([A-Z_]+)`", cells[1]) if line.startswith("|") else []
        values = cells[2].split(", ") if names else []
        assert len(names) == len(values), line
        yield from zip(names, values, strict=True)


def read(text: str) -> Any:
    """A default as people write it."""
    text = text.strip("`").replace(",", "")
    if text == "none":
        return ""
    if text.endswith(" MiB"):
        return float(text.removesuffix(" MiB")) * 2**20
    return {"true": True, "false": False}.get(text, text)


@pytest.mark.parametrize(("name", "value"), list(defaults()))
def test_defaults_of_settings_are_those_of_the_code(name: str, value: str) -> None:
    default = Settings.model_fields[name.lower()].get_default(call_default_factory=True)
    default = getattr(default, "get_secret_value", lambda: default)()
    wanted = read(value)
    assert (float(wanted) if isinstance(default, int | float) else wanted) == default


# What browsers open, told by docs/how-to/build-features.md and the reference.
ELSEWHERE = {
    "api_url",
    "asset_owners",
    "dagster_port",
    "dagster_url",
    "docs_port",
    "docs_url",
    "feast_url",
    "ui_host",
    "ui_names",
}


def test_the_settings_of_serving_are_all_in_the_table() -> None:
    named = {name.lower() for name, _ in defaults()}
    fields = list(Settings.model_fields)
    serving_s = set(fields[fields.index("host") : fields.index("log_level")])
    assert serving_s - ELSEWHERE <= named


def test_defaults_of_flags_are_those_of_the_code() -> None:
    rows = {
        cells[1].strip(): cells[2].strip()
        for cells in (line.split("|") for line in FLAGS.splitlines())
        if len(cells) > 3
    }
    flags = Flags()
    assert rows["`personalization`"] == msgspec.json.encode(flags.personalization).decode()
    assert rows["`cap.positions`, `cap.share`"] == f"{flags.cap.positions}, null"
    assert flags.cap.share is None
    assert rows["`diversity.*`"] == f"relevance {flags.diversity.relevance}"
    assert rows["`exploration.share`, `.slots`"] == f"{flags.exploration.share}, {flags.exploration.slots}"
    assert rows["`experiments`, `holdout`"] == f"none, {flags.holdout}"
    assert rows["`decision_share`"] == f"{flags.decision_share:g}"
    named = {name.split(".")[0] for name in re.findall(r"`([a-z_]+)[.`]", " ".join(rows))}
    assert named == {field.name for field in msgspec.structs.fields(Flags)}


CURL = re.compile(
    r"^ {4}(curl -s \S*?(/v1/rank|/v1/events) -d '.*?[}\]]')(?=\s*(?:#|$))", re.DOTALL | re.MULTILINE
)
POSTS = [
    pytest.param(command, path, id=f"{page.name}-{path}-{n}")
    for page in PAGES
    for n, (command, path) in enumerate(CURL.findall(page.read_text()))
]
BASH = shutil.which("bash")


def body_of(command: str) -> bytes:
    """The body as the shell hands it to curl, quotes and dates done."""
    assert BASH is not None
    script = f'curl() {{ while [ $# -gt 0 ]; do [ "$1" = -d ] && printf %s "$2"; shift; done; }}\n{command}'
    return subprocess.run([BASH, "-c", script], check=True, capture_output=True, timeout=30).stdout


def test_bodies_are_found() -> None:
    text = "".join(page.read_text() for page in PAGES)
    assert len(POSTS) == len(re.findall(r"curl[^\n]*/v1/(?:rank|events)[^\n]* -d", text))
    assert len(POSTS) >= 7


@pytest.mark.skipif(BASH is None, reason="needs bash")
@pytest.mark.parametrize(("command", "path"), POSTS)
def test_bodies_are_taken(command: str, path: str) -> None:
    body, settings = body_of(command), Settings()
    if path == "/v1/rank":
        assert RequestDecoder(settings).decode(body).candidates
        return
    contract = Contract(settings, wall_clock)
    for record in records_of(body):
        event: Any = contract.parse(record)
        age = datetime.now(UTC) - event.event_time
        assert age.total_seconds() < settings.session_ttl_s, "it would not reach a running session"


SET = re.compile(r"headrace flags set ([^`\n]*?)(?=\s*(?:#|`|$))", re.MULTILINE)
BARE = re.compile(
    rf"`((?:{'|'.join(field.name for field in msgspec.structs.fields(Flags))})(?:\.\w+)?=[^\s`]+)`"
)
CHANGES = sorted(
    {text for page in PAGES for text in [*SET.findall(page.read_text()), *BARE.findall(page.read_text())]}
)


def test_changes_are_found() -> None:
    assert {"personalization=false", "exploration.share=0", "'experiments=[]'"} <= set(CHANGES)


@pytest.mark.parametrize("text", CHANGES)
def test_changes_of_flags_are_taken(text: str) -> None:
    wanted = dict(map(_assignment, shlex.split(text)))
    found = msgspec.json.decode(msgspec.json.encode(changed(Flags(), wanted)))
    assert {path: reduce(getitem, path.split("."), found) for path in wanted} == wanted


def blocks(page: str) -> list[str]:
    """Indented blocks that begin with a brace."""
    text = (ROOT / "docs" / page).read_text()
    return [
        dedent(b) for b in re.findall(r"(?:^    .*\n)+", text, re.MULTILINE) if b.lstrip().startswith("{")
    ]


def test_rules_that_are_shown_are_taken() -> None:
    shown = [parse_rules(block.encode()) for block in blocks("explanation/ranking.md")]
    kinds = {type(rule).__name__ for rules in shown for rule in rules.rules}
    assert kinds == {"Exclude", "Demote", "AtMost", "Pin"}


def test_records_that_are_shown_are_taken() -> None:
    contract = Contract(Settings(), wall_clock)
    [block] = blocks("reference/contract.md")
    records = [contract.parse(text) for text in re.split(r"\n(?=\{)", block.strip())]
    assert [type(record).__name__ for record in records] == ["Item", "User", "Event", "Event"]
