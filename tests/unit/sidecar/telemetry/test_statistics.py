"""Statistics: percentiles near the truth, over the last five minutes alone."""

import math

from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.telemetry.statistics import MOST_DRAWN, recent, summary
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


def test_each_half_minute_is_told_apart_and_those_before_a_calls_start_are_empty() -> None:
    clock = Clock()
    clock.now = 15
    tallies = Tallies(clock)
    for now, tool, duration in ((20, "a", 0.1), (40, "a", 0.2), (41, "b", 3.0), (70, "b", 3.0)):
        clock.now = now
        tallies.rotate()
        tallies.count(tool, "success", duration)
    told = recent(tallies)
    assert [(part.seconds, part.count) for part in told.slices] == [(15, 1), (30, 2), (10, 1)]
    assert [part.count for part in told.tools["a"]] == [1, 1, 0]
    assert [part.p95 is None for part in told.tools["a"]] == [False, False, True]
    assert math.isclose(told.slices[1].p99 or 0, 3.0, rel_tol=0.03)
    assert told.together.count == 4
    clock.now = 70 + 300
    tallies.rotate()
    assert recent(tallies).together.count == 0


def test_the_busiest_tools_alone_are_drawn() -> None:
    tallies = Tallies(Clock())
    for number in range(MOST_DRAWN + 5):
        for _ in range(1 + (number >= 5)):
            tallies.count(f"tool-{number}", "success", 0.1)
    told = recent(tallies)
    assert set(told.tools) == {f"tool-{number}" for number in range(5, MOST_DRAWN + 5)}
    assert told.together.count == 5 + 2 * MOST_DRAWN, "and counted are all"
