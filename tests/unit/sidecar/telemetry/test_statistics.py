"""Statistics: percentiles near the truth, over the last five minutes alone."""

import math

from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.telemetry.statistics import summary
from mcpace_sidecar.telemetry.tally import Tallies


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.floats(1e-5, 100), min_size=1, max_size=200))
def test_percentiles_are_within_three_percent_of_the_truth(durations) -> None:
    tallies = Tallies(Clock())
    for duration in durations:
        tallies.count("t", "success", duration)
    counted = summary(tallies)["t"]
    ordered = sorted(durations)
    for name, part in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        truth = ordered[math.ceil(part * len(ordered)) - 1]
        assert math.isclose(getattr(counted, name), truth, rel_tol=0.03), name


def test_what_is_older_than_five_minutes_is_gone() -> None:
    clock = Clock()
    tallies = Tallies(clock)
    tallies.count("old", "success", 1.0)
    clock.now = 200
    tallies.rotate()
    tallies.count("new", "error", 1.0)
    assert set(summary(tallies)) == {"old", "new"}
    clock.now = 330
    assert set(summary(tallies)) == {"new"}


def test_refused_calls_have_no_duration() -> None:
    tallies = Tallies(Clock())
    tallies.count("t", "limited", 1.0)
    counted = summary(tallies)["t"]
    assert (counted.count, counted.limited, counted.errors, counted.p50) == (1, 1, 0, None)


def test_rates_and_bytes_are_those_of_the_time_looked_back_at() -> None:
    clock = Clock()
    tallies = Tallies(clock)
    for _ in range(30):
        tallies.count("t", "success", 1.0, received=10, sent=100)
    tallies.count("t", "failed", 1.0)
    clock.now = 10
    young = summary(tallies)["t"]
    assert young.calls_per_second == 3.1
    assert math.isclose(young.error_rate, 1 / 31, abs_tol=1e-5)
    assert (young.received_bytes, young.sent_bytes) == (300, 3000)
    clock.now = 290
    assert summary(tallies)["t"].calls_per_second == round(31 / 290, 3)
