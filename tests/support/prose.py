"""Checks the prose of docs, docstrings and comments: phrases that must not return, and long sentences.

python -m tests.support.prose        # lists each finding as file:line; exit code 1 if there is any
"""

from __future__ import annotations

import io
import re
import statistics
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = ("benchmarks", "feature_repo", "orchestration", "quality", "serving", "streaming", "tests")

PHRASES = {
    r"\banew\b": "again",
    r"\breckon(?:ed|s|ing)?\b": "compute",
    r"\bstood\b|\bstands (?!for\b|alone\b|in for\b)": "is",
    r"\bof elsewhere\b": "from other origins",
    r"\bby who (?!\))[a-z]+s\b": "by whoever",
    r"\bwhat is no\b": "what is not a",
    r"\bthe same of\b": "the same for",
    r"\bsuch of\b": "those of",
    r"\bto be had\b": "available",
    r"\bhowever often\b": "no matter how often",
}
"""Patterns of translated English, and what to write."""

MOST_WORDS = 28
"""Median words of a page's sentences, at most."""
LONGEST_SHARE = 0.15
"""Share of a page's sentences over `LONG` words, at most."""
LONG = 45


def findings(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line number, phrase and what to write for each phrase in a text."""
    for number, line in enumerate(text.splitlines(), start=1):
        for pattern, better in PHRASES.items():
            for found in re.finditer(pattern, line):
                yield number, found[0].strip(), better


def prose_of(source: str) -> str:
    """Return a module's comments and strings on their lines; everything else is blank."""
    lines = [""] * (source.count("\n") + 2)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in {tokenize.COMMENT, tokenize.STRING}:
            for offset, line in enumerate(token.string.splitlines()):
                lines[token.start[0] - 1 + offset] += line
    return "\n".join(lines)


def sentences(page: str) -> list[str]:
    """Return the sentences of a page, without code, tables and headings."""
    text = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    kept = [line for line in text.splitlines() if not re.match(r"(    |\t|\||#|<)", line)]
    blocks = re.split(r"\n\s*\n|\n(?=\s*[-*] |\s*\d+\. )", "\n".join(kept))
    flat = [re.sub(r"\]\([^)]*\)", "]", " ".join(block.split())) for block in blocks]
    return [s for block in flat for s in re.split(r"(?<=[.!?])\s+(?=[A-Z`\[*])", block) if len(s.split()) > 2]


def unreadable(page: str) -> str | None:
    """Say why a page is hard to read; `None` if it is not."""
    lengths = [len(sentence.split()) for sentence in sentences(page)]
    if len(lengths) < 5:
        return None
    median, share = statistics.median(lengths), sum(n > LONG for n in lengths) / len(lengths)
    if median <= MOST_WORDS and share <= LONGEST_SHARE:
        return None
    long = f"{share:.0%} over {LONG} words (≤ {LONGEST_SHARE:.0%})"
    return f"median sentence {median:g} words (≤ {MOST_WORDS}), {long}"


def check() -> list[str]:
    """Return all findings of the repository."""
    found = []
    pages = [*ROOT.glob("[A-Z]*.md"), *(ROOT / "docs").rglob("*.md")]
    for path in sorted(set(pages) - {ROOT / "CHANGELOG.md"}):
        page, name = path.read_text(), path.relative_to(ROOT)
        found += [f"{name}:{n}: {said!r}; write {better!r}" for n, said, better in findings(page)]
        if why := unreadable(page):
            found.append(f"{name}: {why}")
    for path in sorted(p for folder in CODE for p in (ROOT / folder).rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if path.name not in {"prose.py", "test_prose.py"}:
            hits = findings(prose_of(path.read_text()))
            found += [f"{name}:{n}: {said!r}; write {better!r}" for n, said, better in hits]
    return found


if __name__ == "__main__":
    problems = check()
    print("\n".join(problems))  # noqa: T201
    sys.exit(bool(problems))
