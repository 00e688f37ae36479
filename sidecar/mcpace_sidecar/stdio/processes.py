"""All processes of the server: starting them, what they got wrong, when another is tried, and their end."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Final

from mcpace_sidecar.contract.backoff import Backoff
from mcpace_sidecar.contract.report import Processes as Counted
from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.http.ledger import Ledger
from mcpace_sidecar.stdio.channel import Launch
from mcpace_sidecar.stdio.process import ENDING, RUNNING, STARTING, Holder, Process

log = logging.getLogger(__name__)

AGAIN: Final = (0.25, 30.0)
"""Seconds until one is started after the second that failed in a row: at first, at most."""
THERE_YET: Final = 0.5
"""Seconds until one is tried again where nobody is there to start it yet, as while its image is pulled."""
LIVED: Final = 60.0
"""Seconds that a process lives for, after which its end is no failure in a row with another."""
ENDING_AT_MOST: Final = 8.0
"""Seconds in which all processes have ended, one way or another."""
REASONS: Final = ("command", "ended", "refused", "silent", "wrote")
"""What a process got wrong at its start: no such command, it ended, answered with an error, not at all, or
wrote to its standard output what is no message."""


class Processes:
    """Those that live, and what was counted of them."""

    def __init__(
        self, launch: Launch, gathered: Ledger, on_error: Callable[[Exception], None], *,
        shared: bool = True,
    ) -> None:  # fmt: skip
        """`shared`: whether they are everybody's, so that the end of one that had answered is a failure."""
        self._launch = launch
        self._shared = shared
        self.gathered = gathered
        """What bounds their unfinished lines."""
        self._on_error = on_error
        self.all: set[Process] = set()
        self.starts = 0
        self.failed: Counter[str] = Counter()
        """Starts that failed, by reason."""
        self.crashes = 0
        """Processes that had answered, and ended unasked."""
        self._junk = 0
        self.modern: bool | None = None
        """Whether the server speaks without handshakes (MCP 2026-07-28); None: it was not asked yet."""
        self.problem = ""
        """Why the last one that failed did; empty since one has answered."""
        self.in_a_row = 0
        """Failures since one lived for a while."""
        self._again = Backoff(*AGAIN)
        self._not_before = 0.0
        self._starting: set[asyncio.Task[None]] = set()

    @property
    def junk(self) -> int:
        """Lines on standard output that were no messages."""
        return self._junk + sum(process.junk for process in self.all)

    def may_start(self, now: float) -> bool:
        """Whether another may be started: not too soon after one that failed."""
        return now >= self._not_before

    def start(self, holder: Holder | None, gone: Callable[[Process], None]) -> Process:
        """Start one. `gone` is told when nothing is left of it."""
        self.starts += 1
        process = Process(self.starts, holder, self.gathered, self._on_end, gone, self._on_error)
        self.all.add(process)
        task = asyncio.get_running_loop().create_task(self._start(process))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return process

    async def _start(self, process: Process) -> None:
        try:
            await self._launch.start(process)
        except UpstreamError as error:
            process.lost(str(error))
        except Exception as error:  # noqa: BLE001 - because those who wait are told, whatever it is
            self._on_error(error)
            process.lost("The server's process cannot be started.")

    def answered(self, process: Process) -> None:
        """Its handshake has succeeded."""
        process.answered = True
        self.problem = ""
        if not self._shared:
            self._rise()

    def silent(self, process: Process, patience: float) -> UpstreamError:
        """It has not answered its handshake in time, and is ended: the error that says so."""
        how = f"did not answer `initialize` within {patience:g} s"
        return UpstreamError("timeout", self._failed("silent", process, how))

    def refused(self, process: Process, error: str, method: str = "initialize") -> UpstreamError:
        """It has answered its handshake with an error, and is ended: the error that says so."""
        return UpstreamError("connect", self._failed("refused", process, f"refuses `{method}`: {error}"))

    def _on_end(self, process: Process, how: str) -> str:
        """Count its end, and say how it came."""
        if process.answered:
            self.crashes += 1
            if self._shared:
                self._fall(monotonic() - process.since)
            words = f"The server's process {how}."
            log.warning("%s", words)
            return words
        if process.baffled:
            return f"The server's process {how}."
        if not process.ran:
            self.problem = how
            if self._launch.waits:
                self._not_before = monotonic() + THERE_YET
            else:
                self._fall(0.0)
                self.failed["command"] += 1
            return how
        return self._failed("ended", process, f"{how} before it answered `initialize`")

    def _failed(self, reason: str, process: Process, how: str) -> str:
        self._fall(0.0)
        self.failed["wrote" if process.junk else reason] += 1
        words = f"The server's process {how}."
        if process.junk:
            lines = "a line" if process.junk == 1 else f"{process.junk} lines"
            words += (
                f" It wrote {lines} to its standard output that are no MCP: what is not belongs to its"
                " standard error."
            )
        self.problem = words
        return words

    def _fall(self, lived: float) -> None:
        """One has failed: the next one is started at once, those after it ever later."""
        if lived >= LIVED:
            self._rise()
        self.in_a_row += 1
        if self.in_a_row > 1:
            self._not_before = monotonic() + self._again.next()

    def _rise(self) -> None:
        self.in_a_row = 0
        self._again.reset()
        self._not_before = 0.0

    def sweep(self, now: float) -> None:
        """Lead those that end to their end; about twice a second."""
        for process in list(self.all):
            if process.look(now):
                self._leave(process)

    def _leave(self, process: Process) -> None:
        self.all.discard(process)
        self._junk += process.junk
        process.gone(process)

    async def close(self) -> None:
        """End all, and wait until they have."""
        self._not_before = math.inf
        for task in list(self._starting):
            await asyncio.wait({task}, timeout=ENDING_AT_MOST)
        for process in list(self.all):
            process.end()
        deadline = monotonic() + ENDING_AT_MOST
        while self.all and (now := monotonic()) < deadline:
            self.sweep(now)
            await asyncio.sleep(0.02)
        self._launch.close()

    def hurry(self) -> None:
        """Kill all, now."""
        for process in list(self.all):
            process.end()
            process.hurry()
        self.sweep(monotonic())

    def counts(self) -> Iterator[tuple[str, int]]:
        """How many are in which state."""
        states = Counter(process.state for process in self.all)
        for name, state in (("starting", STARTING), ("running", RUNNING), ("ending", ENDING)):
            yield name, states[state]

    def counted(self, waiting: int) -> Counted:
        """What is reported of them. `waiting`: sessions or calls that wait for one."""
        counts = dict(self.counts())
        return Counted(
            running=counts["running"], starting=counts["starting"], waiting=waiting, starts=self.starts,
            failed=dict(self.failed), crashes=self.crashes, junk_lines=self.junk, problem=self.problem,
        )  # fmt: skip

    def __repr__(self) -> str:
        said = [f"{count} {name}" for name, count in self.counts()]
        said.append(f"{self.starts} started")
        if self.failed:
            said.append(f"{sum(self.failed.values())} failed")
        return f"<Processes {', '.join(said)}>"
