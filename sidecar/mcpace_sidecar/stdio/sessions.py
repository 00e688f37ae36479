"""A process for each session: what a client and its process say goes to and fro as it is.

The process lives as long as the session, which ends when its client says so, or has left: no call, no open
stream for a while. Nobody's process is ended for another's: beyond the bound new sessions wait.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from time import monotonic

from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.mcp.jsonrpc import Posted
from mcpace_sidecar.mcp.responses import INVALID_REQUEST
from mcpace_sidecar.stdio.asked import BAD_REQUEST, NO_CONTENT, NOT_FOUND, Asked
from mcpace_sidecar.stdio.lines import line_of
from mcpace_sidecar.stdio.process import Process
from mcpace_sidecar.stdio.processes import Processes
from mcpace_sidecar.stdio.serving import NO_SESSION, Facts, Serving
from mcpace_sidecar.stdio.session import Home, Line, Session


class Sessions(Home):
    """All sessions of this replica."""

    def __init__(
        self, address: Address, processes: Processes, on_error: Callable[[Exception], None],
        sessionless: Serving,
    ) -> None:  # fmt: skip
        """`sessionless`: who answers clients of the era without handshakes, if the server speaks so."""
        super().__init__(address, processes, on_error)
        self._sessionless = sessionless
        self.table: dict[bytes, Session] = {}
        """Those that are established."""
        self.starting: set[Session] = set()
        """Those whose process has not answered `initialize`."""
        self.line: dict[Session, None] = {}
        """Those that wait for a process."""
        self.warm: deque[Process] = deque()
        """Processes that nobody has yet."""
        self.taken: set[Process] = set()
        """All processes of sessions, and for those to come, until nothing is left of them."""

    def post(self, asked: Asked, facts: Facts, posted: Posted, body: bytes) -> None:
        """To the session's process; `initialize` begins a session, and some clients have none."""
        if self.without_handshake(asked, facts):
            self._sessionless.post(asked, facts, posted, body)
        elif facts.session:
            session = self.table.get(facts.session)
            if session is not None:
                session.take(asked, posted, body)
            else:
                self.refuse(asked, NOT_FOUND, NO_SESSION, "Session not found")
        elif asked.method == "initialize" and asked.id:
            self._begin(asked, body)
        else:
            self.refuse(
                asked, BAD_REQUEST, INVALID_REQUEST,
                "Bad Request: a session begins with `initialize`; Mcp-Session-Id is required.",
            )  # fmt: skip

    def _begin(self, asked: Asked, body: bytes) -> None:
        if len(self.line) >= self.most_waiting:
            words = f"Too many sessions wait for a process; `stdio.maxProcesses` is {self.most}."
            self.fail_later(asked, UpstreamError("busy", words))
            return
        session = Session(self, asked, line_of(body))
        self.line[session] = None
        self.in_progress.add(asked)
        self._serve(monotonic())

    def listen(self, asked: Asked, facts: Facts) -> None:
        """To the session's stream."""
        if facts.modern:
            self._sessionless.listen(asked, facts)
            return
        session = self.table.get(facts.session)
        if session is not None:
            session.listen(asked)
        elif facts.session:
            self.refuse(asked, NOT_FOUND, NO_SESSION, "Session not found")
        else:
            words = "Bad Request: Mcp-Session-Id is required."
            self.refuse(asked, BAD_REQUEST, INVALID_REQUEST, words)

    def delete(self, asked: Asked, facts: Facts) -> None:
        """End the session, and its process."""
        if facts.modern:
            self._sessionless.delete(asked, facts)
            return
        session = self.table.get(facts.session)
        if session is None:
            self.refuse(asked, NOT_FOUND, NO_SESSION, "Session not found")
            return
        self.later(asked, b"", NO_CONTENT)
        session.finish(UpstreamError("closed", "The session was ended."))
        self.end(session)

    # -- who has which process

    def _serve(self, now: float) -> None:
        """Give processes to those that wait, as far as there are any; then keep some warm."""
        while self.line:
            process = self._next(now)
            if process is None:
                if self.processes.problem and not self.processes.may_start(now):
                    self._tell_waiting(UpstreamError("connect", self.processes.problem))
                break
            session = next(iter(self.line))
            del self.line[session]
            session.process = process
            session.deadline = now + self.start_timeout
            process.holder = Line(session)
            self.starting.add(session)
            process.write(session.line)
            session.line = b""
        self.warm = deque(process for process in self.warm if process.usable)
        room = self.most - len(self.taken)
        few = room > 0 and len(self.warm) < self.settings.warm
        # One at a time, and none while a session's starts: it may never be wanted.
        if few and not self.line and not self.starting and self.processes.may_start(now):
            self.warm.append(self._start())

    def _tell_waiting(self, error: UpstreamError) -> None:
        """Whoever waits for a process need not: the next one is tried later."""
        for session in list(self.line):
            self.forget(session)
            self.soon(functools.partial(session.finish, error))

    def _next(self, now: float) -> Process | None:
        while self.warm:
            process = self.warm.popleft()
            if process.usable:
                return process
        if len(self.taken) < self.most and self.processes.may_start(now):
            return self._start()
        return None

    def _start(self) -> Process:
        process = self.processes.start(None, self.gone)
        self.taken.add(process)
        return process

    def gone(self, process: Process) -> None:
        """There is room for another."""
        self.taken.discard(process)
        self._serve(monotonic())

    def end(self, session: Session) -> None:
        """End a session's process; nobody waits for it."""
        process, session.process = session.process, None
        if process is not None:
            process.end()
        self.forget(session)

    def establish(self, session: Session, process: Process) -> None:
        """A process has answered `initialize`."""
        self.processes.answered(process)
        self.starting.discard(session)
        self.table[session.id] = session
        self._serve(monotonic())

    def forget(self, session: Session) -> None:
        """A session has ended."""
        self.table.pop(session.id, None)
        self.starting.discard(session)
        self.line.pop(session, None)

    @property
    def waiting(self) -> int:
        """What waits for a process."""
        return len(self.line)

    # -- about twice a second

    def sweep(self, now: float) -> None:
        """Timeouts, of calls, starts and idle sessions."""
        super().sweep(now)
        for session in [s for s in self.starting if s.deadline < now]:
            self._give_up(session)
        for session in [s for s in self.line if s.deadline < now]:
            self._refuse(session)
        for session in list(self.table.values()):
            if not session.busy and session.idle_since + self.idle_timeout < now:
                session.finish(UpstreamError("closed", "The session was idle for too long."))
                self.end(session)
        self._serve(now)

    def _give_up(self, session: Session) -> None:
        process = session.process
        if process is None:
            return
        error = self.processes.silent(process, self.start_timeout)
        session.finish(error)
        self.end(session)

    def _refuse(self, session: Session) -> None:
        words = (
            f"All {self.most} processes of the server are other sessions' (`stdio.maxProcesses`), and none"
            f" became free within {self.start_timeout:g} s."
        )
        if len(self.taken) < self.most:
            words = self.processes.problem or "No process of the server could be started."
        session.finish(UpstreamError("busy", words))
        self.forget(session)

    def at_work(self, now: float) -> bool:
        """Whether a process is at work on a call, and not silent for longer than it may be."""
        return super().at_work(now) or self._sessionless.at_work(now)

    def excused(self, asked: Asked) -> bool:
        """Whether the server waits for an answer of this call's client."""
        giver = asked.giver
        return isinstance(giver, Session) and giver.asks

    def overdue(self, asked: Asked) -> None:
        """A call; `initialize` has a deadline of its own."""
        giver = asked.giver
        if not (isinstance(giver, Session) and giver.greeting is asked):
            super().overdue(asked)

    async def close(self) -> None:
        """End all."""
        for session in [*self.table.values(), *self.starting, *self.line]:
            session.finish(UpstreamError("closed", "The sidecar ends."))
            self.end(session)
        await self.processes.close()

    def __repr__(self) -> str:
        said = [f"{len(self.table)} established", f"{len(self.line)} waiting for a process"]
        said.append(f"{len(self.taken)}/{self.most} processes, {len(self.warm)} of them warm")
        return f"<Sessions {', '.join(said)}>"
