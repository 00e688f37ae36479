"""Slots, the line for them, and breakers: never too many at once, in the order they came, none forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.bulkhead.slots import Breakers, Bulkhead
from mcpace_sidecar.contract.config.traffic import CircuitBreaker, Concurrency


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Call:
    """A call that leaves as soon as it is seated, where it is told to."""

    def __init__(self, number: int, deadline: float, bulkhead: Bulkhead, *, brief: bool = False) -> None:
        self.number = number
        self.deadline = deadline
        self.ended = False
        self.heard: list[str] = []
        self._bulkhead = bulkhead
        self._brief = brief

    def seated(self, left: float) -> None:
        assert left >= 0
        self.heard.append("seated")
        if self._brief:
            self._bulkhead.leave(self)

    def overdue(self) -> None:
        self.heard.append("overdue")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.floats(0, 5), st.booleans()),
        st.tuples(st.sampled_from(["leave", "withdraw", "end", "sweep"]), st.integers(0, 20)),
        st.tuples(st.just("wait"), st.floats(0, 3)),
        st.tuples(st.just("adopt"), st.integers(1, 4)),
    ),
    max_size=60,
)


@given(slots=st.integers(1, 3), places=st.integers(0, 3), steps=STEPS)
def test_whatever_comes_slots_are_never_too_many_and_whoever_waits_is_told_once(
    slots, places, steps
) -> None:
    clock = Clock()
    bulkhead = Bulkhead(Concurrency(max_in_flight=slots, max_queued=places), clock)
    calls: list[Call] = []
    seated: set[Call] = set()
    order: list[int] = []

    def look() -> None:
        for call in calls:
            if call.heard == ["seated"] and call not in seated:
                seated.add(call)
                order.append(call.number)
            assert len(call.heard) <= 1

    most = slots
    for verb, *rest in steps:
        if verb == "enter":
            call = Call(len(calls), clock.now + rest[0], bulkhead, brief=rest[1])
            inside = len(bulkhead.seats) < bulkhead.max_in_flight
            entered = bulkhead.enter(call)
            assert entered is not True or inside
            if entered is not None:
                calls.append(call)
            if entered is True:
                call.heard.append("seated")
                seated.add(call)
        elif verb == "wait":
            clock.now += rest[0]
        elif verb == "adopt":
            most = max(rest[0], len(bulkhead.seats))
            bulkhead.adopt(Concurrency(max_in_flight=rest[0], max_queued=places))
        elif verb == "sweep":
            bulkhead.sweep(clock.now)
            assert all(call.deadline >= clock.now for call in bulkhead.queue)
        elif calls:
            call = calls[rest[0] % len(calls)]
            if verb == "leave" and call in bulkhead.seats:
                bulkhead.leave(call)
                most = max(bulkhead.max_in_flight, len(bulkhead.seats))
            elif verb == "withdraw":
                bulkhead.withdraw(call)
            elif verb == "end" and call not in bulkhead.seats:
                call.ended = True
        look()
        assert bulkhead.in_flight <= max(most, bulkhead.max_in_flight)
    assert order == sorted(order), "first come, first served"
    for call in list(bulkhead.seats):
        bulkhead.leave(call)
        look()
    while bulkhead.seats:
        bulkhead.leave(next(iter(bulkhead.seats)))
    assert not bulkhead.queue, "whoever waits is seated once there is room"


def test_a_line_of_thousands_that_leave_at_once_is_no_deep_recursion() -> None:
    bulkhead = Bulkhead(Concurrency(max_in_flight=1, max_queued=10_000), Clock())
    first = Call(0, 2000.0, bulkhead)
    assert bulkhead.enter(first)
    waiting = [Call(number, 2000.0, bulkhead, brief=True) for number in range(10_000)]
    assert {bulkhead.enter(call) for call in waiting} == {False}
    assert bulkhead.full
    assert bulkhead.enter(Call(0, 2000.0, bulkhead)) is None
    bulkhead.leave(first)
    assert all(call.heard == ["seated"] for call in waiting)
    assert bulkhead.in_flight == 0


def breakers(failures: int = 3, open_for: str = "10s") -> tuple[Clock, Breakers]:
    clock = Clock()
    known = Breakers(clock)
    known.adopt(CircuitBreaker(failures=failures, open_for=open_for))
    return clock, known


def test_a_breaker_opens_after_failures_in_a_row_and_one_trial_decides() -> None:
    clock, known = breakers()
    for _ in range(2):
        known.judged("t", True, server=False)
    known.judged("t", False, server=False)
    for _ in range(3):
        assert known.wait("t") == 0.0
        known.judged("t", True, server=False)
    assert known.wait("t") == 10.0
    assert known.wait("other") == 0.0, "another tool's failures are its own"
    clock.now += 10
    assert known.wait("t") == 0.0
    assert known.wait("t") == 1.0, "one tries, the others wait"
    known.judged("t", True, server=False)
    assert known.wait("t") == 10.0
    clock.now += 10
    assert known.wait("t") == 0.0
    known.judged("t", False, server=False)
    assert [known.wait("t"), known.wait("t")] == [0.0, 0.0]
    assert known.open() == []


def test_a_trial_that_told_nothing_is_tried_again_by_the_next() -> None:
    clock, known = breakers(failures=1)
    known.judged("t", True, server=True)
    assert set(known.open()) == {"", "t"}
    clock.now += 11
    assert known.wait("t") == 0.0
    assert known.wait("u") == 1.0, "the whole server is tried"
    known.forgotten("t")
    assert known.wait("u") == 0.0
    known.judged("u", False, server=False)
    assert known.wait("v") == 0.0


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.booleans(), st.floats(0, 20)), max_size=40)
)
def test_whatever_fails_a_breaker_never_stays_shut_for_longer_than_it_says(calls) -> None:
    clock, known = breakers(failures=2)
    for tool, failed, server, pause in calls:
        if known.wait(tool) == 0.0:
            known.judged(tool, failed, server=server)
        clock.now += pause
    clock.now += 10
    for tool in "ab":
        assert known.wait(tool) == 0.0
        known.judged(tool, False, server=False)
    assert known.known == {}


@pytest.mark.parametrize("rule", [None, CircuitBreaker(failures=5)])
def test_another_rule_begins_anew_and_none_never_opens(rule: CircuitBreaker | None) -> None:
    _, known = breakers(failures=1)
    known.judged("t", True, server=True)
    known.adopt(rule)
    assert known.wait("t") == 0.0
    known.judged("t", True, server=True)
    assert known.wait("t") == 0.0
