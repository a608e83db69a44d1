"""The single normal form of attribute text, by which every part of the platform compares values."""

from __future__ import annotations

from unicodedata import normalize


def normalized(text: str) -> str:
    """Fold case and composition: canonical caseless matching, Unicode 3.13 D145, in NFC.

    Upper and lower case, Greek final and medial sigma, and composed and decomposed letters become equal; the
    result is unchanged by a second call. Engines differ here, so none of them changes case: DuckDB and Spark
    read what Python wrote beside the record (see `feature_repo.contract.columns`).
    """
    if text.isascii():
        return text.lower()
    return normalize("NFC", normalize("NFD", text).casefold())
