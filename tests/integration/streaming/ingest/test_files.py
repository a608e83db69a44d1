"""Files to lake: counts that add up, the same file twice, real data in full."""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.contract.validation import Contract
from feature_repo.errors import SourceError
from feature_repo.home import Home
from feature_repo.lake.lake import Lake
from feature_repo.settings import Settings, load_settings
from quality.quarantine.store import Quarantine
from streaming.ingest.counts import IngestCounts, KindCounts
from streaming.ingest.files import IngestError, ingest
from streaming.log import open_log
from streaming.sources import InputFile

Shared = Callable[[str], Path]


def click(number: int, day: int = 1) -> dict[str, Any]:
    return {
        "record": "event",
        "event_id": f"e{number}",
        "event_type": "click",
        "event_time": f"2024-05-{day:02d}T10:00:{number % 60:02d}Z",
        "session_id": f"s{number % 5}",
        "item_id": "i1",
    }


def write(path: Path, *objects: Any) -> Path:
    text = "".join((o if isinstance(o, str) else json.dumps(o)) + "\n" for o in objects)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def rows(home: Home, kind: Any = "event") -> list[dict[str, Any]]:
    return [row for name in Lake(home.lake).files(kind) for row in pq.read_table(name).to_pylist()]


def log_size(home: Home) -> int:
    return sum(p.stat().st_size for p in home.log.rglob("*.seg"))


def balanced(counts: IngestCounts) -> bool:
    return counts.read == counts.accepted + counts.duplicate + counts.quarantined


def test_the_three_kinds_mixed(settings: Settings, home: Home, tmp_path: Path) -> None:
    user = {"record": "user", "user_id": "u", "attributes": {"segment": "gold"}}
    item = {
        "record": "item",
        "item_id": "i1",
        "categories": ["shoes"],
        "created_at": "2024-01-01T00:00:00+01:00",
    }
    path = write(tmp_path / "all.jsonl.gz", click(1), item, user, click(2, day=2), click(1), "[1]")
    seen: list[tuple[Path, int, int]] = []
    counts = ingest([path], "headrace", settings, progress=lambda *args: seen.append(args))
    assert counts.kinds == {
        "event": KindCounts(accepted=2, duplicate=1),
        "item": KindCounts(accepted=1),
        "user": KindCounts(accepted=1),
    }
    assert (counts.read, counts.quarantined, len(counts.days)) == (6, 1, 2)
    assert balanced(counts)
    assert seen[-1] == (path, path.stat().st_size, path.stat().st_size)
    assert sorted(row["event_id"] for row in rows(home)) == ["e1", "e2"]
    assert rows(home, "item")[0]["created_at"] == datetime(2023, 12, 31, 23, tzinfo=UTC)
    (entry,) = Quarantine(home.quarantine, settings.clock).entries()
    assert (entry.source, entry.line, entry.raw) == (str(path), 6, b"[1]")


def test_the_same_file_twice_changes_nothing(settings: Settings, home: Home, tmp_path: Path) -> None:
    item = {"record": "item", "item_id": "i1", "attributes": {"n": 1, "tags": ["a", "b"], "text": "x"}}
    path = write(tmp_path / "a.jsonl", *(click(n, 1 + n % 3) for n in range(50)), item, "{")
    first = ingest([path], "headrace", settings)
    before = ([(p, p.read_bytes()) for p in sorted(home.lake.rglob("*.parquet"))], log_size(home))
    again = ingest([path], "headrace", settings)
    assert (first.accepted, first.duplicate, first.quarantined) == (51, 0, 1)
    assert (again.accepted, again.duplicate, again.quarantined) == (0, 51, 1)
    assert ([(p, p.read_bytes()) for p in sorted(home.lake.rglob("*.parquet"))], log_size(home)) == before
    assert Quarantine(home.quarantine, settings.clock).count() == 1


def test_fields_the_contract_does_not_know_are_kept_and_counted(
    settings: Settings, home: Home, tmp_path: Path
) -> None:
    one = write(tmp_path / "a.jsonl", {**click(1), "device": "phone"}, {**click(2), "device": 3, "os": "x"})
    two = write(tmp_path / "b.jsonl", {**click(3), "device": "tv"})
    counts = ingest([one, two], "headrace", settings)
    assert counts.unknown == {"device": 3, "os": 1}
    assert dict(rows(home)[1]["properties"]) == {"device": "3", "os": "x"}


def test_several_files_are_one_ingest(settings: Settings, home: Home, tmp_path: Path) -> None:
    one = write(tmp_path / "a.jsonl", click(1), click(2))
    two = write(tmp_path / "b.jsonl", click(2), click(3))
    counts = ingest([one, two], "headrace", settings)
    assert (counts.accepted, counts.duplicate) == (3, 1)


def test_files_larger_than_a_portion(
    settings: Settings, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streaming.ingest.files.CHUNK_RECORDS", 10)
    path = write(tmp_path / "a.jsonl", *(click(n % 70, 1 + n % 70 % 4) for n in range(100)))
    counts = ingest([path], "headrace", settings)
    assert (counts.read, counts.accepted, counts.duplicate) == (100, 70, 30)
    assert sorted(r["event_id"] for r in rows(home)) == sorted(f"e{n}" for n in range(70))


def test_what_others_published_before_is_known(settings: Settings, home: Home, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", click(1), click(2))
    log = open_log(settings, home)
    log.publish([("s1", json.dumps(click(1)).encode())])
    log.close()
    counts = ingest([path], "headrace", settings)
    assert (counts.accepted, counts.duplicate) == (1, 1)
    assert sorted(r["event_id"] for r in rows(home)) == ["e1", "e2"]


def test_an_item_that_changes_back_and_forth_ends_as_the_file_ends(
    settings: Settings, home: Home, tmp_path: Path
) -> None:
    titles = ["a", "a", "b", "a"]
    path = write(tmp_path / "a.jsonl", *({"record": "item", "item_id": "i", "title": t} for t in titles))
    counts = ingest([path], "headrace", settings)
    assert counts.kinds["item"] == KindCounts(accepted=3, duplicate=1)
    assert [r["title"] for r in rows(home, "item")] == ["a"]


def test_a_truncated_gzip_keeps_what_came_before_and_says_so(
    settings: Settings, home: Home, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.jsonl.gz", *(click(n) for n in range(5000)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    counts = ingest([path], "headrace", settings)
    assert 0 < counts.accepted < 5000
    assert counts.quarantined == 1
    assert balanced(counts)
    assert f"{path}: truncated or damaged after line {counts.accepted}" in counts.problems[0]
    assert len(rows(home)) == counts.accepted
    (entry,) = Quarantine(home.quarantine, settings.clock).entries()
    assert (entry.code, entry.line) == ("truncated_file", counts.accepted + 1)


def test_a_file_that_cannot_be_read_at_all_does_not_stop_the_others(
    settings: Settings, home: Home, tmp_path: Path
) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "bad.parquet").write_bytes(b"no")
    good = write(tmp_path / "good.jsonl", click(1))
    with pytest.raises(
        IngestError, match=r"empty\.jsonl: empty file; .*; .*bad\.parquet: not a whole"
    ) as caught:
        ingest([tmp_path / "empty.jsonl", tmp_path / "bad.parquet", good], "headrace", settings)
    assert (caught.value.counts.accepted, caught.value.counts.quarantined) == (1, 2)
    assert caught.value.counts.refused == 2
    assert [r["event_id"] for r in rows(home)] == ["e1"]
    codes = [e.code for e in Quarantine(home.quarantine, settings.clock).entries()]
    assert codes == ["unreadable_file", "unreadable_file"]


def test_files_of_any_make_are_read_or_refused_in_one_line_and_never_end_the_run(
    settings: Settings, home: Home, tmp_path: Path
) -> None:
    lines = "".join(json.dumps(click(n)) + "\n" for n in range(3)).encode()
    table = pa.table(
        {name: [click(7)[name]] for name in ("event_id", "event_type", "event_time", "session_id", "item_id")}
    )
    pq.write_table(table.append_column("seen", pa.array([10**18], pa.timestamp("ns"))), tmp_path / "pandas")
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["item_id", "item_id"])
    pq.write_table(twice, tmp_path / "twice")
    pq.write_table(pa.table({"item_id": ["a", "b"], "action": ["x", "y"]}), tmp_path / "which")
    files = {
        "packed": bz2.compress(lines),
        "array": json.dumps([click(4), click(5)]).encode(),
        "utf16": "item_id;price\ni1;9,50\n".encode("utf-16"),
        "photo": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "latin": b"user_id,pr\xe9nom\nu,x\n",
        "text": b"hello\n",
        "good": json.dumps(click(6)).encode(),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    order = ["photo", "twice", "which", "latin", "text", "packed", "array", "utf16", "pandas", "good"]
    with pytest.raises(IngestError) as caught:
        ingest([tmp_path / name for name in order], "headrace", settings)
    counts = caught.value.counts
    assert "\n" not in str(caught.value)
    assert [str(caught.value).count(f"{tmp_path / name}: ") for name in order] == [1] * 5 + [0] * 5
    assert (counts.refused, counts.reasons) == (5, {"unreadable_file": 5})
    assert counts.kinds["event"] == KindCounts(accepted=7)
    assert [row["price"] for row in rows(home, "item")] == [9.5]
    assert balanced(counts)
    seen = [dict(row["properties"]) for row in rows(home) if row["event_id"] == "e7"]
    assert seen == [{"seen": "2001-09-09T01:46:40"}]


def test_a_rejected_row_is_kept_byte_for_byte(settings: Settings, home: Home, tmp_path: Path) -> None:
    row = b'u1,"02138, west",1_000.50,  \r'
    (tmp_path / "u.csv").write_bytes(b"user_id,zip,code,consent\r\n" + row + b"\n" + b"u2,1,2,true\r\n")
    counts = ingest([tmp_path / "u.csv"], "headrace", settings)
    assert (counts.accepted, counts.reasons) == (1, {"wrong_type": 1})
    (entry,) = Quarantine(home.quarantine, settings.clock).entries()
    assert (entry.raw, entry.line, entry.field) == (row, 2, "consent")


def test_rows_before_a_limit_are_kept(settings: Settings, home: Home, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", *(click(n) for n in range(20_000)))
    small = settings.model_copy(update={"ingest_unpacked_bytes": 1_500_000})
    with pytest.raises(IngestError, match=r"a\.jsonl\.gz: unpacks to more than 1,500,000 bytes") as caught:
        ingest([path], "headrace", small)
    assert caught.value.counts.kinds["event"].accepted == len(rows(home)) > 5_000


def test_a_file_without_a_record_is_reported(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("item_id,title\n")
    (tmp_path / "b.jsonl").write_text("\n\n")
    counts = ingest([tmp_path / "a.csv", tmp_path / "b.jsonl"], "headrace", settings)
    assert counts.read == 0
    assert counts.problems == (f"{tmp_path}/a.csv: no record in it", f"{tmp_path}/b.jsonl: no record in it")


def test_an_error_nobody_thought_of_costs_its_row_or_its_file(
    settings: Settings, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Contract.parse

    def parse(self: Contract, raw: Any, kind: Any = None) -> Any:
        if b"e1" in raw:
            raise KeyError("e1")
        return real(self, raw, kind)

    monkeypatch.setattr(Contract, "parse", parse)
    counts = ingest([write(tmp_path / "a.jsonl", click(0), click(1), click(2))], "headrace", settings)
    assert (counts.accepted, counts.reasons) == (2, {"unreadable_row": 1})

    def lines(_: InputFile) -> Any:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr(InputFile, "text_lines", lines)
    with pytest.raises(IngestError, match=r"b\.jsonl: cannot be read \(ZeroDivisionError: odd\)"):
        ingest([write(tmp_path / "b.jsonl", click(3))], "headrace", settings)


def test_a_missing_path_stops_before_anything_is_read(settings: Settings, home: Home, tmp_path: Path) -> None:
    good = write(tmp_path / "good.jsonl", click(1))
    with pytest.raises(SourceError, match=r"nope\.jsonl: no such file or folder"):
        ingest([good, tmp_path / "nope.jsonl"], "headrace", settings)
    assert rows(home) == []


def test_types_that_come_with_a_format_are_known_ever_after(
    settings: Settings, home: Home, tmp_path: Path
) -> None:
    header = "timestamp,eventType,contentId,personId,sessionId,userAgent,userRegion,userCountry\n"
    (tmp_path / "d.csv").write_text(header + "1465413032,FOLLOW,1,2,3,,,\n")
    assert ingest([tmp_path / "d.csv"], "deskdrop", settings).accepted == 1
    assert load_settings(home=home.root).weights["follow"] == 3.0
    follow = {**click(1), "event_type": "follow"}
    assert ingest([write(tmp_path / "a.jsonl", follow)], "headrace", settings).accepted == 1


@pytest.mark.real_data
def test_ranklens_in_full(settings: Settings, home: Home, shared_data: Shared) -> None:
    path = shared_data("ranklens/events.jsonl.gz")
    counts = ingest([path], "metarank", settings)
    assert counts.kinds["item"] == KindCounts(accepted=2512)
    assert counts.kinds["event"] == KindCounts(accepted=9800 + 46125)
    assert (counts.read, counts.quarantined) == (58437, 0)
    table = pq.read_table(Lake(home.lake).files("event"), columns=["event_type", "items", "request_id"])
    types = dict(table.group_by("event_type").aggregate([([], "count_all")]).to_pydict().items())
    by_type = dict(zip(types["event_type"], types["count_all"], strict=True))
    assert by_type == {"impression": 9800, "click": 46125}
    assert table.column("request_id").null_count == 0
    assert {len(items) for items in table.column("items").to_pylist()} == {0, 24}
    again = ingest([path], "metarank", settings)
    assert (again.accepted, again.duplicate) == (0, 58437)


@pytest.mark.real_data
def test_deskdrop_in_full(settings: Settings, home: Home, shared_data: Shared) -> None:
    counts = ingest([shared_data("deskdrop/users_interactions.csv.zip")], "deskdrop", settings)
    assert (counts.read, counts.accepted, counts.duplicate, counts.quarantined) == (72312, 70028, 2284, 0)
    table = pq.read_table(Lake(home.lake).files("event"), columns=["event_type", "session_id"])
    assert set(table.column("event_type").to_pylist()) == {"view", "like", "bookmark", "comment", "follow"}
    assert len(table) == 70028


@pytest.mark.real_data
def test_movielens_ratings_in_full(settings: Settings, home: Home, shared_data: Shared) -> None:
    folder = shared_data("movielens-latest-small")
    counts = ingest([folder / "movies.csv.gz", folder / "ratings.csv.gz"], "movielens", settings)
    assert counts.kinds["event"] == KindCounts(accepted=100836)
    assert counts.kinds["item"] == KindCounts(accepted=9742)
    assert counts.quarantined == 0
    assert min(counts.days).year == 1996
    assert max(counts.days).year == 2018
