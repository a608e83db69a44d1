"""Files by a mapping into the lake: twice, replayed after a fix, from queries and from other machines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from feature_repo.contract.event_types import registered
from feature_repo.errors import SourceError
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.settings import Settings
from quality.quarantine.store import Quarantine
from streaming.ingest.files import ingest
from streaming.ingest.inputs import inputs
from streaming.ingest.quarantine_retry import retry
from streaming.mapping.saved import format_of
from streaming.sources import remote
from streaming.sources.remote import fetched
from streaming.sources.sql import query_result

MAPPING = """
[event]
event_type = "act"
event_time = { column = "ts", format = "epoch_s" }
session_id = { day_of = "uid" }
user_id = "uid"
item_id = "sku"

[event_types]
look = "view"
wish = { type = "wishlist", weight = 2 }
scroll = { skip = true }
"""
ROWS = "ts,uid,sku,act,page\n1714557600,u1,a,look,x\n1714557601,u1,b,wish,x\n1714557602,u1,,scroll,x\n"


def mapped(home: Home, tmp_path: Path, text: str = MAPPING) -> str:
    path = tmp_path / "mapping.toml"
    path.write_text(text)
    return format_of(str(path), home.mappings)


def lake_rows(home: Home, kind: Any = "event") -> list[dict[str, Any]]:
    return [row for name in Lake(home.lake).files(kind) for row in pq.read_table(name).to_pylist()]


def test_the_same_file_twice_changes_nothing(settings: Settings, home: Home, tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text(ROWS)
    fmt = mapped(home, tmp_path)
    counts = ingest([path], fmt, settings)
    assert (counts.read, counts.accepted, counts.quarantined) == (2, 2, 0)
    assert counts.notes == (
        "left out by the mapping: 1 rows (event type 'scroll')",
        "columns the mapping does not use: page",
    )
    assert registered(home.root) == {"wishlist": 2.0}
    again = ingest([path], fmt, settings)
    assert (again.accepted, again.duplicate) == (0, 2)
    assert {row["event_type"] for row in lake_rows(home)} == {"view", "wishlist"}


def test_the_same_table_gives_the_same_events(settings: Settings, home: Home, tmp_path: Path) -> None:
    fmt = mapped(home, tmp_path)
    (tmp_path / "e.csv").write_text(ROWS)
    names = ("ts", "uid", "sku", "act", "page")
    rows = [dict(zip(names, line.split(","), strict=True)) for line in ROWS.splitlines()[1:]]
    typed = [{**row, "ts": int(row["ts"])} for row in rows]
    (tmp_path / "e.json").write_text(json.dumps(typed))
    pq.write_table(pa.Table.from_pylist(typed), tmp_path / "e.parquet")
    assert ingest([tmp_path / "e.csv"], fmt, settings).accepted == 2
    for name in ("e.json", "e.parquet"):
        counts = ingest([tmp_path / name], fmt, settings)
        assert (counts.accepted, counts.duplicate) == (0, 2), name


def as_kind(kind: str, row: dict[str, Any], folder: Path) -> Path:
    path = folder / f"bad.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([row]), path)
    elif kind == "jsonl":
        path.write_text(json.dumps(row) + "\n")
    else:
        path.write_text(",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n")
    return path


def test_a_row_that_the_mended_mapping_leaves_out_is_done(
    settings: Settings, home: Home, tmp_path: Path
) -> None:
    path = as_kind("csv", {"ts": 1714557600, "uid": "u1", "sku": "a", "act": "gaze"}, tmp_path)
    ingest([path], mapped(home, tmp_path), settings)
    mended = tmp_path / "mended.toml"
    mended.write_text(MAPPING + "gaze = { skip = true }\n")
    assert retry(settings, mapping=str(mended)).replayed == 1
    assert retry(settings, mapping=str(mended)).total == 0
    assert lake_rows(home) == []


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_rejected_row_is_replayed_by_the_mended_mapping(
    kind: str, settings: Settings, home: Home, tmp_path: Path
) -> None:
    row = {"ts": 1714557600, "uid": "u1", "sku": "a", "act": "gaze", "page": "x"}
    path = as_kind(kind, row, tmp_path)
    assert ingest([path], mapped(home, tmp_path), settings).quarantined == 1
    (entry,) = Quarantine.of(settings, home).entries()
    assert entry.code == "unknown_event_type"
    assert b"gaze" in entry.raw
    assert b"page" in entry.raw or kind == "csv"  # the whole row as it was
    assert retry(settings).failed == 1
    mended = tmp_path / "mended.toml"
    mended.write_text(MAPPING + 'gaze = { type = "gaze", weight = 1 }\n')
    assert retry(settings, mapping=str(mended)).replayed == 1
    assert [row["event_type"] for row in lake_rows(home)] == ["gaze"]
    assert retry(settings, mapping=str(mended)).total == 0


def test_one_bad_element_costs_itself_only(settings: Settings, home: Home, tmp_path: Path) -> None:
    good = {"aid": 1, "ts": 1661724000278, "type": "clicks"}
    path = tmp_path / "s.jsonl"
    path.write_text(json.dumps({"session": 1, "events": [good, {**good, "ts": "soon"}, {**good, "aid": 2}]}))
    counts = ingest([path], "map:otto", settings)
    assert (counts.accepted, counts.quarantined) == (2, 1)
    (entry,) = Quarantine.of(settings, home).entries()
    assert entry.raw == path.read_bytes()


def test_a_lost_mapping_does_not_stop_the_others(settings: Settings, home: Home, tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text(ROWS.replace("look", "gaze"))
    fmt = mapped(home, tmp_path)
    ingest([path], fmt, settings)
    (home.mappings / f"{fmt.removeprefix('map:')}.toml").unlink()
    assert retry(settings).failed == 1


def test_a_column_that_is_not_there_is_named(settings: Settings, home: Home, tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text(ROWS.replace("ts,", "when,", 1))
    with pytest.raises(SourceError, match=r"no ts for \[event\] event_time .* the file has when, uid, sku"):
        ingest([path], mapped(home, tmp_path), settings)


def test_a_query_is_a_file(settings: Settings, home: Home, tmp_path: Path) -> None:
    pq.write_table(
        pa.table(
            {"ts": [1714557600, 1714557601], "uid": ["u1", "u2"], "sku": ["a", "b"], "act": ["look", "gaze"]}
        ),
        tmp_path / "x.parquet",
    )
    query = f"SELECT * FROM '{tmp_path}/x.parquet' ORDER BY ts"
    with inputs([], query, settings) as given:
        counts = ingest(given.paths, mapped(home, tmp_path), settings, names=given.names)
    assert (counts.accepted, counts.quarantined) == (1, 1)
    (entry,) = Quarantine.of(settings, home).entries()
    assert (entry.source, entry.line) == ("the query's result", 2)
    assert list(home.fetched.iterdir()) == []


@pytest.mark.usefixtures("zone")
def test_a_query_gives_times_in_utc(settings: Settings, tmp_path: Path) -> None:
    query = "SELECT TIMESTAMPTZ '2024-05-01 12:00:00+00' AS t, date_trunc('day', t) AS d"
    with query_result(query, tmp_path, settings) as path:
        (row,) = pq.read_table(path).to_pylist()
    assert (row["t"].isoformat(), row["d"].isoformat()) == (
        "2024-05-01T12:00:00+00:00",
        "2024-05-01T00:00:00+00:00",
    )


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT * FROM 'absent.parquet'", "--sql: IO Error: No files found"),
        ("SELEC 1", "--sql: Parser Error"),
        ("SELECT 1; SELECT 2", "--sql: SELECT and SELECT where one SELECT belongs"),
        ("CREATE TABLE t AS SELECT 1", "--sql: CREATE where one SELECT belongs"),
        ("COPY (SELECT 1) TO '{}/out.csv'", "--sql: COPY where one SELECT belongs"),
        ("", "--sql: nothing where one SELECT belongs"),
    ],
)
def test_a_bad_query_is_one_line(query: str, message: str, settings: Settings, tmp_path: Path) -> None:
    with (
        pytest.raises(SourceError) as error,
        query_result(query.format(tmp_path), tmp_path / "t", settings),
    ):
        pass
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out.csv").exists()
    assert list((tmp_path / "t").iterdir()) == []


@contextmanager
def served(answers: list[Callable[[BaseHTTPRequestHandler], None]]) -> Iterator[tuple[str, list[str]]]:
    """A server that gives these answers in order and repeats the last; its URL, and what was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            answers[min(len(asked), len(answers)) - 1](self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://user:secret@127.0.0.1:{server.server_port}/data/e.csv?sig=secret", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def whole(handler: BaseHTTPRequestHandler, body: bytes = ROWS.encode()) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def cut(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    handler.wfile.write(b"ts,uid,sku,act\n1714557600,u9,z,look\n")
    handler.close_connection = True


def status(code: int) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def test_a_dropped_connection_is_tried_again(settings: Settings, home: Home, tmp_path: Path) -> None:
    waits: list[float] = []
    with (
        served([cut, status(503), whole]) as (url, asked),
        fetched(url, home.fetched, 10**6, wait=waits.append) as path,
    ):
        assert path.read_text() == ROWS
        assert ingest([path], mapped(home, tmp_path), settings).accepted == 2
    assert len(asked) == 3
    assert waits == [0.5, 1.0]
    assert list(home.fetched.iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "attempts", "message"),
    [
        (cut, 4, "the connection failed .*; try later"),
        (status(500), 4, r"the server answered 500 \(4 attempts\)"),
        (status(404), 1, "the server answered 404 .*is the URL right"),
        (lambda h: whole(h, b"x" * 5000), 1, "larger than 1,000 bytes, the limit HEADRACE_INGEST_UNPACKED"),
    ],
    ids=["cut", "500", "404", "large"],
)
def test_a_failed_fetch_is_reported(
    answer: Callable[[BaseHTTPRequestHandler], None], attempts: int, message: str, home: Home
) -> None:
    with (
        served([answer]) as (url, asked),
        pytest.raises(SourceError, match=message) as error,
        fetched(url, home.fetched, 1000, wait=lambda _: None),
    ):
        pass
    assert len(asked) == attempts
    assert "secret" not in str(error.value)
    assert list(home.fetched.iterdir()) == []


def test_one_url_that_fails_does_not_stop_the_others(settings: Settings, home: Home, tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text(ROWS)
    with served([status(404)]) as (url, _), inputs([url, str(tmp_path / "e.csv")], None, settings) as given:
        assert given.paths == [tmp_path / "e.csv"]
        assert len(given.refused) == 1


def test_a_rejected_row_of_a_url_is_kept_under_its_name(
    settings: Settings, home: Home, tmp_path: Path
) -> None:
    body = ROWS.replace("look", "gaze").encode()
    for _ in range(2):
        with served([lambda h: whole(h, body)]) as (url, _), inputs([url], None, settings) as given:
            ingest(given.paths, mapped(home, tmp_path), settings, names=given.names)
            (entry, *_rest) = Quarantine.of(settings, home).entries()
            assert entry.source.startswith("http://127.0.0.1:")
            assert "secret" not in entry.source
            assert entry.source.endswith("/data/e.csv")


def test_objects_of_a_store_come_through_arrow(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seam of s3:// and gs://: Arrow's file systems, here one of memory."""
    memory = fs._MockFileSystem()  # Arrow's own in-memory file system
    memory.create_dir("bucket")
    with memory.open_output_stream("bucket/e.csv") as stream:
        stream.write(ROWS.encode())
    opened: list[str] = []

    def from_uri(uri: str) -> tuple[Any, str]:
        opened.append(uri)
        return memory, uri.removeprefix("s3://")

    monkeypatch.setattr(remote, "_store_of", from_uri)
    with fetched("s3://bucket/e.csv", home.fetched, 10**6) as path:
        assert path.read_text() == ROWS
    with (
        pytest.raises(SourceError, match=r"s3://bucket/absent\.csv: no such object"),
        fetched("s3://bucket/absent.csv", home.fetched, 10**6),
    ):
        pass
    assert opened == ["s3://bucket/e.csv", "s3://bucket/absent.csv"]
