"""A call of a session as it was last sent, and while it waits for something else than the answer."""

from __future__ import annotations

import asyncio
from typing import Protocol

from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.waiting import Releasing
from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.http.backend import Backend
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.mcp.methods import TOLD
from mcpace_sidecar.relay import peer
from mcpace_sidecar.sessions.sealing import UNBOUND, Owner
from mcpace_sidecar.sessions.session import Session


class Asker(Protocol):
    """The asking of the server."""

    def ask(self, left: float | None = None) -> None:
        """Send the request."""

    def drop(self) -> None:
        """What comes of the answer is not wanted."""

    def fail(self, error: UpstreamError) -> None:
        """End without the server's answer."""

    def take_answer(self, head: ResponseHead, body: bytes) -> None:
        """Give this answer."""


class Sent(Releasing):
    """Where the call of a session is."""

    def __init__(self, asker: Asker, answer: Answer) -> None:
        self._asker: Asker | None = asker
        self._answer = answer
        answer.within = self
        self._call = answer.call
        self._plane = answer.plane
        self.pool: Backend = answer.plane.pool
        """Whom it was last sent to: the server, or the sidecar that holds the session."""
        self._epoch = -1
        self._owner: Owner | None = None
        """Those of the session as it was last sent."""
        self.inner = b""
        """The server's id of the session in which it was last sent; empty: another sidecar was asked."""
        self._elsewhere = False
        """Whether another sidecar was asked."""
        self._asked = False
        """Whether anybody was."""
        self.onward = b""
        """The head with which it was last sent."""
        self.mark = ""
        """What the ids of the server's questions begin with, where it is this sidecar that asks it."""
        self._overdue: asyncio.TimerHandle | None = None
        """Ends the wait for the session."""
        self._later: asyncio.TimerHandle | None = None
        """When it is sent again."""

    @property
    def _asking(self) -> Asker:
        assert self._asker is not None
        return self._asker

    @property
    def _holder(self) -> str:
        """The client, where it is known."""
        client = self._call.client
        return "" if client is None or client.anonymous else client.name

    @property
    def _binding(self) -> bytes:
        client = self._call.client
        return self._call.context.binding(client) if client is not None else UNBOUND

    def is_asking(self, session: Session) -> bool:
        """Whether this call of the session is at the server of this replica."""
        answer = self._answer
        asked = self.pool is self._plane.pool and self._asked and answer.waiting is not self
        return asked and not answer.endless and answer.call.context.live is session

    @property
    def _may_run_twice(self) -> bool:
        """Whether the server may be sent it again, though it may have run it."""
        call = self._call
        message = call.message
        named = message is not None and message.target in call.context.settings.repeatable
        return call.repeatable or (named and call.is_tool_call)

    def learn(self) -> None:
        """The server has taken what it was told."""
        session, message = self._call.context.live, self._call.message
        if session is not None and message is not None and message.method in TOLD:
            self._plane.table.learn(session, message.method or "", message.params)
            self._plane.table.keep(session)

    # -- what sidecars tell each other

    def _hear(self, told: bytes | None) -> None:
        """The owner has begun the session again since it was last asked."""
        session = self._call.context.live
        if told and session is not None and not session.here and told.isdigit():
            session.epoch = max(session.epoch, int(told))

    def told(self, lines: bytes) -> bytes:
        """The lines of an answer's head without what sidecars tell each other; with it, to another one."""
        lines = peer.without(lines)
        session = self._call.context.live
        if self._call.context.relayed and session is not None and session.here:
            answers = self._call.answers
            if answers is not None:
                lines += peer.answering(answers.method or "", answers.target)
            known = peer.epoch_of(self._call.head.get(peer.EPOCH))[1]
            if session.epoch != known:
                lines += b"Mcpace-Epoch: %d\r\n" % session.epoch
        return lines

    # -- while it waits for something else than the server's answer (waiting.Waiting)

    def leads_on(self) -> bool:
        """The session is begun again, or cannot be, in bounded time."""
        return True

    def cancel(self) -> None:
        """Nobody waits any more: what comes finds that it has ended."""

    def pause(self, paused: bool) -> None:
        """Nothing is read."""

    def _park(self) -> None:
        self._asking.drop()
        self._answer.waiting = self

    def _await_revival(self) -> None:
        """Wait for as long as for any answer of the server's."""
        self._park()
        patience = self._call.context.settings.patience
        self._overdue = asyncio.get_running_loop().call_later(patience, self._give_up_waiting)

    def _give_up_waiting(self) -> None:
        if not self._call.ended and self._asker is not None and self._answer.waiting is self:
            words = "The server did not take the session again in time."
            self._asking.fail(UpstreamError("timeout", words))

    def _again_in(self, seconds: float) -> None:
        self._park()
        if self._later is not None:  # several may say so at once: it is sent again once
            self._later.cancel()
        self._later = asyncio.get_running_loop().call_later(seconds, self._again)

    def _again(self) -> None:
        if self._call.ended:
            return
        try:
            self._answer.waiting = None
            self._asking.ask()
        except Exception as error:  # noqa: BLE001 - because whatever it is, it is this call's end alone
            self._answer.broke("session", error)
