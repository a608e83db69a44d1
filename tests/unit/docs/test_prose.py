"""The check of prose finds what it should, and nothing in the repository."""

from __future__ import annotations

import pytest

from tests.support import prose


def test_the_repository_reads_well() -> None:
    assert prose.check() == []


@pytest.mark.parametrize("text", ["It is built anew.", "The file stands there.", "It is reckoned by user."])
def test_a_phrase_that_must_not_return_is_found_with_its_line(text: str) -> None:
    [(line, _, better)] = prose.findings(f"First line.\n{text}")
    assert line == 2
    assert better


@pytest.mark.parametrize("text", ["NDCG stands for a gain.", "A signal that stands alone.", "Renewed."])
def test_ordinary_words_pass(text: str) -> None:
    assert list(prose.findings(text)) == []


def test_code_is_not_prose_but_its_comments_and_strings_are() -> None:
    source = 'anew = 1  # built anew\ntext = """one\nstood"""\n'
    assert [(n, said) for n, said, _ in prose.findings(prose.prose_of(source))] == [(1, "anew"), (3, "stood")]


def test_a_page_of_long_sentences_is_unreadable() -> None:
    long = " ".join(["word"] * 60) + "."
    assert prose.unreadable("\n\n".join([long] * 6)) == (
        "median sentence 60 words (≤ 28), 100% over 45 words (≤ 15%)"
    )
    assert prose.unreadable("\n\n".join(["One short sentence is here."] * 6)) is None
    assert prose.unreadable(long) is None, "too few sentences to tell"


def test_code_tables_and_headings_are_no_sentences() -> None:
    page = "# A heading\n\n| a | b | c |\n\n    code in a block\n\n```\nmore code\n```\n\nOne real sentence."
    assert prose.sentences(page) == ["One real sentence."]
