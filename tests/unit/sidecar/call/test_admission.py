"""What a call holds of limits, slots and breakers, and what it tells them at its end."""

from __future__ import annotations

import re

import pytest
from tests.kit.played import Played
from tests.kit.waiting import until

from mcpace_sidecar.call.admission import Admission
from mcpace_sidecar.call.refusals import NOBODY, SERVER, TOOL
from mcpace_sidecar.identity.client import Client

ONE_SLOT = {"concurrency": {"maxInFlight": 1, "maxQueued": 1}}
BREAKING = {"concurrency": {"maxInFlight": 9, "circuitBreaker": {"failures": 1, "openFor": "1h"}}}
LIMITED = {"rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 2}]}}


class Caller:
    """One who waits for a slot."""

    deadline = float("inf")
    ended = False

    def __init__(self) -> None:
        self.seats = 0

    def seated(self, left: float) -> None:
        assert left > 0
        self.seats += 1

    def overdue(self) -> None:
        raise AssertionError("it has time")


async def test_a_slot_is_given_back_once_however_often_it_is_left() -> None:
    bulkhead = (plane := Played(ONE_SLOT).plane).bulkhead
    first, second, third = (Admission(plane, "t") for _ in range(3))
    one, other = Caller(), Caller()
    assert (first.enter(one), second.enter(other), third.enter(Caller())) == (True, False, None)
    second.leave()
    assert bulkhead.in_flight == 1, "who stands in the line has no slot to give back"
    first.leave()
    assert (other.seats, bulkhead.in_flight) == (1, 1), "the next in the line has it"
    first.leave()
    assert bulkhead.in_flight == 1, "and keeps it"
    second.seated(other)
    second.leave()
    assert bulkhead.in_flight == 0


@pytest.mark.parametrize(("blame", "waits"), [(NOBODY, ""), (TOOL, "t"), (SERVER, "t other")])
async def test_a_failure_is_held_against_whom_it_is_blamed_on(blame: int, waits: str) -> None:
    plane = Played(BREAKING).plane
    failed = Admission(plane, "t")
    failed.blame = blame
    failed.judge("failed", asked=True)
    assert [label for label in ("t", "other") if Admission(plane, label).wait()] == waits.split()


@pytest.mark.parametrize(("status", "asked"), [("failed", False), ("limited", False), ("success", False)])
async def test_a_trial_that_tells_nothing_lets_the_next_call_try(status: str, asked: bool) -> None:
    plane = Played(BREAKING).plane
    plane.breakers.judged("t", failed=True, server=False)
    plane.breakers.known["t"].open_until = 1.0
    trial, other = Admission(plane, "t"), Admission(plane, "t")
    assert trial.wait() == 0.0
    assert other.wait() > 0, "one at a time"
    other.judge(status, asked=asked)
    assert other.wait() > 0, "who was not let through ends no trial"
    trial.judge(status, asked=asked)
    assert Admission(plane, "t").wait() == 0.0


async def test_a_trial_that_goes_on_at_another_replica_lets_the_next_call_try() -> None:
    plane = Played({"concurrency": {"circuitBreaker": {"failures": 1, "openFor": "1ms"}}}).plane
    plane.breakers.judged("t", failed=True, server=True)
    trial, other = Admission(plane, "t"), Admission(plane, "t")
    await until(lambda: trial.wait() == 0.0, "the breaker to let one try")
    trial.elsewhere = True
    trial.judge("success", asked=True)
    assert other.wait() == 0.0


@pytest.mark.parametrize("status", ["success", "error"])
async def test_a_trial_that_the_server_answers_closes_the_breaker(status: str) -> None:
    plane = Played(BREAKING).plane
    plane.breakers.judged("t", failed=True, server=False)
    plane.breakers.known["t"].open_until = 1.0
    trial = Admission(plane, "t")
    assert trial.wait() == 0.0
    trial.judge(status, asked=True)
    assert not plane.breakers.known


async def test_the_headers_say_what_is_left_of_a_call_and_nothing_of_one_that_was_none() -> None:
    plane = Played(LIMITED).plane
    limits = plane.settings.limits
    assert limits is not None
    heeded = []
    for _ in range(3):
        admission = Admission(plane, "t")
        verdict = admission.charge(limits, Client("somebody"), None)
        assert verdict is not None, "memory says so at once"
        heeded.append((admission.heed(verdict), *re.findall(rb"r=(\d+)", admission.lines)))
    assert heeded == [(True, b"1"), (True, b"0"), (False, b"0")]
    admission.give_back(0.0)
    assert admission.lines == b""
