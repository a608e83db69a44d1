"""Serving's messages for invalid requests and files, word for word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from feature_repo.clock import wall_clock
from feature_repo.errors import BuildError, SettingsError
from feature_repo.settings import Settings
from serving.control.experiments import Arm, Experiment, check_experiments
from serving.control.flag_store import FlagStore
from serving.control.flags import Flags as FlagSet
from serving.control.flags import FlagsError, changed, parse_flags
from serving.control.rule_store import RuleStore
from serving.control.rules import Demote, Rules, parse_rules
from serving.decisions.replay import ReplayError, blend_of
from serving.schemas.errors import ApiError, too_large
from serving.schemas.metarank_shape import to_records, to_request
from serving.schemas.rank_request import RequestDecoder
from serving.scoring.blend import CURRENT, load_blend
from tests.conftest import NOW

A_RANKING = "a ranking is {id, items: [{id, relevancy}], user, session}"
DECODER = RequestDecoder(Settings(max_candidates=3, max_id_bytes=16))


def refusal(body: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        DECODER.decode(body if isinstance(body, bytes) else json.dumps(body).encode())
    return caught.value


def ids(*names: str) -> dict[str, Any]:
    return {"candidates": [{"item_id": name} for name in names]}


@pytest.mark.parametrize(
    ("body", "code", "field", "message"),
    [
        (
            ids("a", "b", "c", "d"),
            "too_many_candidates",
            "candidates",
            "candidates: 4 items; a request may hold 3 (HEADRACE_MAX_CANDIDATES)",
        ),
        (
            {**ids("a"), "session_id": "é" * 9},
            "id_too_long",
            "session_id",
            "session_id: 18 bytes; an id has at most 16 (HEADRACE_MAX_ID_BYTES)",
        ),
        (
            ids("a", "é" * 9),
            "id_too_long",
            "candidates[1].item_id",
            "candidates[1].item_id: 18 bytes; an id has at most 16 (HEADRACE_MAX_ID_BYTES)",
        ),
        (
            ids("a", "b", "a"),
            "duplicate_item",
            "candidates[2].item_id",
            "candidates[2].item_id: the same item as candidates[0]; send each item once",
        ),
        ([], "wrong_type", "", "body: expected `object`, got `array`"),
        (
            {**ids("a"), "limit": 0},
            "bad_value",
            "limit",
            "limit: expected `int` >= 1",
        ),
        (
            b"{",
            "not_json",
            "",
            "body: not valid JSON in UTF-8 (Input data was truncated); send one JSON object, "
            'e.g. {"candidates": [{"item_id": "i1"}]}',
        ),
    ],
)
def test_a_request_that_cannot_be(body: Any, code: str, field: str, message: str) -> None:
    found = refusal(body)
    assert (found.status, found.code, found.field, str(found)) == (422, code, field, message)
    problem = json.loads(found.body)["error"]
    assert (problem["code"], problem["field"], problem["message"]) == (code, field, message)


def test_requests_that_just_can_be() -> None:
    for body in (ids("a", "b", "c"), {**ids("é" * 8), "session_id": "x" * 16}):
        assert len(DECODER.decode(json.dumps(body).encode()).candidates) == len(body["candidates"])


def test_a_body_over_the_limit_says_both_sizes() -> None:
    found = too_large(2048, 1024)
    assert (found.status, str(found)) == (
        413,
        "body: 2048 bytes or more; the limit is 1024: send fewer candidates or events at once, "
        "or raise HEADRACE_MAX_BODY_BYTES",
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b'{"id": "r", "items": [{"id": 3}]}',
            f"items[0].id: Expected `str`, got `int`; {A_RANKING}",
        ),
        (
            b"[]",
            f"body: Expected `object`, got `array`; {A_RANKING}",
        ),
        (
            b"{",
            "body: not valid JSON in UTF-8 (Input data was truncated); send one ranking as a JSON object",
        ),
    ],
)
def test_a_ranking_of_metarank_that_cannot_be(body: bytes, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        to_request(body, explain=False, most=2000)
    assert (caught.value.status, str(caught.value)) == (422, message)


def test_feedback_of_metarank_that_cannot_be() -> None:
    with pytest.raises(ApiError) as caught:
        to_records(b"{", set())
    assert str(caught.value) == (
        "body: not valid JSON in UTF-8 (Input data was truncated); send one event object or an array of them"
    )
    with pytest.raises(ApiError, match=r"^body: neither an object nor an array; send one event object or an"):
        to_records(b"3", set())


# Flags, experiments, rules


def flags_error(raw: Any) -> str:
    with pytest.raises(FlagsError) as caught:
        parse_flags(raw)
    return str(caught.value)


def test_flags_that_cannot_be() -> None:
    groups = "base, item, long_term, segment, session"
    assert flags_error(b"{") == (
        "flags: not valid JSON (Input data was truncated); repair the file, or run `headrace flags rollback`"
    )
    assert flags_error({"weights": {"moon": 1.0}}).startswith(
        "flags: weights: 'moon' is not a signal group; "
    )
    assert set(groups.split(", ")) <= set(
        flags_error({"weights": {"moon": 1.0}}).split("groups are ")[1].split(", ")
    )
    with pytest.raises(
        FlagsError, match=r"^flags: cap\.positions\.deep: cap\.positions holds no further flags$"
    ):
        changed(FlagSet(), {"cap.positions.deep": 1})


def test_an_arm_cannot_change_what_is_the_same_for_all_arms() -> None:
    arms = {"a": {"flags": {"holdout": 0.5}}, "b": {}}
    assert flags_error({"experiments": [{"name": "x", "arms": arms}]}) == (
        "flags: experiments: x: a: holdout is the same for all arms"
    )


def test_experiments_that_cannot_be() -> None:
    arms = {"a": Arm(), "b": Arm()}
    with pytest.raises(SettingsError) as caught:
        Experiment(name="x", arms=arms, start=0.5, stop=0.25)
    assert str(caught.value) == "experiments: x: start 0.5 must be below stop 0.25"
    first, second = (
        Experiment(name=n, arms=arms, start=s, stop=e) for n, s, e in (("x", 0, 0.5), ("y", 0.25, 1))
    )
    with pytest.raises(SettingsError) as caught:
        check_experiments([second, first])
    assert str(caught.value) == (
        "experiments: x and y overlap in layer 'main' (0.25 < 0.5); give them disjoint ranges or layers"
    )


def test_a_version_that_the_audit_log_lost(tmp_path: Path) -> None:
    """A torn line in the middle: the set of that version is not guessed."""
    store = FlagStore(tmp_path, lambda: NOW)
    for share in (0.1, 0.2, 0.3):
        store.change({"holdout": share}, "ann")
    audit = tmp_path / "audit.jsonl"
    lines = audit.read_bytes().splitlines(keepends=True)
    audit.write_bytes(lines[0] + lines[1][:40] + b"\n" + lines[2])
    with pytest.raises(FlagsError) as caught:
        store.rollback("ann")
    assert str(caught.value) == "flags: version 2 is no longer readable in audit.jsonl; set the value again"
    assert store.load().holdout == 0.3, "nothing was changed"


def test_rules_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        Rules((Demote(name="down", attributes=("shoes",)),))
    assert str(caught.value) == (
        "rules: 'down': 'shoes': write an attribute value as type:value, e.g. category:shoes"
    )
    with pytest.raises(SettingsError, match=r"^rules: not valid JSON \(Input data was truncated\)$"):
        parse_rules(b"{")
    store = RuleStore(tmp_path, wall_clock)
    store.path.write_bytes(b"{")
    with pytest.raises(SettingsError) as caught:
        store.load()
    assert str(caught.value) == f"{store.path}: rules: not valid JSON (Input data was truncated)"


# Blends


@pytest.mark.parametrize(
    ("content", "why"), [(b"{", "truncated"), (b"[]", "Expected"), (None, "No such file")]
)
def test_a_blend_that_cannot_be_read(tmp_path: Path, content: bytes | None, why: str) -> None:
    (tmp_path / CURRENT).write_text("blend-7.json")
    path = tmp_path / "blend-7.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BuildError) as caught:
        load_blend(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{path}: not a readable blend (")
    assert why in message
    assert message.endswith(f"); fit again, or name another file in {CURRENT}")
    (tmp_path / "blend-3.json").write_bytes(b"{}")
    with pytest.raises(ReplayError) as of_replay:
        blend_of(tmp_path, "7")
    message = str(of_replay.value)
    assert message.startswith(f"{path}: no readable blend (")
    assert why in message
    assert message.endswith("); there are: 3" if content is None else "); there are: 3, 7")


def test_the_way_back_from_a_first_file_that_is_broken_is_the_defaults(tmp_path: Path) -> None:
    store = FlagStore(tmp_path, lambda: NOW)
    store.path.write_bytes(b"{")
    assert store.rollback("ann") == FlagSet()
    assert store.load() == FlagSet()
    assert store.history() == [], "a set that was never in force is not a change"
