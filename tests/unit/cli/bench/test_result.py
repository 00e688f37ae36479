"""Figures, thresholds, what is kept, and how two results differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mcpace_cli.bench import result
from mcpace_cli.bench.result import (
    Contender,
    Figure,
    Lever,
    Machine,
    Result,
    Settings,
    Window,
    changes,
    goal,
)
from mcpace_cli.bench.units import duration, part, size
from mcpace_sidecar.contract.histogram import bucket
from mcpace_sidecar.errors import ConfigError


def window(*seconds: float, **more: Any) -> Window:
    histogram: dict[int, int] = {}
    for each in seconds:
        histogram[bucket(each)] = histogram.get(bucket(each), 0) + 1
    failed = more.pop("failed", {})
    steps = len(seconds) + sum(failed.values())
    known = {
        "seconds": 1.0,
        "longest": max(seconds, default=0.0),
        "received": 100 * steps,
        "decoded": 400 * steps,
    }
    return Window(steps=steps, calls=steps, failed=failed, histogram=histogram, **(known | more))


def measured(*contenders: Contender, **more: Any) -> Result:
    settings = Settings(("t",), True, 1, 1, 4, None, 10.0, 5, 1.0, 1)
    machine = Machine("Linux x86_64", "a processor", 2, 1 << 33, "CPython 3.13", "0.1.0", 0.5)
    known = {"version": 1, "when": "2026-11-28T00:00:00Z", "machine": machine, "settings": settings}
    return Result(contenders=contenders, **(known | more))


def test_a_figure_is_the_median_of_the_rounds_beside_what_they_lay_between():
    one = Contender("a", "", (window(0.010), window(0.012), window(0.100)))
    p50 = one.latency(0.5)
    assert p50 is not None
    assert p50.median == pytest.approx(0.012, rel=0.03)
    assert p50.low == pytest.approx(0.010, rel=0.03)
    assert p50.high == pytest.approx(0.100, rel=0.03)


def test_percentiles_of_a_round_are_those_of_its_steps():
    one = Contender("a", "", (window(*(number / 1000 for number in range(1, 101))),))
    for share, seconds in ((0.5, 0.050), (0.95, 0.095), (0.99, 0.099)):
        assert one.latency(share).median == pytest.approx(seconds, rel=0.03)
        assert one.overall(share) == pytest.approx(seconds, rel=0.03)


def test_what_failed_is_no_latency_and_no_throughput():
    one = Contender("a", "", (window(0.01, 0.01, 0.01, failed={"error": 1}),))
    assert one.failed == Figure(0.25, 0.25, 0.25)
    assert one.rate == Figure(3.0, 3.0, 3.0)
    assert one.reasons == {"error": 1}
    nothing = Contender("a", "", (window(failed={"HTTP 503": 4}),))
    assert nothing.latency(0.5) is None
    assert nothing.rate == Figure(0.0, 0.0, 0.0)


def test_hits_are_unknown_unless_the_sidecar_was_asked():
    assert Contender("a", "", (window(0.1),)).hits is None
    assert Contender("a", "", (window(0.1, 0.1, looked=2, hits=1, reached=1),)).hits == Figure(
        0.5, 0.5, 0.5
    )
    assert Contender("a", "", (window(0.1, 0.1, looked=2, hits=1, reached=1),)).reached == 1
    assert Contender("a", "", (window(0.1),)).reached is None


def test_tokens_are_the_bytes_without_compression_by_four():
    one = Contender("a", "", (window(0.1, received=50, decoded=400),))
    assert one.received == Figure(50, 50, 50)
    assert one.tokens == Figure(100, 100, 100)


@pytest.mark.parametrize(
    ("text", "missed"),
    [
        ("p95>200ms", ""), ("p95>20ms", "p95 is"), ("p95 > 0.02s", "p95 is"), ("p50<1s", "p50 is"), ("errors>1%", ""),
        ("rate<100", "rate is"), ("rate<0.5/s", ""), ("bytes>1KiB", ""), ("bytes>99", "bytes is 100 B"),
        ("tokens>99", "tokens is 100"), ("hits<50%", "hits was not measured"),
    ],
)  # fmt: skip
def test_a_threshold_says_what_was_measured_where_it_comes_true(text: str, missed: str):
    words = goal(text).missed(Contender("a", "", (window(0.1, 0.1),)))
    assert missed in words
    assert bool(words) == bool(missed)


@pytest.mark.parametrize(
    "text", ["", "p95", "p96>1ms", "p95>=1ms", "p95>1", "errors>1", "p95>1min", "p95>-1ms", "p95>1ms;x"]
)
def test_a_threshold_that_is_none_says_what_to_write(text: str):
    with pytest.raises(ConfigError, match="--fail-if"):
        goal(text)


def test_what_was_kept_is_read_again_as_it_was(tmp_path: Path):
    known = measured(
        Contender("direct", "the server", (window(0.1, tools={"<b>": result.ToolWindow(1, 0, 3, {5: 1})}),))
    )
    result.save(known, tmp_path / "r.json")
    assert result.load(tmp_path / "r.json") == known


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no result"),
        ("[]", "no result"),
        ("{}", "no result"),
        ('{"version": 2}', "version 2"),
        ('{"version": 1}', "no result"),
        ('{"version": 1, "contenders": []}', "no result"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_what_it_is(tmp_path: Path, text: str, words: str):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ConfigError, match=words):
        result.load(tmp_path / "r.json")


def test_a_file_that_lies_about_its_counts_is_refused(tmp_path: Path):
    document = msgspec.to_builtins(measured(Contender("a", "", (window(0.1),))))
    document["contenders"][0]["windows"][0]["histogram"] = {"999999999": 1}
    (tmp_path / "r.json").write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="no result"):
        result.load(tmp_path / "r.json")


def test_a_change_is_one_where_the_rounds_lie_apart():
    then = measured(Contender("a", "", (window(0.10), window(0.11))), Contender("gone", "", (window(1.0),)))
    now = measured(Contender("a", "", (window(0.02), window(0.03))), Contender("new", "", (window(1.0),)))
    found = {(change.contender, change.measure): change.verdict for change in changes(then, now)}
    assert found["a", "p50"] == "better"
    assert found["a", "rate"] == "the same"
    assert {contender for contender, _ in found} == {"a"}
    assert {c.measure: c.verdict for c in changes(now, then)}["p50"] == "worse"
    overlapping = measured(Contender("a", "", (window(0.01), window(0.2))))
    assert {c.measure: c.verdict for c in changes(then, overlapping)}["p50"] == "the same"


def test_runs_that_were_made_otherwise_are_told_apart():
    then = measured(Contender("a", "", (window(0.1),)))
    now = msgspec.structs.replace(then, settings=msgspec.structs.replace(then.settings, clients=9))
    assert result.differences(then, then) == []
    assert result.differences(then, now) == ["clients was 4 and is 9"]


def test_figures_are_said_to_three_digits():
    assert [duration(each) for each in (0.0000123, 0.00123, 0.0999, 0.123, 0.9999, 12.34, 123.4)] == [
        "12.3 µs", "1.23 ms", "99.9 ms", "123 ms", "1 s", "12.3 s", "123 s",
    ]  # fmt: skip
    assert [part(each) for each in (0, 0.0001, 0.5, 0.123, 0.9999, 1)] == [
        "0 %",
        "< 0.1 %",
        "50 %",
        "12.3 %",
        "> 99.9 %",
        "100 %",
    ]
    assert [size(each) for each in (0, 999, 1023.6, 1536, 5 << 20)] == [
        "0 B",
        "999 B",
        "1 KiB",
        "1.5 KiB",
        "5 MiB",
    ]


def test_what_is_kept_of_a_long_manifest_is_read_again(tmp_path: Path):
    one = Contender("a", "", (window(0.010),))
    lever = Lever("cache", "- name: a tool\n" * 1000, 1, ("t",), one, one)
    kept = tmp_path / "r.json"
    result.save(measured(one, levers=(lever,)), kept)
    assert result.load(kept).levers[0].words == lever.words


def test_a_window_that_took_no_time_is_none(tmp_path: Path):
    kept = tmp_path / "r.json"
    result.save(measured(Contender("a", "", (window(0.010, seconds=0.0),))), kept)
    with pytest.raises(ConfigError, match="is no result of mcpace bench"):
        result.load(kept)
