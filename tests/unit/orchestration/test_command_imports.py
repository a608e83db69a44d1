"""What everyday commands may load: a heavy module costs from a tenth of a second to seconds of processor."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from feature_repo.errors import ContractError
from feature_repo.home import Home
from feature_repo.online import open_store
from feature_repo.settings import Settings
from quality.quarantine.store import Quarantine
from tests.support.command_imports import ARRAYS, PLATFORM, loaded


@pytest.fixture
def used_home(home: Home) -> Home:
    """A home with a rejected record, a heartbeat store and a gate that was never asked."""
    error = ContractError("not_json", "", "no JSON")
    held = Quarantine(home.quarantine, lambda: datetime(2024, 6, 1, tzinfo=UTC))
    held.put(b"{", "f", 1, error)
    store = open_store(Settings(home=home.root), home)
    store.put_marks({"mark": b"1"})
    store.close()
    return home


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["flags", "get"], '"personalization": true'),
        (["flags", "set", "personalization=false"], "personalization: true → false"),
        (["flags", "history"], "exit code 0"),
        (["status"], "no heartbeat yet"),
        (["key", "shop", "--scope", "rank"], "add to HEADRACE_API_KEYS"),
        (["quarantine", "list"], "not_json: 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_everyday_command_loads_neither_the_platform_nor_arrays(
    used_home: Home, arguments: list[str], says: str
) -> None:
    found, said = loaded(used_home.root, (*PLATFORM, *ARRAYS), arguments)
    assert says in said
    assert found == set()


def test_the_check_sees_what_is_loaded(used_home: Home) -> None:
    found, _ = loaded(used_home.root, ("typer", *PLATFORM), ["quarantine", "retry"])
    assert "typer" in found
    assert "duckdb" in found
