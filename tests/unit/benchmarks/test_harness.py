"""The benchmark harness: alternation, ownership of rows, selection, JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks.__main__ import table_of
from benchmarks.harness import (
    Benchmark,
    BenchmarkError,
    Row,
    Target,
    alternate,
    discover,
    execute,
    latency_rows,
    machine,
    owner_of,
    percentile,
    select,
    timed,
    write,
)


def bench(name: str, rows: list[Row], module: str = "m") -> Benchmark:
    return Benchmark(name, module, lambda: rows, {})


def row(name: str, value: float = 2.0, baseline: float = 4.0, **extra: object) -> Row:
    return Row(name, value, "ms", "echo", baseline, 5, extra)


def test_alternation_takes_medians_and_drops_the_warmup() -> None:
    thing, baseline = iter([100.0, 1.0, 9.0, 2.0]), iter([500.0, 3.0, 5.0, 4.0])
    pair = alternate(lambda: next(thing), lambda: next(baseline), rounds=3, warmup=1)
    assert (pair.value, pair.baseline, pair.samples) == (2.0, 4.0, 3)
    assert pair.values == (1.0, 9.0, 2.0)
    assert pair.baselines == (3.0, 5.0, 4.0)


def test_alternation_changes_who_goes_first() -> None:
    order: list[str] = []

    def measure(name: str) -> float:
        order.append(name)
        return 1.0

    alternate(lambda: measure("t"), lambda: measure("b"), rounds=2, warmup=0)
    assert order == ["t", "b", "b", "t"]


def test_timed_measures_the_call() -> None:
    calls: list[int] = []
    assert timed(lambda: calls.append(1))() > 0
    assert calls == [1]


@pytest.mark.parametrize(("share", "wanted"), [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)])
def test_percentile_is_nearest_rank(share: float, wanted: int) -> None:
    assert percentile(list(range(100, 0, -1)), share) == wanted


def test_latencies_are_a_row_of_medians_and_one_of_tails() -> None:
    typical, tail = latency_rows("rank", list(range(1, 101)), "echo", [2.0, 1.0, 3.0], {"clients": 8})
    assert (typical.name, typical.value, typical.baseline_value) == ("rank", 50.5, 2.0)
    assert (tail.name, tail.value, tail.baseline_value) == ("rank_p99", 99, 3.0)
    assert (typical.unit, tail.unit, typical.samples, tail.samples) == ("ms", "ms", 100, 100)
    assert (typical.baseline_name, tail.baseline_name) == ("echo", "echo, p99")
    assert (typical.extra, tail.extra) == ({"clients": 8}, {})


def test_ratio_is_value_over_baseline() -> None:
    assert row("x").ratio == 0.5
    assert math.isnan(row("x", baseline=0.0).ratio)


@pytest.mark.parametrize(
    ("target", "met", "text"),
    [
        (Target(2.0), True, "≤ 2"),
        (Target(1.9), False, "≤ 1.9"),
        (Target(0.5, of="ratio", side="at least"), True, "≥ 0.5 × baseline"),
        (Target(0.6, of="ratio", side="at least"), False, "≥ 0.6 × baseline"),
    ],
)
def test_targets(target: Target, met: bool, text: str) -> None:
    assert target.met(row("x")) is met
    assert str(target) == text


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("rank_100", "rank_100"),
        ("rank_100_p99", "rank_100"),
        ("rank_1000_p99", "rank_1000"),
        ("rank_100_sqlite_p99", "rank_100_sqlite"),
        ("other", "other"),
    ],
)
def test_owner_is_the_longest_name_continued(name: str, owner: str) -> None:
    assert owner_of(name, ["rank_100", "rank_1000", "rank_100_sqlite"]) == owner


def test_selection_by_name_row_and_module() -> None:
    found = {"a": bench("a", []), "b_c": bench("b_c", [], "b"), "b_d": bench("b_d", [], "b")}
    assert [b.name for b in select(found, [])] == ["a", "b_c", "b_d"]
    assert [b.name for b in select(found, ["b_c_p99"])] == ["b_c"]
    assert [b.name for b in select(found, ["b"])] == ["b_c", "b_d"]
    with pytest.raises(BenchmarkError, match="no benchmark 'x'; there are: a, b_c, b_d"):
        select(found, ["x"])


def test_a_shared_function_runs_once_and_its_rows_are_distinguished() -> None:
    calls = []

    def run() -> list[Row]:
        calls.append(1)
        return [row("rank_100"), row("rank_100_p99"), row("rank_1000"), row("aside")]

    both = [Benchmark(n, "rank", run, {}) for n in ("rank_100", "rank_1000")]
    rows = execute(both, ["rank_100", "rank_1000"])
    assert calls == [1]
    assert {n: [r.name for r in some] for n, some in rows.items()} == {
        "rank_100": ["rank_100", "rank_100_p99", "aside"],
        "rank_1000": ["rank_1000"],
    }
    assert list(execute(both[1:], ["rank_100", "rank_1000"])) == ["rank_1000"]


def test_a_benchmark_without_a_row_of_its_name_is_an_error() -> None:
    with pytest.raises(BenchmarkError, match="benchmark a yielded no row"):
        execute([bench("a", [])], ["a"])


def test_json_is_an_object_or_a_list(tmp_path: Path) -> None:
    write({"one": [row("one", peak_mb=3)], "two": [row("two"), row("two_p99")]}, tmp_path / "bench")
    one = json.loads((tmp_path / "bench" / "one.json").read_text())
    assert {"name", "value", "unit", "baseline_name", "baseline_value", "ratio", "samples", "machine"} <= set(
        one
    )
    assert (one["ratio"], one["peak_mb"]) == (0.5, 3)
    two = json.loads((tmp_path / "bench" / "two.json").read_text())
    assert [r["name"] for r in two] == ["two", "two_p99"]


def test_the_machine_is_described_without_a_host_name() -> None:
    described = machine()
    assert set(described) == {"cpu", "cores", "memory_gib", "system", "python"}
    assert described["cores"] >= 1


def test_every_module_of_the_package_is_found() -> None:
    found = discover()
    assert not {"harness", "__main__", "report"} & set(found)
    assert all(callable(b.run) for b in found.values())


def test_the_table_says_whether_a_target_is_met() -> None:
    benchmark = Benchmark("x", "m", list, {"x": Target(1.0)})
    table = table_of([(row("x"), benchmark), (row("x_p99"), benchmark)])
    assert list(table.columns[-1].cells) == ["≤ 1 NOT met", ""]
