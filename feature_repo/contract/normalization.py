"""The one spelling of attribute text, by which all parts of the platform tell values apart."""

from __future__ import annotations

from unicodedata import normalize


def normalized(text: str) -> str:
    """Fold case and composition away: canonical caseless matching, Unicode 3.13 D145, in NFC.

    Upper and lower case, Greek final and medial sigma, and composed and decomposed letters come out equal;
    what came out goes in unchanged. Engines differ on these, so none of them changes case: DuckDB and Spark
    read what Python wrote beside the record, see `feature_repo.contract.columns`.
    """
    if text.isascii():
        return text.lower()
    return normalize("NFC", normalize("NFD", text).casefold())
