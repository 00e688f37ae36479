"""Statistics: percentiles near the truth, over the last five minutes alone."""

import math

from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.events import CallEnded
from mcpace_sidecar.stats import Stats


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
        assert math.isclose(summary[name], truth, rel_tol=0.03), name


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
    assert (summary["count"], summary["limited"], summary["errors"], summary["p50"]) == (1, 1, 0, None)
