"""Flags: checked, changed, audited, rolled back."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.settings import Settings
from serving.bootstrap import scoring_stages
from serving.control.flag_store import FlagStore
from serving.control.flags import Flags, FlagsError, changed, encode_flags, parse_flags, version_of
from serving.schemas.rank_response import Tier


@pytest.fixture
def store(tmp_path: Path, clock: Callable[[], datetime]) -> FlagStore:
    return FlagStore(tmp_path / "flags", clock)


def test_defaults_before_anything_is_set(store: FlagStore) -> None:
    assert store.load() == Flags()
    assert store.history() == []
    assert not store.root.exists(), "reading writes nothing"


def test_a_set_survives_its_file() -> None:
    flags = changed(
        Flags(), {"weights": {"session": 0.5}, "cap.positions": 3, "tiers": ["long_term", "base"]}
    )
    assert parse_flags(encode_flags(flags)) == flags
    assert flags.cap.positions == 3
    assert flags.tiers == (Tier.LONG_TERM, Tier.BASE)
    assert version_of(flags) != version_of(Flags())
    assert version_of(flags) == version_of(parse_flags(encode_flags(flags)))


@pytest.mark.parametrize(
    ("raw", "field", "says"),
    [
        (b'{"personalisation": false}', "", "known flags are personalization"),
        (b'{"personalization": 1}', "personalization", "Expected `bool`"),
        (b'{"weights": {"sesion": 1}}', "weights", "groups are base, item, long_term, segment, session"),
        (b'{"weights": {"session": -1}}', "weights[...]", ">= 0"),
        (b'{"tiers": ["best"]}', "tiers[0]", "Invalid enum value 'best'"),
        (b'{"decision_share": 2}', "decision_share", "<= 1"),
        (b'{"cap": {"positions": -1}}', "cap.positions", ">= 0"),
        (b'{"cap": {"position": 1}}', "cap", "known flags are cap.positions, cap.share"),
        (b"{", "", "headrace flags rollback"),
        (b"[]", "", "Expected `object`"),
    ],
)
def test_what_cannot_be_is_refused_by_name(raw: bytes, field: str, says: str) -> None:
    with pytest.raises(FlagsError) as caught:
        parse_flags(raw)
    assert caught.value.field == field
    assert says in str(caught.value)


def test_a_path_into_what_holds_no_flags() -> None:
    with pytest.raises(FlagsError, match="personalization holds no further flags"):
        changed(Flags(), {"personalization.x": 1})


def test_a_change_is_written_and_audited(store: FlagStore, clock: Callable[[], datetime]) -> None:
    after = store.change({"personalization": False}, "ann")
    assert store.load() == after
    assert not after.personalization
    (change,) = store.history()
    assert (change.version, change.who, change.when) == (1, "ann", clock())
    assert change.differences() == {"personalization": (True, False)}
    store.change({"cap.positions": 5, "weights": {"session": 2.0}}, "b")
    assert store.history()[-1].differences() == {
        "weights.session": (None, 2.0),
        "cap.positions": (200, 5),
    }


def test_a_change_that_is_refused_changes_nothing(store: FlagStore) -> None:
    store.change({"decision_share": 0.5}, "ann")
    with pytest.raises(FlagsError):
        store.change({"decision_share": 5}, "ann")
    assert store.load().decision_share == 0.5
    assert len(store.history()) == 1


def test_setting_what_stands_is_no_change(store: FlagStore) -> None:
    store.change({"personalization": True}, "ann")
    assert store.history() == []


def test_an_edit_of_the_file_is_adopted_once(store: FlagStore) -> None:
    store.change({"decision_share": 0.5}, "ann")
    store.path.write_text(json.dumps({"decision_share": 0.25}))
    assert store.load().decision_share == 0.25
    assert store.load().decision_share == 0.25
    assert [c.who for c in store.history()] == ["ann", "file"]
    assert store.history()[-1].differences() == {"decision_share": (0.5, 0.25)}


def test_an_edit_is_adopted_before_the_next_change(store: FlagStore) -> None:
    store.root.mkdir(parents=True)
    store.path.write_text(json.dumps({"decision_share": 0.25}))
    store.change({"personalization": False}, "ann")
    assert [c.who for c in store.history()] == ["file", "ann"]
    assert store.load() == Flags(decision_share=0.25, personalization=False)


def test_rollback_walks_back(store: FlagStore) -> None:
    for share in (0.1, 0.2, 0.3):
        store.change({"decision_share": share}, "ann")
    assert [store.rollback("bob").decision_share for _ in range(3)] == [0.2, 0.1, 1.0]
    with pytest.raises(FlagsError, match="no earlier one"):
        store.rollback("bob")
    assert store.load() == Flags()
    assert [c.who for c in store.history()] == ["ann"] * 3 + ["bob"] * 3


def test_rollback_then_change_then_rollback(store: FlagStore) -> None:
    store.change({"decision_share": 0.1}, "ann")
    store.change({"decision_share": 0.2}, "ann")
    store.rollback("bob")
    store.change({"decision_share": 0.4}, "ann")
    assert store.rollback("bob").decision_share == 0.1


def test_rollback_of_nothing(store: FlagStore) -> None:
    with pytest.raises(FlagsError, match="nothing was ever changed"):
        store.rollback("bob")


def test_rollback_of_a_malformed_file_brings_the_last_good_set_back(store: FlagStore) -> None:
    store.change({"decision_share": 0.5}, "ann")
    store.path.write_text("{ broken")
    assert store.rollback("bob").decision_share == 0.5
    assert store.load().decision_share == 0.5


def test_a_file_that_is_gone_changes_nothing(store: FlagStore) -> None:
    store.change({"decision_share": 0.5}, "ann")
    store.change({"personalization": False}, "ann")
    store.path.unlink()
    assert not store.load().personalization
    assert store.path.exists(), "the file is restored from the log"
    assert len(store.history()) == 2, "it is no edit"
    assert store.rollback("bob").personalization, "a rollback returns to the previous set, as always"


def test_a_change_while_the_file_is_gone_is_one_of_what_stood(store: FlagStore) -> None:
    store.change({"personalization": False}, "ann")
    store.path.unlink()
    assert store.change({"holdout": 0.2}, "ann") == Flags(personalization=False, holdout=0.2)
    assert store.load() == Flags(personalization=False, holdout=0.2)
    assert [c.who for c in store.history()] == ["ann", "ann"]


def test_the_last_good_set_is_the_one_last_noted(store: FlagStore) -> None:
    assert store.last_good() is None
    store.root.mkdir()
    store.path.write_text("{")
    assert store.last_good() is None
    store.path.write_text('{"holdout": 0.2}')
    assert store.last_good() is None, "no process has seen it yet"
    store.load()
    store.path.write_text("{")
    assert store.last_good() == Flags(holdout=0.2)


def test_what_the_cap_bounds_is_said(tmp_path: Path) -> None:
    """Later stages may move an item farther, so the descriptions must say that only the blend is limited."""
    names = [stage.name for stage in scoring_stages(Settings(home=tmp_path))]
    after = names[names.index("cap") + 1 :]
    assert {"diversity", "exploration", "rules"} <= set(after)
    assert names[: names.index("cap")] == ["blend"]
    schema = msgspec.json.schema(Flags)["$defs"]
    said = schema["Flags"]["properties"]["cap"]["description"]
    assert said == "How far the blend may move an item; diversity, exploration and rules run afterwards."
    assert "the blend" in schema["Cap"]["properties"]["positions"]["description"]


def test_changes_of_many_at_once_are_all_kept(store: FlagStore) -> None:
    groups = ["base", "item", "long_term", "segment", "session"]

    def change(number: int) -> None:
        store.change({f"weights.{groups[number % 5]}": float(number)}, f"w{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(change, range(1, 41)))
    changes = store.history()
    assert [c.version for c in changes] == list(range(1, 41))
    assert all(a.after == b.before for a, b in pairwise(changes))
    assert store.load() == changes[-1].after


def outcome(changes: dict[str, Any]) -> Flags | FlagsError:
    try:
        return changed(Flags(), changes)
    except FlagsError as error:
        return error


@given(
    st.dictionaries(
        st.text(max_size=20), st.none() | st.booleans() | st.floats() | st.text(max_size=5), max_size=3
    )
)
def test_whatever_is_set_is_taken_or_refused(changes: dict[str, Any]) -> None:
    found = outcome(changes)
    if isinstance(found, FlagsError):
        assert str(found).startswith("flags: ")
    else:
        assert parse_flags(encode_flags(found)) == found


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"exploration.share": 0.05}, "exploration", "0 turns it off, otherwise use 0.1 … 0.2"),
        ({"exploration.share": 0.5}, "exploration.share", "<= 0.2"),
        ({"experiments": [{"name": "holdout", "arms": {"a": {}, "b": {}}}]}, "experiments", "another name"),
        (
            {"experiments": [{"name": n, "arms": {"a": {}, "b": {}}} for n in ("x", "y")]},
            "experiments",
            "overlap in layer 'main'",
        ),
    ],
)
def test_what_stages_refuse_is_refused_here(changes: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(FlagsError) as caught:
        changed(Flags(), changes)
    assert caught.value.field == field
    assert says in str(caught.value)
