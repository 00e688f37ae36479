"""Whether a counted call may go on, by limits, breakers and slots; and what it tells them at its end."""

from __future__ import annotations

from collections.abc import Callable

from mcpace_sidecar.bulkhead.slots import Queued
from mcpace_sidecar.call.plane import Plane
from mcpace_sidecar.call.refusals import NOBODY, SERVER
from mcpace_sidecar.identity.client import Client
from mcpace_sidecar.limits.bucket import Charges, Verdict
from mcpace_sidecar.limits.plan import LimitPlan, Price
from mcpace_sidecar.telemetry.events import Status


class Admission:
    """That of one call."""

    # Defaults of the class, not set for each instance: most of them stay so.
    charges: Charges | None = None
    """What it took of its limits."""
    lines = b""
    """The header lines that say what is left of them."""
    blame = NOBODY
    """Whom its failure is held against."""
    elsewhere = False
    """Whether another sidecar holds its session: that one has the slots and breakers of who is asked."""
    _trying = False
    """Whether the circuit breakers let it through, and may wait for what it says of the server."""

    def __init__(self, plane: Plane, label: str) -> None:
        """`label`: the name under which the breakers know it."""
        self._plane = plane
        self._label = label
        self._seat: Queued | None = None
        """Who holds a slot, if it does."""

    def charge(self, limits: LimitPlan, client: Client, price: Price | None) -> Verdict | None:
        """Take what the call costs: the verdict, or None: it must be asked for."""
        charges = self.charges = limits.charges(client, price)
        return self._plane.limits.take(charges)

    def ask(self, done: Callable[[Verdict], None]) -> None:
        """Have it judged and taken where limits are shared; `done` is told the verdict, later."""
        assert self.charges is not None
        self._plane.limits.ask(self.charges, done)

    def heed(self, verdict: Verdict) -> bool:
        """Whether it may go on."""
        if verdict.left is not None and self.charges is not None:
            self.lines = self.charges.lines(verdict.left, verdict.at)
        return verdict.allowed

    def give_back(self, since: float) -> None:
        """It was no call after all. `since`: when it began, in seconds of the monotonic clock."""
        if self.charges is not None:
            self._plane.give_back(self.charges, since)
            self.lines = b""

    def wait(self) -> float:
        """Seconds until the circuit breakers let it through; 0: they do."""
        breakers = self._plane.breakers
        if not breakers.known:
            return 0.0
        wait = breakers.wait(self._label)
        self._trying = not wait
        return wait

    def enter(self, call: Queued) -> bool | None:
        """True: a slot is its own. False: it is in the line. None: the line is full."""
        entered = self._plane.bulkhead.enter(call)
        if entered:
            self._seat = call
        return entered

    def seated(self, call: Queued) -> None:
        """A slot has come free for it."""
        self._seat = call

    def leave(self) -> None:
        """Give its slot back, if it has one."""
        seat, self._seat = self._seat, None
        if seat is not None:
            self._plane.bulkhead.leave(seat)

    def judge(self, status: Status, *, asked: bool) -> None:
        """Tell the circuit breakers what the call says of the server. `asked`: whether it was."""
        breakers = self._plane.breakers
        if self.elsewhere:
            if self._trying:  # this server was not tried
                breakers.forgotten(self._label)
            return
        if self.blame:
            breakers.judged(self._label, failed=True, server=self.blame == SERVER)
        elif breakers.known:
            if asked and status in ("success", "error"):
                breakers.judged(self._label, failed=False, server=False)
            elif self._trying:
                breakers.forgotten(self._label)
