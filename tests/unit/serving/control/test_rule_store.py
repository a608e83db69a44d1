"""The versions of the rules, and the copy that a start takes if file and log are gone."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from feature_repo.clock import wall_clock
from feature_repo.errors import SettingsError
from serving.control.rule_store import RuleStore
from serving.control.rules import AtMost, Demote, Exclude, Pin, Rules

ONE = {"kind": "exclude", "name": "one", "items": ["i1"]}
ONE_READ = Rules((Exclude(name="one", items=("i1",)),))


@pytest.fixture
def store(tmp_path: Path) -> RuleStore:
    return RuleStore(tmp_path / "flags", wall_clock, tmp_path / "kept")


def declare(store: RuleStore, *rules: Mapping[str, object]) -> None:
    store.root.mkdir(exist_ok=True)
    store.path.write_text(json.dumps({"rules": rules}))


def copies(store: RuleStore) -> list[str]:
    return sorted(p.name for p in kept(store).glob("[!.]*"))


def kept(store: RuleStore) -> Path:
    return store.root.parent / "kept"


def break_it(path: Path) -> None:
    path.write_text("{ broken")
    path.with_name("rules-audit.jsonl").unlink()


def spoil_both(path: Path) -> None:
    path.unlink()
    path.with_name("rules-audit.jsonl").unlink()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [(break_it, "not valid JSON"), (spoil_both, r"rules\.json and its log are gone; put them back")],
)
def test_a_start_on_a_spoilt_file_finds_the_last_rules(
    store: RuleStore, spoil: Callable[[Path], None], says: str
) -> None:
    declare(store, ONE)
    assert store.load() == ONE_READ
    spoil(store.path)
    started = RuleStore(store.root, wall_clock, kept(store))
    with pytest.raises(SettingsError, match=says):
        started.load()
    assert started.last_good() == ONE_READ


def test_no_file_and_none_ever(store: RuleStore) -> None:
    assert store.load() == Rules()
    assert store.last_good() is None
    assert copies(store) == []


def test_an_end_to_the_rules_is_declared(store: RuleStore) -> None:
    declare(store, ONE)
    store.load()
    declare(store)
    assert store.load() == Rules()
    assert (store.last_good(), copies(store)) == (Rules(), [])
    store.path.unlink()
    assert store.load() == Rules()
    assert [change.who for change in store.history()] == ["file", "file"]


def test_a_file_that_is_deleted_is_no_end_to_the_rules(store: RuleStore) -> None:
    declare(store, ONE)
    store.load()
    store.path.unlink()
    assert RuleStore(store.root, wall_clock, kept(store)).load() == ONE_READ
    assert json.loads(store.path.read_bytes())["rules"][0]["name"] == "one", "it is written again"


def test_rules_roll_back_and_say_who_changed_what(store: RuleStore) -> None:
    declare(store, ONE)
    store.load()
    store.update(lambda _: Rules((Exclude(name="two", items=("i2",)),)), "ann")
    assert [(c.who, sorted(c.differences())) for c in store.history()] == [
        ("file", ["rules.one"]),
        ("ann", ["rules.one", "rules.two"]),
    ]
    assert store.rollback("bob") == store.load() == ONE_READ
    assert store.rollback("bob") == Rules()
    with pytest.raises(SettingsError, match="there is no earlier one"):
        store.rollback("bob")


def test_every_kind_of_rule_survives_the_copy(store: RuleStore) -> None:
    declare(
        store,
        {"kind": "exclude", "name": "a", "items": ["i\u00e9"], "attributes": ["stock:none"], "bought": True},
        {"kind": "demote", "name": "b", "attributes": ["category:x"], "by": 3},
        {"kind": "at_most", "name": "c", "type": "brand", "count": 2, "first": 10},
        {"kind": "pin", "name": "d", "items": ["i2", "i3"], "position": 4},
    )
    rules = store.load()
    assert [type(rule) for rule in rules.rules] == [Exclude, Demote, AtMost, Pin]
    assert store.last_good() == rules
    assert copies(store) == ["rules.json"], "nothing is left aside"
    copy = kept(store) / "rules.json"
    before = copy.stat().st_ino
    assert store.load() == rules
    assert copy.stat().st_ino == before, "an unchanged copy is not written again"
    copy.replace(store.path)
    assert store.load() == rules, "the copy may be put in the place of the file"


def test_a_broken_file_does_not_touch_the_copy(store: RuleStore) -> None:
    declare(store, ONE)
    store.load()
    store.path.write_text(json.dumps({"rules": [{"kind": "exclude", "name": "all"}]}))
    with pytest.raises(SettingsError, match="matches nothing"):
        store.load()
    assert store.last_good() == ONE_READ


def test_a_copy_that_cannot_be_written_holds_nothing_up(
    store: RuleStore, caplog: pytest.LogCaptureFixture
) -> None:
    declare(store, ONE)
    store.root.with_name("kept").write_text("a file where the folder should be")
    with caplog.at_level(logging.ERROR):
        assert store.load() == ONE_READ
    assert "could not be copied for a later start" in caplog.text


def test_a_damaged_copy_is_said(store: RuleStore) -> None:
    declare(store, ONE)
    store.load()
    (kept(store) / "rules.json").write_text("{")
    assert store.last_good() == ONE_READ, "the log has it"
    (store.root / "rules-audit.jsonl").unlink()
    with pytest.raises(SettingsError, match="not valid JSON"):
        store.last_good()
    assert store.load() == ONE_READ
    assert store.last_good() == ONE_READ, "the next good load mends it"


def test_a_folder_that_is_gone_is_no_end_to_the_rules(store: RuleStore) -> None:
    """As a volume that was not mounted: here, and for a worker that starts meanwhile."""
    declare(store, ONE)
    store.load()
    shutil.rmtree(store.root)
    for reader in (store, RuleStore(store.root, wall_clock, kept(store))):
        with pytest.raises(SettingsError, match="gone; put them back"):
            reader.load()
        assert reader.last_good() == ONE_READ


def test_rules_that_could_not_be_copied_do_not_end_with_their_file(store: RuleStore) -> None:
    declare(store, ONE)
    store.root.with_name("kept").write_text("a file where the folder should be")
    assert store.load() == ONE_READ
    store.path.unlink()
    assert store.load() == ONE_READ
