"""Calls a second between two looks, from a report that counts in half minutes; and how they are drawn."""

from __future__ import annotations

import pytest

from mcpace_cli.live.rates import ASCII, BLOCKS, LATELY, LOOKS, Rates, spark
from mcpace_sidecar.contract.report import Counted, Recent, Slice

NONE = Counted(0, 0, 0, 0, 0, 0.0, {})


def report(*slices: tuple[float, int], tool: str = "a") -> Recent:
    """Of one tool: seconds and calls of each half minute."""
    told = tuple(Slice(seconds, count) for seconds, count in slices)
    return Recent(NONE, told, {tool: told})


def looks(*reports: Recent, every: float = 2.0) -> Rates:
    rates = Rates()
    for number, each in enumerate(reports):
        rates.look(100.0 + number * every, each)
    return rates


def test_one_look_tells_no_rate():
    rates = looks(report((10.0, 1000)))
    assert rates.now("a") == 0
    assert rates.each("a") == []


def test_what_ended_between_two_looks_is_what_their_half_minute_grew_by():
    rates = looks(report((10.0, 100)), report((12.0, 106)), report((14.0, 106)))
    assert rates.each("a") == [3, 0]
    assert rates.now("a") == 1.5


def test_a_half_minute_that_ends_between_two_looks_counts_to_its_end():
    rates = looks(report((30.0, 7), (29.0, 100)), report((30.0, 7), (30.0, 105), (1.0, 3)))
    assert rates.each("a") == [4]


def test_a_half_minute_that_is_looked_back_at_no_more_changes_nothing():
    rates = looks(report((30.0, 70), (30.0, 4), (5.0, 4)), report((30.0, 4), (7.0, 8)))
    assert rates.each("a") == [2]


def test_a_tool_that_is_called_for_the_first_time_had_no_calls_before():
    rates = looks(report((5.0, 1), tool="b"), report((7.0, 2), tool="b"), report((9.0, 6)))
    assert rates.each("a") == [0, 3]
    assert rates.each("b") == [0.5, 0], "its half minutes are told no more"


def test_a_rate_is_of_the_last_looks_and_a_tool_that_rests_is_forgotten():
    counts = [0, 10, *[10] * LATELY]
    rates = looks(*(report((float(2 * number), count)) for number, count in enumerate(counts)))
    assert rates.now("a") == 0
    assert sum(rates.each("a")) == 5
    rates = looks(*(report((number / 10, min(number, 1))) for number in range(LOOKS + 3)))
    assert rates.each("a") == [0] * LOOKS
    assert rates.now("nobody") == 0


@pytest.mark.parametrize("gap", [0.0, 26.0])
def test_looks_that_are_too_far_apart_tell_nothing(gap: float):
    assert looks(report((1.0, 1)), report((2.0, 50)), every=gap).each("a") == []


def test_a_server_that_has_begun_anew_has_no_rate_below_nothing():
    assert looks(report((20.0, 90)), report((22.0, 3))).each("a") == [0]


def test_a_line_of_blocks_is_as_wide_as_there_is_room_and_blank_where_nothing_was():
    assert spark([0, 1, 4, 8], 10) == " ▁▄█"
    assert spark([9, 0, 8, 8], 3) == " ██"
    assert spark([0, 1, 4, 8], 10, ASCII) == " _=#"
    assert spark([1.0], 0) == ""
    assert spark([], 5) == ""
    assert len(BLOCKS) == len(ASCII)
