"""Event types that come with data are known to every later process."""

from __future__ import annotations

from pathlib import Path

import pytest

from feature_repo.contract.event_types import register, registered
from feature_repo.errors import SettingsError
from feature_repo.home import Home
from feature_repo.settings import Settings, load_settings, with_registered


def test_types_registered_are_loaded_with_the_settings(home: Home) -> None:
    assert registered(home.root) == {}
    register(home.root, {"bookmark": 2.0})
    register(home.root, {"follow": 3.0})
    assert registered(home.root) == {"bookmark": 2.0, "follow": 3.0}
    weights = load_settings(home=home.root).weights
    assert (weights["bookmark"], weights["follow"], weights["click"]) == (2.0, 3.0, 1.0)


def test_what_is_known_keeps_its_weight(home: Home) -> None:
    register(home.root, {"bookmark": 2.0})
    register(home.root, {"bookmark": 9.0})
    assert registered(home.root) == {"bookmark": 2.0}


def test_settings_win_over_what_came_with_the_data(home: Home) -> None:
    register(home.root, {"bookmark": 2.0})
    settings = Settings(home=home.root, event_weights={"bookmark": 7.0})
    assert with_registered(settings).weights["bookmark"] == 7.0


def test_settings_without_a_home_are_left_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "none")
    assert with_registered(settings) is settings
    assert with_registered(settings, {"x": 1.0}).weights["x"] == 1.0


@pytest.mark.parametrize("content", ["{", "[]", '{"a": "b"}'])
def test_a_damaged_file_is_named(home: Home, content: str) -> None:
    (home.root / "event_types.json").write_text(content)
    with pytest.raises(SettingsError, match=r"event_types\.json: unreadable .*or be deleted"):
        load_settings(home=home.root)


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot write .*point HEADRACE_HOME at a writable folder"):
        register(tmp_path / "none", {"x": 1.0})
