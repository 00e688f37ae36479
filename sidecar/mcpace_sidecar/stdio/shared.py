"""The same processes for all clients: under ids of ours, and a handshake that offers them nothing.

Each process works on so many calls at once, further calls wait. What a server asks of its client is refused
at once, since it would wait for ever otherwise; what it tells is told to all, or to nobody.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from time import monotonic
from typing import Final

import msgspec

from mcpace_sidecar.contract.config import SidecarConfig
from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.mcp import responses
from mcpace_sidecar.mcp.jsonrpc import Posted
from mcpace_sidecar.mcp.methods import ENDLESS, INITIALIZE
from mcpace_sidecar.mcp.responses import INVALID_REQUEST, NO_METHOD
from mcpace_sidecar.mcp.strictness import MEMBERS
from mcpace_sidecar.stdio import modern
from mcpace_sidecar.stdio.asked import BAD_REQUEST, NOT_ALLOWED, NOT_FOUND, OK, Asked, Giver
from mcpace_sidecar.stdio.process import Process
from mcpace_sidecar.stdio.processes import Processes
from mcpace_sidecar.stdio.serving import Facts
from mcpace_sidecar.stdio.worker import Home, Worker

_VERSIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Versions whose handshake is the same, oldest first."""
_TOO_MANY: Final = "Too many calls wait for the server's processes."
_EMPTY: Final = msgspec.Raw(b"{}")


class Shared(Home):
    """All clients' processes."""

    def __init__(
        self, address: Address, processes: Processes, on_error: Callable[[Exception], None],
        *, most: int = 0, calls: int = 0,
    ) -> None:  # fmt: skip
        """`most`, `calls`: processes, and calls of each, in place of what the configuration says."""
        super().__init__(address, processes, on_error, most=most)
        self._calls = calls
        self.calls_per_process = calls or 1
        self.workers: list[Worker] = []
        self.taken: set[Process] = set()
        """Their processes, until nothing is left of them."""
        self._line: dict[Asked, None] = {}
        """Calls that wait for a process."""
        self._greeting: dict[Asked, str] = {}
        """Those that wait for who the server is -> the version that their client speaks."""
        self._hello: dict[str, msgspec.Raw] = {}
        """What the server said of itself; empty: it is not known."""
        self._discovered: dict[str, msgspec.Raw] = {}
        """The same where there is no handshake; empty: it is not known, or there is one."""
        self._unsure: dict[Asked, tuple[Facts, Posted]] = {}
        """Requests without a handshake that wait for whether the server knows such."""
        self._listening: dict[Asked, None] = {}
        self._numbers = itertools.count(100)
        self._starts = _Waiting(self)

    def adopt(self, config: SidecarConfig) -> None:
        """Use what this says from the next request on."""
        super().adopt(config)
        self.calls_per_process = self._calls or config.stdio.calls_per_process

    # -- what clients say

    def post(self, asked: Asked, facts: Facts, posted: Posted, body: bytes) -> None:
        """Answer what is known here; the rest waits for a process."""
        del body
        method = asked.method
        if not asked.id or posted.method is None:
            self.accept(asked)  # there is no client that a process could know it of
        elif self.without_handshake(asked, facts):
            self._take_modern(asked, facts, posted)
        elif method == INITIALIZE:
            self._greet(asked, posted)
        elif method in ("ping", "logging/setLevel"):
            self.later(asked, responses.result_body(asked.id, b"{}"), OK)
        elif method in ("resources/subscribe", "resources/unsubscribe"):
            words = "The server's processes are shared: they tell nobody of changes of a resource."
            self.refuse(asked, OK, NO_METHOD, words)
        elif method == "server/discover":
            self.refuse(asked, BAD_REQUEST, NO_METHOD, "Method not found: begin with `initialize`.")
        else:
            self._queue(asked, posted)

    def _take_modern(self, asked: Asked, facts: Facts, posted: Posted) -> None:
        """What comes without a handshake, to servers that speak so."""
        method, speaks = asked.method, self.processes.modern
        if speaks is False:
            if method == "server/discover":  # upon which clients shake hands
                self.refuse(asked, BAD_REQUEST, NO_METHOD, "Method not found: begin with `initialize`.")
            else:
                body = modern.unspoken(asked.id, facts.version, list(_VERSIONS))
                self.later(asked, body, BAD_REQUEST)
            return
        endless = method in ENDLESS
        worker = next((each for each in self.workers if each.modern), None) if endless else None
        if not self._discovered or (endless and worker is None):
            self._wait_unsure(asked, facts, posted)
            return
        spoken = modern.versions(msgspec.json.encode(self._discovered))
        wrong = modern.refusal(asked, bytes(posted.params), facts.version, facts.about, spoken)
        if wrong:
            self.later(asked, wrong, BAD_REQUEST)
        elif method == INITIALIZE:
            self.refuse(asked, NOT_FOUND, NO_METHOD, "Method not found: this version has no handshake.")
        elif method == "server/discover":
            self.later(asked, responses.result_body(asked.id, msgspec.json.encode(self._discovered)), OK)
        elif worker is not None:
            asked.params = bytes(posted.params)
            asked.giver = self._starts
            worker.subscribe(b"%d" % next(self._numbers), asked)
        else:
            asked.logs = modern.wants_log(bytes(posted.params))
            self._queue(asked, posted)

    def _wait_unsure(self, asked: Asked, facts: Facts, posted: Posted) -> None:
        if len(self._unsure) >= self.most_waiting:
            self.fail_later(asked, UpstreamError("busy", _TOO_MANY))
            return
        asked.giver = self._starts
        if asked.method not in ENDLESS:
            self.in_progress.add(asked)
        self._unsure[asked] = facts, posted
        self.serve(monotonic())

    def _queue(self, asked: Asked, posted: Posted) -> None:
        """A call, for the next process that is free."""
        if len(self._line) >= self.most_waiting:
            self.fail_later(asked, UpstreamError("busy", _TOO_MANY))
        else:
            asked.params = bytes(posted.params)
            asked.giver = self._starts
            self.in_progress.add(asked)
            self._line[asked] = None
            now = monotonic()
            if self.asked == 0.0:
                self.asked = now
            self.serve(now)

    def _greet(self, asked: Asked, posted: Posted) -> None:
        try:
            wanted = MEMBERS.decode(posted.params).get("protocolVersion", _EMPTY)
            version = str(msgspec.json.decode(wanted))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            version = ""
        if self._hello:
            self.later(asked, self._welcome(asked, version), OK)
            return
        asked.giver = self._starts
        self.in_progress.add(asked)
        self._greeting[asked] = version
        self.serve(monotonic())

    def _welcome(self, asked: Asked, version: str) -> bytes:
        """What the server said of itself, without what nobody would hear."""
        hello = dict(self._hello)
        theirs = str(msgspec.json.decode(hello.get("protocolVersion", _EMPTY)))
        if (
            version in _VERSIONS
            and theirs in _VERSIONS
            and _VERSIONS.index(version) < _VERSIONS.index(theirs)
        ):
            hello["protocolVersion"] = msgspec.Raw(msgspec.json.encode(version))
        offered = MEMBERS.decode(hello.get("capabilities", _EMPTY))
        offered.pop("logging", None)
        if "resources" in offered:
            resources = MEMBERS.decode(offered["resources"])
            resources.pop("subscribe", None)
            offered["resources"] = msgspec.Raw(msgspec.json.encode(resources))
        hello["capabilities"] = msgspec.Raw(msgspec.json.encode(offered))
        return responses.result_body(asked.id, msgspec.json.encode(hello))

    def listen(self, asked: Asked, facts: Facts) -> None:
        """Tell it that lists have changed."""
        if facts.modern:
            self.refuse(asked, NOT_ALLOWED, INVALID_REQUEST, "Use POST.")
            return
        asked.giver = self._starts
        self._listening[asked] = None
        self.soon(asked.begin)

    def delete(self, asked: Asked, facts: Facts) -> None:
        """There is no session to end."""
        del facts
        self.refuse(asked, NOT_ALLOWED, INVALID_REQUEST, "There are no sessions: processes are shared.")

    def give_up(self, asked: Asked) -> None:
        """Nobody waits for this one any more, or it is answered."""
        self.in_progress.discard(asked)
        self._listening.pop(asked, None)
        self._greeting.pop(asked, None)
        self._unsure.pop(asked, None)
        if asked in self._line:
            del self._line[asked]
        else:
            any(worker.give_up(asked) for worker in self.workers)

    # -- who works on what

    def serve(self, now: float) -> None:
        """Give calls to processes that are free; start one more where none is."""
        while self._line:
            worker = min((w for w in self.workers if w.free), key=_load, default=None)
            if worker is None:
                break
            asked = next(iter(self._line))
            del self._line[asked]
            worker.work(b"%d" % next(self._numbers), asked)
        wanted = bool(self._line or self._greeting or self._unsure) and all(
            worker.ready for worker in self.workers
        )
        if not wanted and not self._too_few:
            return
        if not self.processes.may_start(now):
            if self.processes.problem and not self.workers:
                self._tell_waiting(UpstreamError("connect", self.processes.problem))
        elif len(self.taken) < self.most:
            self._start()

    def _tell_waiting(self, error: UpstreamError) -> None:
        """Whoever waits for a process need not: the next one is tried later."""
        for asked in [*self._greeting, *self._unsure, *self._line]:
            self.fail_later(asked, error)

    @property
    def _too_few(self) -> bool:
        return len(self.workers) < min(self.settings.warm, self.most) and not self._own_most

    def _start(self) -> None:
        worker = Worker(self)
        self.workers.append(worker)
        self.taken.add(worker.process)

    def greeted(self, hello: dict[str, msgspec.Raw], discovered: dict[str, msgspec.Raw]) -> None:
        """A process has said who it is."""
        self._hello, self._discovered = hello, discovered
        greeting, self._greeting = self._greeting, {}
        for asked, version in greeting.items():
            asked.answer(self._welcome(asked, version))
        unsure, self._unsure = self._unsure, {}
        for asked, (facts, posted) in unsure.items():
            self._take_modern(asked, facts, posted)
        self.serve(monotonic())

    def lose(self, worker: Worker, error: UpstreamError) -> None:
        """One of them has ended. Where it never began, those that wait for one are told."""
        if worker in self.workers:
            self.workers.remove(worker)
        if not self.workers:
            self._hello, self._discovered = {}, {}  # the next one may be another version
        worker.finish(error)
        if not worker.ready and not any(other.ready for other in self.workers):
            self._tell_waiting(error)
        self.serve(monotonic())

    def again(self, worker: Worker) -> None:
        """One has ended at what it was asked first; another is asked otherwise."""
        self.workers.remove(worker)
        self.serve(monotonic())

    def gone(self, process: Process) -> None:
        """There is room for another."""
        self.taken.discard(process)
        self.serve(monotonic())

    def overdue(self, asked: Asked) -> None:
        """It has waited too long, for its turn or for its answer."""
        if asked in self._line:
            words = f"No process of the server became free within {asked.patience or 0.0:g} s."
            asked.fail(UpstreamError("busy", words))
        else:
            super().overdue(asked)

    def tell(self, message: bytes) -> None:
        """Tell all who listen."""
        for asked in list(self._listening):
            if asked.begun:
                asked.say(message)

    @property
    def waiting(self) -> int:
        """What waits for a process."""
        return len(self._line)

    # -- about twice a second

    def sweep(self, now: float) -> None:
        """Timeouts, of calls, starts, and processes that hang."""
        super().sweep(now)
        for worker in list(self.workers):
            if not worker.ready and worker.await_greeting(now):
                error = self.processes.silent(worker.process, self.start_timeout)
                worker.process.end()
                self.lose(worker, error)
            elif worker.ready and worker.look(now):
                worker.process.end()
                self.lose(worker, UpstreamError("closed", "The server's process hung, and was ended."))
        spare = len(self.workers) - max(1, self.settings.warm)
        idle = [each for each in self.workers if each.idle and each.idle_since + self.idle_timeout < now]
        for worker in idle[: max(0, spare)]:
            worker.process.end()
            self.workers.remove(worker)
        self.serve(now)

    async def close(self) -> None:
        """End all."""
        error = UpstreamError("closed", "The sidecar ends.")
        for asked in [*self._greeting, *self._unsure, *self._line]:
            asked.fail(error)
        for asked in list(self._listening):
            asked.end()
        for worker in self.workers:
            worker.finish(error)
        await self.processes.close()

    def __repr__(self) -> str:
        said = [f"{len(self.workers)}/{self.most} processes", f"{len(self._line)} calls waiting"]
        return f"<Shared {', '.join(said)}>"


class _Waiting(Giver):
    """Who answers what shared processes are asked."""

    def __init__(self, home: Shared) -> None:
        self._home = home

    def given_up(self, asked: Asked) -> None:
        """Nobody waits for this one any more, or it is answered."""
        self._home.give_up(asked)


def _load(worker: Worker) -> int:
    return len(worker.calls)
