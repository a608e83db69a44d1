"""A mapping read from TOML: what it becomes, and errors that name file, key and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from feature_repo.errors import SourceError
from streaming.mapping.model import EventType, Value
from streaming.mapping.reading import parse_mapping, read_mapping
from streaming.mapping.saved import by_name, format_of, mapping_of

EVENT = '[event]\nevent_type = "a"\nevent_time = "t"\nsession_id = "s"\n'


def test_a_mapping() -> None:
    found = parse_mapping(
        EVENT + 'item_id = ["sku", { column = "nr", prefix = "n-" }]\nproperties = ["page", "device.kind"]\n'
        '[event_types]\nlook = "view"\nwish = { type = "wishlist", weight = 2 }\n"*" = { skip = true }\n',
        "m.toml",
    )
    (section,) = found.sections
    assert section.fields["item_id"] == (Value(("sku",)), Value(("nr",), prefix="n-"))
    assert section.fields["event_id"] == (Value(hash=True),)
    assert section.room == {"page": (Value(("page",)),), "kind": (Value(("device.kind",)),)}
    assert found.event_types["*"] == EventType(None)
    assert found.weights == {"wishlist": 2.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[event", "m.toml: not TOML"),
        ("", "m.toml: has no section; write at least [event], [item] or [user]"),
        ("[evnt]\n", "m.toml: evnt: unknown; .* did you mean event?"),
        ('[event]\nevent_type = "a"\n', "m.toml: [event] event_time: absent; write event_time ="),
        (EVENT + 'event_tme = "x"\n', "m.toml: [event] event_tme: unknown; .* did you mean event_time?"),
        (EVENT + "item_id = 5\n", "m.toml: [event] item_id: 5; write a column"),
        (EVENT + "item_id = []\n", "m.toml: [event] item_id: an empty list; name at least one column"),
        (EVENT + 'item_id = ""\n', "m.toml: [event] item_id: an empty column name"),
        (EVENT + 'item_id = { colum = "a" }\n', "m.toml: [event] item_id: colum: unknown; .* mean column?"),
        (EVENT + 'item_id = { prefix = "a" }\n', "m.toml: [event] item_id: has no source; add column"),
        (EVENT + 'item_id = { column = "a", hash = 1 }\n', "item_id: hash: 1; should be true or false"),
        (EVENT + 'item_id = { column = "a", zone = "UTC" }\n', "item_id: zone: is for times"),
        (EVENT + 'item_id = { column = "a", value = "b" }\n', "has a column and a value; for a fallback"),
        (EVENT.replace('"t"', '{ column = "t", format = "epoch" }'), "format: 'epoch'; one of iso, epoch_s"),
        (EVENT.replace('"t"', '{ column = "t", zone = "Mars" }'), "zone: 'Mars' is unknown; write e.g."),
        (EVENT + "properties = 5\n", "[event] properties: should be a list of columns"),
        (EVENT + 'when = "x"\n', "[event] when: should be { column"),
        (EVENT + '[event_types]\nx = "Big"\n', "[event_types] 'x': type 'Big'; a type has small letters"),
        (EVENT + '[event_types]\nx = { type = "view", weight = 9 }\n', "HEADRACE_EVENT_WEIGHTS=view=9"),
        (
            EVENT + '[event_types]\nx = { type = "wish", weight = -1 }\n',
            "weight -1; should be a number from 0",
        ),
        ('header = "x"\n' + EVENT, "m.toml: header: 'x'; only \"typed\" is known"),
        ("columns = 5\n" + EVENT, "m.toml: columns: 5; should be a list of names"),
    ],
)
def test_errors_name_key_and_remedy(text: str, message: str) -> None:
    with pytest.raises(SourceError) as error:
        parse_mapping(text, "m.toml")
    said = str(error.value)
    place = 0
    for part in message.split(" .* "):
        assert part in said[place:], said
        place = said.index(part, place) + len(part)


def test_no_file_and_no_preset(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="neither a file nor a preset; presets are ga4"):
        by_name("ga5")
    with pytest.raises(SourceError, match=r"absent.toml: cannot read \(No such file"):
        read_mapping(tmp_path / "absent.toml")


def test_a_saved_copy_outlives_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mapping.toml"
    path.write_text(EVENT)
    fmt = format_of(str(path), tmp_path / "saved")
    path.unlink()
    assert mapping_of(fmt, tmp_path / "saved") == parse_mapping(EVENT, "")
    (tmp_path / "saved" / f"{fmt.removeprefix('map:')}.toml").unlink()
    with pytest.raises(SourceError, match="the saved mapping is gone"):
        mapping_of(fmt, tmp_path / "saved")
