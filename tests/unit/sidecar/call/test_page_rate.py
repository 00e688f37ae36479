"""How often the pages of one result are read."""

from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.call.page_rate import A_MINUTE, PageRate


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 2 * A_MINUTE)), max_size=20))
def test_a_result_is_read_at_once_and_in_a_minute_no_more_than_is_said(steps) -> None:
    clock = Clock()
    rate, began, read = PageRate(clock), clock.now, 0
    for pause, pages in steps:
        clock.now += pause
        read += sum(rate.wait(b"k") == 0.0 for _ in range(pages))
        assert read <= A_MINUTE * (1 + (clock.now - began) / 60) + 1


def test_whoever_waits_as_long_as_is_said_reads_on_and_others_results_are_their_own() -> None:
    clock = Clock()
    rate = PageRate(clock)
    assert {rate.wait(b"k") for _ in range(A_MINUTE)} == {0.0}
    wait = rate.wait(b"k")
    assert 0 < wait <= 60 / A_MINUTE + 1e-6
    assert rate.wait(b"other") == 0.0
    clock.now += wait
    assert rate.wait(b"k") == 0.0
    assert len(rate) == 2
