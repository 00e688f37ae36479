"""The exposition: durations as long as calls of MCP take."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from mcpace_sidecar.contract.histogram import BOUNDS
from mcpace_sidecar.telemetry.metrics import COUNTERS, INITIAL, Metrics
from mcpace_sidecar.telemetry.statistics import summary
from mcpace_sidecar.telemetry.tally import Tallies


@pytest.mark.parametrize(
    ("seconds", "bound"),
    [(0.0004, 0.001), (0.01, 0.01), (0.011, 0.025), (29.0, 30.0), (61.0, 120.0), (299.0, 300.0), (300.1, float("inf"))],
)  # fmt: skip
def test_a_duration_is_counted_from_its_bucket_on_up_to_five_minutes(seconds: float, bound: float) -> None:
    tallies = Tallies()
    tallies.count("t", "success", seconds)
    counts = buckets(tallies)
    assert counts == {each: float(each >= bound) for each in counts}
    assert {0.001, 60.0, 120.0, 300.0, float("inf"), bound} <= counts.keys()


@given(st.lists(st.floats(0, 400) | st.sampled_from(BOUNDS), max_size=50))
def test_every_bucket_holds_what_took_no_longer_than_its_bound(durations: list[float]) -> None:
    tallies = Tallies()
    for seconds in durations:
        tallies.count("t", "success", seconds)
    counted = buckets(tallies)
    assert counted == {bound: sum(each <= bound for each in durations) for bound in counted}


def test_a_counter_never_goes_back_while_statistics_forget() -> None:
    now = 0.0
    tallies = Tallies(lambda: now)
    metrics = Metrics(tallies, lambda: iter(()))
    for number in range(40):
        now = 20.0 * number
        tallies.rotate()
        tallies.count("t", "success", 0.5, "memory", received=10, sent=100)
        tallies.count(f"once{number}", "limited", 0.5)
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }
    assert samples["mcp_tool_calls_total", "success", "t"] == 40
    assert samples["mcpace_cache_requests_total", "memory", "t"] == 40
    assert samples["mcpace_request_bytes_total", "t"] == 400
    assert samples["mcpace_response_bytes_total", "t"] == 4000
    assert samples["mcpace_cache_saved_bytes_total", "t"] == 4000
    assert samples["mcpace_response_tokens_total", "t"] == 1000
    assert samples["mcp_tool_duration_seconds_sum", "t"] == 20
    assert samples["mcp_tool_calls_total", "limited", "once0"] == 1
    counted = summary(tallies)
    assert "once0" not in counted
    assert counted["t"].count == counted["t"].hits < 20
    assert tallies.looked_up("t")
    assert not tallies.looked_up("once39")


def buckets(tallies: Tallies) -> dict[float, float]:
    """Upper bound -> how many calls of the tool took no longer."""
    text = Metrics(tallies, lambda: iter(())).text().decode()
    return {
        float(sample.labels["le"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "mcp_tool_duration_seconds_bucket"
    }


def test_saved_are_the_bytes_of_hits_and_tokens_are_a_fourth_of_all() -> None:
    tallies = Tallies()
    for cache, sent in (("miss", 402), ("memory", 402), ("stale", 402), ("joined", 402)):
        tallies.count("t", "success", 0.5, cache, sent=sent)  # type: ignore[arg-type]
    tallies.count("t", "limited", 0.5, "memory", sent=80)
    tallies.count("uncached", "success", 0.5, sent=9)
    text = Metrics(tallies, lambda: iter(())).text().decode()
    assert 'mcpace_cache_saved_bytes_total{tool="t"} 1206.0' in text
    assert 'mcpace_cache_saved_bytes_total{tool="uncached"}' not in text
    assert 'mcpace_response_tokens_total{tool="t"} 422.0' in text
    assert 'mcpace_response_tokens_total{tool="uncached"} 2.0' in text


def test_what_is_known_to_happen_is_there_before_it_first_does() -> None:
    text = Metrics(Tallies(), lambda: iter(())).text().decode()
    for name, (words, labels) in COUNTERS.items():
        assert (f"{name}_total 0.0\n" in text) == (not labels), name
        for value in INITIAL.get(name, ()):
            assert f'{name}_total{{{labels[0]}="{value}"}} 0.0\n' in text
        if name in INITIAL:
            assert words.endswith(f": {', '.join(INITIAL[name])}."), "its help lists others"
