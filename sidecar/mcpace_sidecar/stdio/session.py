"""One session and its process: what its client and the process say goes to and fro as it is."""

from __future__ import annotations

import contextlib
import secrets
from collections import deque
from time import monotonic
from typing import Final

import msgspec

from mcpace_sidecar.conversations.questions import PATIENCE
from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.mcp import responses
from mcpace_sidecar.mcp.jsonrpc import OfProgress, Posted, Said
from mcpace_sidecar.mcp.responses import INVALID_REQUEST
from mcpace_sidecar.stdio.asked import BAD_REQUEST, NOT_FOUND, OK, Asked, Giver, begun
from mcpace_sidecar.stdio.lines import line_of
from mcpace_sidecar.stdio.process import Holder, Process
from mcpace_sidecar.stdio.serving import NO_SESSION, Serving, key_of

MOST_UNHEARD: Final = 64
"""Messages of a server that are held until its client listens; beyond them the oldest is dropped."""
MOST_UNHEARD_BYTES: Final = 1 << 20
MOST_QUESTIONS: Final = 256
"""Requests of a server that are remembered until its client answers them."""

_progress: Final = msgspec.json.Decoder(OfProgress)


class Home(Serving):
    """What holds sessions, as they see it."""

    def establish(self, session: Session, process: Process) -> None:
        """A process has answered `initialize`."""
        raise NotImplementedError

    def end(self, session: Session) -> None:
        """End a session's process; nobody waits for it."""
        raise NotImplementedError

    def forget(self, session: Session) -> None:
        """A session has ended."""
        raise NotImplementedError


class Session(Giver):
    """One session, and its process."""

    __slots__ = (
        "_home",
        "_questions",
        "_unheard",
        "_unheard_bytes",
        "calls",
        "deadline",
        "established",
        "greeting",
        "id",
        "idle_since",
        "line",
        "process",
        "stream",
    )

    def __init__(self, home: Home, greeting: Asked, line: bytes) -> None:
        """`greeting`: the `initialize` that it begins with; `line`: the same for the process."""
        self._home = home
        self.id = secrets.token_hex(16).encode()
        self.greeting: Asked | None = greeting
        self.line = line
        self.established = False
        self.process: Process | None = None
        """None while it waits for one, and when it has ended."""
        self.calls: dict[bytes, Asked] = {}
        self.stream: Asked | None = None
        """Where its client listens."""
        self._unheard: deque[bytes] = deque()
        self._unheard_bytes = 0
        self._questions: dict[bytes, float] = {}
        """Ids of what the server has asked -> when, in seconds of the monotonic clock."""
        self.idle_since = monotonic()
        self.deadline = self.idle_since + home.start_timeout
        """Until when its process must have answered `initialize`."""
        greeting.giver = self

    # -- what its client says

    def take(self, asked: Asked, posted: Posted, body: bytes) -> None:
        """A message for the process."""
        home, process = self._home, self.process
        self.idle_since = monotonic()
        if process is None or not process.usable:
            home.refuse(asked, NOT_FOUND, NO_SESSION, "Session not found")
            return
        if process.stuck:
            home.fail_later(asked, UpstreamError("busy", "The server does not read what it is given."))
            return
        if not asked.id or posted.method is None:
            if posted.method is None:
                self._questions.pop(key_of(asked.id), None)
            process.write(line_of(body))
            home.accept(asked)
            if posted.method == "notifications/cancelled":
                self._cancel(posted)
            return
        key = key_of(asked.id)
        if key in self.calls:
            words = "A request of this session that has this id is not answered yet."
            home.refuse(asked, BAD_REQUEST, INVALID_REQUEST, words)
            return
        self.calls[key] = asked
        asked.giver = self
        home.in_progress.add(asked)
        if home.asked == 0.0:
            home.asked = self.idle_since
        process.write(line_of(body))

    def _cancel(self, posted: Posted) -> None:
        """Most servers never answer what was cancelled: its client is."""
        try:
            asked = self.calls.get(key_of(bytes(_progress.decode(posted.params).request_id)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        if asked is not None:
            self._home.later(asked, responses.error_body(asked.id, 0, "Request cancelled"), OK)

    def listen(self, asked: Asked) -> None:
        """Its client listens here from now on, and nowhere else."""
        before, self.stream = self.stream, asked
        asked.giver = self
        if before is not None:
            before.end()
        self._home.soon(asked.begin)
        if self._unheard:
            self._home.soon(self._tell_unheard)

    def _tell_unheard(self) -> None:
        if self.stream is not None and self.stream.begun:
            self._say_unheard(self.stream)

    def _say_unheard(self, asked: Asked) -> None:
        unheard, self._unheard, self._unheard_bytes = self._unheard, deque(), 0
        for message in unheard:
            asked.say(message)

    def given_up(self, asked: Asked) -> None:
        """Nobody waits for this one any more."""
        self._home.in_progress.discard(asked)
        self.idle_since = monotonic()
        if asked is self.stream:
            self.stream = None
        elif asked is self.greeting:
            self.greeting = None
            if not self.established:
                self._home.end(self)
        else:
            key = key_of(asked.id)
            if self.calls.get(key) is asked:
                del self.calls[key]

    @property
    def busy(self) -> bool:
        """Whether its client is there: it calls, or listens."""
        return bool(self.calls) or self.stream is not None or self.greeting is not None

    @property
    def asks(self) -> bool:
        """Whether the server waits for the client."""
        patient = monotonic() - PATIENCE
        return any(since > patient for since in self._questions.values())

    # -- what its process says

    def hear(self, process: Process, line: bytes, said: Said) -> None:
        """A message of the process."""
        now = monotonic()
        self._home.hear(now)
        if said.method is not None:
            self._route(line, said)
            return
        message_id = key_of(bytes(said.id))
        asked = self.calls.get(message_id)
        if asked is not None:
            self._home.served = now
            if self._unheard and self.stream is None and asked.events:
                self._say_unheard(asked)
            asked.answer(line)
            return
        greeting = self.greeting
        if greeting is not None and message_id == key_of(greeting.id):
            self._home.served = now
            if said.result:
                self.established = True
                self._home.establish(self, process)
                greeting.answer(line, begun(self.id))
            else:
                greeting.answer(line)  # and so the session ends

    def _route(self, line: bytes, said: Said) -> None:
        """Pass on a request or notification of the server's: to the call that it is about, where that is
        known, else to whoever listens, else to any call, else to whoever listens first.
        """  # noqa: D205 - because it reads on
        if said.id:
            if len(self._questions) >= MOST_QUESTIONS:
                del self._questions[next(iter(self._questions))]
            self._questions[key_of(bytes(said.id))] = monotonic()
        elif said.method == "notifications/cancelled":
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                self._questions.pop(key_of(bytes(_progress.decode(said.params).request_id)), None)
        asked = self._about(said)
        if asked is not None:
            asked.say(line)
        elif self.stream is not None and self.stream.begun:
            self.stream.say(line)
        else:
            asked = next((each for each in reversed(self.calls.values()) if each.events), None)
            if asked is not None:
                asked.say(line)
            else:
                self._hold(line)

    def _about(self, said: Said) -> Asked | None:
        """The call that a message is about."""
        if said.method == "notifications/progress":
            try:
                token = bytes(_progress.decode(said.params).progress_token)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return None
            for asked in self.calls.values():
                if asked.token and asked.events and key_of(asked.token) == key_of(token):
                    return asked
        elif len(self.calls) == 1:
            asked = next(iter(self.calls.values()))
            return asked if asked.events else None
        return None

    def _hold(self, line: bytes) -> None:
        self._unheard.append(line)
        self._unheard_bytes += len(line)
        while len(self._unheard) > MOST_UNHEARD or self._unheard_bytes > MOST_UNHEARD_BYTES:
            self._unheard_bytes -= len(self._unheard.popleft())

    def drop(self, message_id: bytes) -> None:
        """A message of the process was too long to be read."""
        asked = self.calls.get(key_of(message_id))
        if asked is not None:
            words = "The server's answer is longer than there is room for."
            asked.fail(UpstreamError("malformed", words))

    def lose(self, process: Process, words: str) -> None:
        """The process has ended."""
        reason = "closed" if process.answered else "connect"
        self.finish(UpstreamError(reason, words))
        self._home.forget(self)

    def finish(self, error: UpstreamError) -> None:
        """Tell all who wait that there will be no answer."""
        greeting, self.greeting = self.greeting, None
        if greeting is not None:
            greeting.giver = None
            self._home.in_progress.discard(greeting)
            greeting.fail(error)
        for asked in list(self.calls.values()):
            asked.fail(error)
        if self.stream is not None:
            self.stream.end()


class Line(Holder):
    """A session's half of its process; `Session` is the other, which answers HTTP."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def on_line(self, process: Process, line: bytes, said: Said) -> None:
        """It has written a message."""
        self.session.hear(process, line, said)

    def on_dropped(self, process: Process, message_id: bytes) -> None:
        """It has written a message too long to be read."""
        del process
        self.session.drop(message_id)

    def on_lost(self, process: Process, words: str) -> None:
        """It has ended."""
        self.session.lose(process, words)
