"""The pauses between tries that fail."""

from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.contract.backoff import Backoff


def test_pauses_grow_up_to_the_longest_and_begin_anew_after_success():
    backoff = Backoff(0.5, 3.0)
    assert [backoff.next() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    backoff.reset()
    assert [backoff.next() for _ in range(2)] == [0.5, 1.0]


@given(st.floats(0.01, 10), st.floats(1, 100), st.floats(1, 4), st.integers(1, 2000))
def test_no_pause_is_shorter_than_the_one_before_or_longer_than_the_longest(first, times, factor, tries):
    backoff = Backoff(first, first * times, factor)
    pauses = [backoff.next() for _ in range(tries)]
    assert pauses == sorted(pauses)
    assert pauses[-1] <= first * times
