"""How long kopf waits before it watches a path again."""

from hypothesis import given
from hypothesis import strategies as st

from mcpace_operator.cluster.kopf.handlers import FIRST_PAUSE, LASTING, LONGEST_PAUSE, Pace


def test_a_watch_that_lasted_is_begun_anew_at_once_and_one_that_did_not_ever_later():
    pace, now, delays = Pace(), 0.0, []
    for _ in range(9):
        delays.append(pace.delay("/a", now))
        now += delays[-1] + 0.1  # it ends right away
    assert delays == [0.0, FIRST_PAUSE, 1.0, 2.0, 4.0, 8.0, 16.0, LONGEST_PAUSE, LONGEST_PAUSE]
    assert pace.delay("/a", now + LASTING) == 0.0
    assert pace.delay("/a", now + LASTING + 0.1) == FIRST_PAUSE, (
        "the next that ends right away is the first again"
    )


def test_one_path_waits_for_itself_alone():
    pace = Pace()
    assert [pace.delay("/a", 0.0) for _ in range(3)][-1] > 0
    assert pace.delay("/b", 0.0) == 0.0


@given(st.lists(st.floats(0, 100), max_size=50))
def test_whatever_its_watches_last_a_path_waits_no_longer_than_the_longest_pause(lasted):
    pace, now = Pace(), 0.0
    for seconds in lasted:
        delay = pace.delay("/a", now)
        assert 0.0 <= delay <= LONGEST_PAUSE
        now += delay + seconds
