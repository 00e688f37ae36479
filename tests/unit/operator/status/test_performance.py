"""Numbers of many replicas, added up and told."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.mcpserver import ended, told

from mcpace_operator.status.performance import Performance, merged, moved


def test_two_replicas_add_up_as_one_would_have_counted():
    calls = [ended(seconds=0.001 * n, tool="ab"[n % 2]) for n in range(1, 101)]
    together = merged([told(*calls)])
    apart = merged([told(*calls[:30]), told(*calls[30:])])
    assert apart.tools == together.tools
    assert apart.p95 == pytest.approx(0.095, rel=0.03)
    assert apart.calls == 100


def test_a_server_without_calls_has_no_percentiles():
    assert merged([]).document(()) == {"callsPerSecond": "0"}
    assert merged([told()]).p95 is None


def test_the_hit_ratio_is_that_of_the_cached_tools():
    performance = merged(
        [told(ended(cache="memory"), ended(cache="miss"), ended(tool="write"), ended(status="limited"))]
    )
    shown = performance.document({"get"})
    assert shown["hitRatio"] == "50%"
    assert shown["limitedRatio"] == "25%"
    assert shown["errorRate"] == "0%"
    assert "hitRatio" not in performance.document(())


def test_as_many_calls_ran_at_once_as_littles_law_says():
    performance = merged([told(*[ended(seconds=0.5)] * 10)])
    assert performance.at_once == pytest.approx(performance.calls_per_second * 0.5, rel=0.03)


@given(st.floats(1e-5, 1e4))
def test_numbers_have_two_digits_and_no_exponent(value):
    text = Performance((), value).document(())["callsPerSecond"]
    assert float(text) == pytest.approx(value, rel=0.06)
    assert "e" not in text


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({"p95": "38ms"}, {"p95": "45ms"}, False),
        ({"p95": "38ms"}, {"p95": "46ms"}, True),
        ({"p95": "38ms"}, {"p95": "30ms"}, True),
        ({"p95": "900ms"}, {"p95": "1s"}, False),
        ({"p95": "100ms"}, {"p95": "1s"}, True),
        ({"errorRate": "0%"}, {"errorRate": "0.1%"}, True),
        ({"errorRate": "0%"}, {"errorRate": "0%"}, False),
        ({}, {"p95": "1s"}, True),
        ({"p95": "1s"}, {}, True),
        ({"p95": None}, {"p95": "1s"}, True),
        ({"p95": "what"}, {"p95": "1s"}, True),
    ],
)
def test_a_number_is_told_again_when_it_moved_by_a_fifth(before, now, expected):
    assert moved(before, now) is expected


def test_steady_traffic_is_no_news():
    rng = random.Random(7)
    first, second = (
        merged([told(*[ended(seconds=rng.uniform(0.01, 0.02)) for _ in range(500)])]).document(())
        for _ in range(2)
    )
    assert not moved(first, second)
