"""Reference pages rendered from the declarations: one per feature group, one for the settings, an index."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from feature_repo.group import FeatureGroup
from feature_repo.groups import all_groups
from feature_repo.settings import ENV_PREFIX, Settings
from quality.checks.suites import Rule, Suite, group_suite
from quality.checks.wording import wanted_text
from serving.scoring.rankers import all_rankers
from serving.scoring.signal import Each, Signal
from serving.scoring.signal_groups import GROUPS
from serving.scoring.signals import all_signals
from streaming.sources.formats import format_names, format_of

_NOTE = "<!-- Written by `headrace docs`; change the declaration, not this page. -->\n"


def pages() -> dict[str, str]:
    """Render every page, keyed by file name."""
    groups = all_groups()
    found = {f"{name}.md": group_page(group) for name, group in groups.items()}
    others = {"signals.md": signals_page(), "rankers.md": rankers_page(), "formats.md": formats_page()}
    return {**found, **others, "settings.md": settings_page(), "README.md": _index(groups)}


def write_pages(folder: Path) -> list[Path]:
    """Write the pages that changed and remove the pages of groups that no longer exist.

    Returns:
        the paths that were written or removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {folder / name: text for name, text in pages().items()}
    changed = []
    for path in folder.glob("*.md"):
        if path not in wanted and path.read_text(encoding="utf-8").startswith(_NOTE):
            path.unlink()
            changed.append(path)
    for path, text in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return sorted(changed)


def signals_page() -> str:
    """List all ranking signals by group, with their formulas."""
    rows = [
        f"| {signal.group} | `{signal.name}` | {_members(signal)} | {signal.formula.replace('|', '&#124;')} |"
        for signal in sorted(all_signals().values(), key=lambda s: GROUPS.index(s.group))
    ]
    return "\n".join(
        [
            _NOTE,
            "# Ranking signals",
            "",
            "From `serving/scoring/signals/`; [statistics](statistics.md) defines the letters.",
            "",
            "| group | signal | one for each | value |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def rankers_page() -> str:
    """All simple rules."""
    rows = [
        f"| `{ranker.name}` | {ranker.sentence} | `{ranker.signal}` |" for ranker in all_rankers().values()
    ]
    return "\n".join(
        [
            _NOTE,
            "# Simple rules",
            "",
            "One file each in `serving/scoring/rankers/`; [signals](signals.md) says how each is computed.",
            "",
            "| ranker | what it does | signal |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def formats_page() -> str:
    """List all file formats."""
    rows = [(f"`{name}`", format_of(name).sentence) for name in format_names()]
    text = (
        "# File formats\n\nFor `headrace ingest --format NAME` and `headrace evaluate --format NAME`. One "
        "file each in `streaming/sources/formats/`; a [mapping](../how-to/ingest-events.md#your-own-export) "
        "reads files of other shapes.\n"
    )
    return "\n".join([_NOTE, text, _table(("format", "reads"), rows), ""])


def _members(signal: Signal) -> str:
    return signal.members.value if isinstance(signal.members, Each) else ", ".join(signal.members)


def group_page(group: FeatureGroup) -> str:
    """Describe one feature group: its purpose, its columns and their checks."""
    suite = group_suite(group)
    kept = "by the stream, event by event" if group.batch is None else "as a batch, built by Dagster"
    depends = ", ".join(f"[{name}]({name}.md)" for name in group.depends_on) or "the lake only"
    facts = [
        ("entity", f"{group.entity.name}: {group.entity.meaning}"),
        ("key", f"`{group.entity.join_key}`"),
        ("Feast view", f"`{group.view_name}`"),
        ("version", str(group.version)),
        ("kept", kept),
        ("reads", depends if group.batch is not None else "the event log"),
        ("counts as stale after", _span(group.freshness)),
        ("a row counts as absent after", _span(group.ttl)),
    ]
    rows = [(f"`{f.name}`", f.dtype.value, f.unit, f.meaning, _checks(suite, f.name)) for f in group.features]
    whole = [
        f"- {_of(rule)}{wanted_text(rule, suite)}{_warns(rule)}"
        for rule in suite.rules
        if len(rule.columns) != 1 or rule.columns[0] not in group.feature_names
    ]
    return "\n".join(
        [
            _NOTE,
            f"# {group.name}\n\n{group.meaning}\n",
            _table(("", ""), facts),
            "\n## Features\n",
            _table(("feature", "type", "unit", "meaning", "checked"), rows),
            "\n## Checks on whole rows\n",
            *whole,
            "",
        ]
    )


def settings_page() -> str:
    """List every setting with its default, type and meaning."""
    rows = [
        (f"`{ENV_PREFIX}{name.upper()}`", _default(field), _type(field), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    text = (
        "# Settings\n\nEvery setting is an environment variable. A value that does not fit stops the command "
        "at startup with a message that names the variable.\n"
    )
    return "\n".join([_NOTE, text, _table(("variable", "default", "type", "meaning"), rows), ""])


def _index(groups: Mapping[str, FeatureGroup]) -> str:
    rows = [(f"[{n}]({n}.md)", g.entity.name, len(g.features), g.meaning) for n, g in sorted(groups.items())]
    return "\n".join(
        [
            _NOTE,
            "# Reference\n\n[Settings](settings.md), [formats](formats.md), [signals](signals.md), "
            "[rules](rankers.md); groups:\n",
            _table(("group", "entity", "features", "holds"), rows),
            "",
        ]
    )


def _checks(suite: Suite, feature: str) -> str:
    return "; ".join(f"{wanted_text(r, suite)}{_warns(r)}" for r in suite.rules if r.columns == (feature,))


def _of(rule: Rule) -> str:
    return ", ".join(f"`{column}`" for column in rule.columns) + (": " if rule.columns else "")


def _warns(rule: Rule) -> str:
    return " (warning)" if rule.severity == "warn" else ""


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines)


def _span(span: timedelta) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if span.total_seconds() % size == 0:
            return f"{span.total_seconds() / size:g} {unit}"
    return f"{span.total_seconds():g} s"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    elif isinstance(value, Enum):
        value = value.value
    elif isinstance(value, Mapping):
        value = ",".join(f"{k}={v:g}" for k, v in value.items())
    elif isinstance(value, tuple):
        value = list(value)  # the environment takes it as JSON
    elif hasattr(value, "isoformat"):
        value = value.isoformat()
    return f"`{value}`" if str(value) else "(empty)"


def _type(field: FieldInfo) -> str:
    annotation = field.annotation
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    if text.startswith("typing.Literal"):
        return re.sub(r"typing\.Literal\[(.*)\]", r"\1", text).replace("'", "").replace(", ", " or ")
    names = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Path": "path"}
    names |= {"datetime": "ISO 8601 time", "SecretStr": "text, never logged"}
    if text in names:
        return names[text]
    return "name=number, …" if "dict" in text else "numbers" if "tuple" in text else "text"
