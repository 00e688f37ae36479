"""Statistics: percentiles near the truth, over the last five minutes alone."""

import math

from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.telemetry.events import CallEnded
from mcpace_sidecar.telemetry.statistics import Stats


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.floats(1e-5, 100), min_size=1, max_size=200))
def test_percentiles_are_within_three_percent_of_the_truth(durations) -> None:
    stats = Stats(Clock())
    for duration in durations:
        stats.on_call(CallEnded("t", "success", duration))
    summary = stats.summary()["t"]
    ordered = sorted(durations)
    for name, part in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        truth = ordered[math.ceil(part * len(ordered)) - 1]
        assert math.isclose(getattr(summary, name), truth, rel_tol=0.03), name


def test_what_is_older_than_five_minutes_is_gone() -> None:
    clock = Clock()
    stats = Stats(clock)
    stats.on_call(CallEnded("old", "success", 1.0))
    clock.now = 200
    stats.turn()
    stats.on_call(CallEnded("new", "error", 1.0))
    assert set(stats.summary()) == {"old", "new"}
    clock.now = 330
    assert set(stats.summary()) == {"new"}


def test_refused_calls_have_no_duration() -> None:
    stats = Stats(Clock())
    stats.on_call(CallEnded("t", "limited", 1.0))
    summary = stats.summary()["t"]
    assert (summary.count, summary.limited, summary.errors, summary.p50) == (1, 1, 0, None)


def test_rates_and_bytes_are_those_of_the_time_looked_back_at() -> None:
    clock = Clock()
    stats = Stats(clock)
    for _ in range(30):
        stats.on_call(CallEnded("t", "success", 1.0, received=10, sent=100))
    stats.on_call(CallEnded("t", "failed", 1.0))
    clock.now = 10
    young = stats.summary()["t"]
    assert young.calls_per_second == 3.1
    assert math.isclose(young.error_rate, 1 / 31, abs_tol=1e-5)
    assert (young.received_bytes, young.sent_bytes) == (300, 3000)
    clock.now = 290
    assert stats.summary()["t"].calls_per_second == round(31 / 290, 3)
