"""Each preset on a small file in the shape its source documents."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.contract.validation import Contract, Event, Item, Record, User
from feature_repo.errors import SourceError
from feature_repo.settings import Settings, with_registered
from streaming.mapping.saved import mapping_of, presets
from streaming.mapping.source import MappedSource
from streaming.sources import InputFile, open_source


def ga4(name: str, *items: dict[str, Any], **more: Any) -> dict[str, Any]:
    params = [
        {"key": "ga_session_id", "value": {"string_value": None, "int_value": 77, "float_value": None}},
        {"key": "page_location", "value": {"string_value": "https://shop.example/p"}},
    ]
    return {
        "event_name": name,
        "event_timestamp": "1714557600123456",
        "user_pseudo_id": "1.2",
        "event_params": params,
        "device": {"category": "mobile"},
        "items": list(items),
        **more,
    }


SEARCHED = {"event_params": [{"key": "search_term", "value": {"string_value": "lamp"}}]}
SHOE = {"item_id": "sku1", "item_name": "Shoe", "item_brand": "Acme", "item_category": "Shoes", "price": 9.5}
SOCK = {
    "item_id": "sku2",
    "item_name": "Sock",
    "item_category": "Wear",
    "item_category2": "Socks",
    "price": 2,
}
PRODUCT = {
    "product_id": "p1",
    "name": "Lamp",
    "category": "Light",
    "brand": "Acme",
    "price": 19,
    "position": 3,
}


def call(name: str, event: str | None, **more: Any) -> dict[str, Any]:
    properties = {"products": [PRODUCT, {**PRODUCT, "product_id": "p2"}]} if name == "order" else PRODUCT
    return {
        "type": "track" if event else "identify",
        "event": event,
        "messageId": f"m-{name}",
        "timestamp": "2024-05-01T10:00:00.000Z",
        "userId": "u1",
        "anonymousId": "a1",
        "properties": properties,
        **more,
    }


SNOWPLOW = "_com_snowplowanalytics_snowplow_ecommerce"
SAMPLES: dict[str, tuple[str, Any, list[tuple[str, str | None, str | None]]]] = {
    "ga4": (
        "events.json",
        [ga4("view_item", SHOE), ga4("purchase", SHOE, SOCK), ga4("scroll"), ga4("search", **SEARCHED)],
        [
            ("view", "sku1", "1.2.77"),
            ("purchase", "sku1", "1.2.77"),
            ("purchase", "sku2", "1.2.77"),
            ("search", None, "1.2:2024-05-01"),
        ],
    ),
    "snowplow": (
        "enriched.jsonl",
        [
            {
                "event_id": "e1",
                "event": "unstruct",
                "collector_tstamp": "2024-05-01T10:00:00.123Z",
                "domain_userid": "d1",
                "domain_sessionid": "s1",
                f"unstruct_event{SNOWPLOW}_snowplow_ecommerce_action_1": {"type": "add_to_cart"},
                f"contexts{SNOWPLOW}_product_1": [
                    {"id": "p1", "name": "Lamp", "category": "Home/Light", "price": 19.0, "brand": "Acme"}
                ],
            },
            {"event_id": "e2", "event": "page_ping", "collector_tstamp": "2024-05-01T10:00:10Z"},
        ],
        [("add_to_cart", "p1", "s1")],
    ),
    "segment": (
        "calls.jsonl",
        [
            call("view", "Product Viewed"),
            call("order", "Order Completed"),
            call("id", None, traits={"plan": "gold", "email": "a@b.example"}),
            call("other", "Button Pressed"),
        ],
        [
            ("view", "p1", "u1:2024-05-01"),
            ("purchase", "p1", "u1:2024-05-01"),
            ("purchase", "p2", "u1:2024-05-01"),
        ],
    ),
    "rudderstack": (
        "calls.jsonl",
        [
            call("view", "Product Viewed", context={"sessionId": 1714557600}),
            call("id", None, context={"traits": {"plan": "gold"}}),
        ],
        [("view", "p1", "1714557600")],
    ),
    "posthog": (
        "events.csv",
        "uuid,event,properties,distinct_id,timestamp\n"
        'e1,product_viewed,"{""$session_id"": ""s1"", ""product_id"": ""p1"", ""price"": 19}",'
        "u1,2024-05-01 10:00:00.123000+00:00\n"
        "e2,$pageview,{},u1,2024-05-01 10:00:01+00:00\n",
        [("view", "p1", "s1")],
    ),
    "rees46": (
        "2019-Oct.csv",
        "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
        "2019-10-01 00:00:00 UTC,view,44600062,2103807459595387724,home.light,acme,35.79,541312140,s1\n"
        "2019-10-01 00:00:01 UTC,cart,44600062,2103807459595387724,home.light,acme,35.79,541312140,s1\n"
        "2019-10-01 00:00:02 UTC,remove_from_cart,44600062,2103807459595387724,,,35.79,541312140,s1\n",
        [("view", "44600062", "s1"), ("add_to_cart", "44600062", "s1")],
    ),
    "retailrocket": (
        "events.csv",
        "timestamp,visitorid,event,itemid,transactionid\n"
        "1433221332117,257597,view,355908,\n1433224214164,992329,transaction,248676,4000\n",
        [("view", "355908", "257597:2015-06-02"), ("purchase", "248676", "992329:2015-06-02")],
    ),
    "yoochoose": (
        "yoochoose-clicks.dat",
        "1,2014-04-07T10:51:09.277Z,214536502,0\n1,2014-04-07T10:54:09.868Z,214536500,0\n",
        [("click", "214536502", "1"), ("click", "214536500", "1")],
    ),
    "yoochoose-buys": (
        "yoochoose-buys.dat",
        "420374,2014-04-06T18:44:58.314Z,214537888,12462,1\n",
        [("purchase", "214537888", "420374")],
    ),
    "otto": (
        "train.jsonl",
        [
            {
                "session": 12,
                "events": [
                    {"aid": 59625, "ts": 1661724000278, "type": "clicks"},
                    {"aid": 59625, "ts": 1661724058352, "type": "carts"},
                    {"aid": 1, "ts": 1661724109199, "type": "orders"},
                ],
            }
        ],
        [("click", "59625", "12"), ("add_to_cart", "59625", "12"), ("purchase", "1", "12")],
    ),
    "recbole": (
        "tiny.inter",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t881250949\n",
        [("view", "242", "196:1997-12-04")],
    ),
}


def read(preset: str, path: Path, settings: Settings) -> tuple[list[Record], MappedSource]:
    source = MappedSource(mapping_of(f"map:{preset}", None))
    contract = Contract(with_registered(settings, source.event_types), settings.clock)
    file = InputFile(path)
    (file,) = source.files(file)
    rows = list(source.rows(file, None))
    assert [row.error for row in rows if row.error] == []
    return [contract.parse(source.convert(row.raw, None)) for row in rows], source


def write(path: Path, content: Any) -> Path:
    text = content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
    path.write_text(text)
    return path


def test_every_preset_has_a_sample() -> None:
    assert set(SAMPLES) == set(presets())


@pytest.mark.parametrize("preset", SAMPLES)
def test_events(preset: str, tmp_path: Path, settings: Settings) -> None:
    name, content, wanted = SAMPLES[preset]
    records, _ = read(preset, write(tmp_path / name, content), settings)
    events = [r for r in records if isinstance(r, Event)]
    assert [(e.event_type, e.item_id, e.session_id) for e in events] == wanted
    assert len({e.event_id for e in events}) == len(events)


def test_ga4_gives_items_and_says_what_it_leaves_out(tmp_path: Path, settings: Settings) -> None:
    name, content, _ = SAMPLES["ga4"]
    records, source = read("ga4", write(tmp_path / name, content), settings)
    items = {r.item_id: r for r in records if isinstance(r, Item)}
    assert items["sku1"].attributes == {"brand": "Acme"}
    assert items["sku1"].price == 9.5
    assert items["sku2"].categories == ("Wear", "Socks")
    first = records[0]
    assert isinstance(first, Event)
    assert first.event_time.microsecond == 123456
    assert first.properties == {"page": "https://shop.example/p", "device": "mobile", "price": "9.5"}
    assert source.notes() == ("left out by the mapping: 1 rows (event type 'scroll')",)


@pytest.mark.parametrize("wrapped", [False, True], ids=["lists", "BigQuery's list wrapper"])
def test_ga4_in_parquet(wrapped: bool, tmp_path: Path, settings: Settings) -> None:
    row = {**ga4("purchase", SHOE, SOCK), "event_timestamp": 1714557600123456}
    if wrapped:
        row |= {n: {"list": [{"element": e} for e in row[n]]} for n in ("items", "event_params")}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "ga4.parquet")
    records, _ = read("ga4", tmp_path / "ga4.parquet", settings)
    events = [r for r in records if isinstance(r, Event)]
    assert [(e.item_id, e.session_id) for e in events] == [("sku1", "1.2.77"), ("sku2", "1.2.77")]


def test_rees46_gives_each_state_of_an_item_once(tmp_path: Path, settings: Settings) -> None:
    name, content, _ = SAMPLES["rees46"]
    records, _ = read("rees46", write(tmp_path / name, content), settings)
    items = [r for r in records if isinstance(r, Item)]
    assert items[0].categories == ("home", "light")
    assert items[0].price == 35.79
    # An id of 19 digits does not survive as a number: it stays text.
    assert items[0].attributes == {"brand": "acme", "category_id": "2103807459595387724"}
    assert len(items) == 2  # two views say the same; the last row lacks brand and category


def test_segment_takes_no_email(tmp_path: Path, settings: Settings) -> None:
    name, content, _ = SAMPLES["segment"]
    records, _ = read("segment", write(tmp_path / name, content), settings)
    assert [r.attributes for r in records if isinstance(r, User)] == [{"plan": "gold"}]


def test_recbole_items_and_users(tmp_path: Path, settings: Settings) -> None:
    items = write(
        tmp_path / "t.item",
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\tscore:float\n"
        "1\tToy Story\t1995\tAnimation Comedy\t4.5\n2\tHeat\t1996\tCrime\t\n",
    )
    records, _ = read("recbole", items, settings)
    item = records[0]
    assert isinstance(item, Item)
    assert (item.title, item.categories) == ("Toy Story", ("Animation", "Comedy"))
    assert item.attributes == {"release_year": "1995", "score": 4.5}
    users = write(tmp_path / "t.user", "user_id:token\tage:token\tzip_code:token\n1\t24\t02138\n")
    (user,), _ = read("recbole", users, settings)
    assert isinstance(user, User)
    assert user.attributes == {"age": "24", "zip_code": "02138"}


def test_a_folder_is_read_by_the_patterns_of_the_mapping_items_and_users_first(
    tmp_path: Path, settings: Settings
) -> None:
    for name in ("a.inter", "a.item.gz", "a.user", "notes.txt"):
        (tmp_path / name).write_text("x")
    files = open_source("map:recbole", settings.weights).files(InputFile(tmp_path))
    assert [file.path.name for file in files] == ["a.item.gz", "a.user", "a.inter"]
    (tmp_path / "none").mkdir()
    with pytest.raises(SourceError, match="a folder; give the files in it"):
        open_source("map:recbole", settings.weights).files(InputFile(tmp_path / "none"))


@pytest.mark.real_data
@pytest.mark.parametrize(("kind", "count"), [("inter", 100_000), ("item", 1_682), ("user", 943)])
def test_recbole_ml_100k(
    kind: str, count: int, shared_data: Callable[[str], Path], settings: Settings
) -> None:
    records, _ = read("recbole", shared_data(f"ml-100k/ml-100k.{kind}.gz"), settings)
    assert len(records) == count
