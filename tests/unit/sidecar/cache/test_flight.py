"""Calls in flight: one leads, each of the others is told once, and nothing of either stays."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.cache.entry import Entry
from mcpace_sidecar.cache.flight import Flights


class Follower:
    def __init__(self) -> None:
        self.ended = False
        self.heard: list[Any] = []

    def landed(self, entry: Entry | None) -> None:
        self.heard.append(entry)

    def abandoned(self) -> None:
        self.heard.append("abandoned")


KEY = st.sampled_from([b"a", b"b"])
STEPS = st.lists(
    st.tuples(st.sampled_from(["join", "leave", "end", "land", "abandon"]), KEY, st.integers(0, 9)),
    max_size=40,
)


@given(STEPS)
def test_each_key_has_one_leader_and_each_follower_hears_of_its_end_once(steps) -> None:
    flights = Flights()
    leading: dict[bytes, list[Follower]] = {}
    for verb, key, number in steps:
        following = leading.get(key, [])
        if verb == "join":
            call = Follower()
            follows = flights.join(key, call)
            assert follows == (key in leading)
            if follows:
                following.append(call)
            else:
                leading[key] = []
        elif verb == "leave" and following:
            gone = following.pop(number % len(following))
            flights.leave(key, gone)
            assert gone.heard == []
        elif verb == "end" and following:
            following[number % len(following)].ended = True
        elif verb in ("land", "abandon"):
            getattr(flights, verb)(*((key, None) if verb == "land" else (key,)))
            expected = [None if verb == "land" else "abandoned"]
            assert all(each.heard == ([] if each.ended else expected) for each in following)
            leading.pop(key, None)
        assert {k for k in (b"a", b"b") if k in flights} == set(leading)
        assert len(flights) == len(leading)
        assert flights.awaited(key) == bool(leading.get(key))


def test_followers_are_told_in_the_order_they_came_and_may_begin_anew_meanwhile() -> None:
    flights, told = Flights(), []

    class Anew(Follower):
        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

        def abandoned(self) -> None:
            told.append((self.number, flights.join(b"k", self)))

    assert not flights.join(b"k", Follower())
    for number in range(3):
        assert flights.join(b"k", Anew(number))
    flights.abandon(b"k")
    assert told == [(0, False), (1, True), (2, True)], "the first leads, the others follow it"
    waits = flights.awaited(b"k")
    assert waits


def test_a_follower_that_has_ended_is_told_nothing() -> None:
    flights, follower = Flights(), Follower()
    flights.join(b"k", Follower())
    flights.join(b"k", follower)
    follower.ended = True
    flights.land(b"k", None)
    assert follower.heard == []
    assert b"k" not in flights
