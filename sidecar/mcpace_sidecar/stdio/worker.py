"""One of the processes that all clients share, under ids of ours, and what it works on."""

from __future__ import annotations

from time import monotonic
from typing import Final

import msgspec

from mcpace_sidecar import __version__
from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.mcp import responses
from mcpace_sidecar.mcp.jsonrpc import OfProgress, Said
from mcpace_sidecar.mcp.strictness import MEMBERS
from mcpace_sidecar.stdio.asked import Asked
from mcpace_sidecar.stdio.lines import line_of
from mcpace_sidecar.stdio.process import Holder, Process
from mcpace_sidecar.stdio.serving import NO_METHOD, Serving

TO_ANSWER: Final = 5.0
"""Seconds that a process gets to answer a call that was given up, and again to answer a `ping`."""
_GREETING: Final = b"0"
_INITIALIZE: Final = (
    b'{"jsonrpc":"2.0","id":%b,"method":"initialize","params":{"protocolVersion":"2025-11-25",'
    b'"capabilities":{},"clientInfo":{"name":"mcpace","version":"%b"}}}' % (_GREETING, __version__.encode())
)
_INITIALIZED: Final = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
_PING: Final = b"1"

_EMPTY: Final = msgspec.Raw(b"{}")

_progress: Final = msgspec.json.Decoder(OfProgress)


class Home(Serving):
    """What holds workers, as they see it."""

    calls_per_process: int

    def greeted(self, result: bytes) -> None:
        """A process has said who it is."""
        raise NotImplementedError

    def serve(self, now: float) -> None:
        """Give calls to processes that are free; start one more where none is."""
        raise NotImplementedError

    def tell(self, message: bytes) -> None:
        """Tell all who listen."""
        raise NotImplementedError

    def lose(self, worker: Worker, error: UpstreamError) -> None:
        """One of them has ended. Where it never began, those that wait for one are told."""
        raise NotImplementedError

    def gone(self, process: Process) -> None:
        """There is room for another."""
        raise NotImplementedError


class Worker(Holder):
    """One of the processes, and what it works on."""

    __slots__ = ("_home", "_pinged", "calls", "deadline", "given_up", "process", "ready")

    def __init__(self, home: Home) -> None:
        self._home = home
        self.calls: dict[bytes, Asked | None] = {}
        """By ids of ours; None: nobody waits for it any more."""
        self.given_up: dict[bytes, float] = {}
        """Those that nobody waits for -> since when."""
        self.ready = False
        """Whether its handshake is through."""
        self._pinged = 0.0
        """Since when it has not answered whether it is there; 0: it was not asked."""
        self.process = home.processes.start(self, home.gone)
        self.deadline = monotonic() + home.start_timeout
        self.process.write(_INITIALIZE)

    @property
    def free(self) -> bool:
        """Whether it takes another call."""
        return self.ready and len(self.calls) < self._home.calls_per_process and not self.process.stuck

    def work(self, mine: bytes, asked: Asked) -> None:
        """Give it a call, under this id."""
        params, asked.params = asked.params, b""
        if asked.token:
            params = _with_token(params, mine)
        self.calls[mine] = asked
        method = msgspec.json.encode(asked.method)
        if params:
            line = b'{"jsonrpc":"2.0","id":%b,"method":%b,"params":%b}' % (mine, method, params)
        else:
            line = b'{"jsonrpc":"2.0","id":%b,"method":%b}' % (mine, method)
        self.process.write(line_of(line))

    def give_up(self, asked: Asked) -> bool:
        """Nobody waits for this call any more; whether it was this one's."""
        mine = next((mine for mine, each in self.calls.items() if each is asked), None)
        if mine is None:
            return False
        self.calls[mine] = None
        self.given_up[mine] = monotonic()
        self.process.write(
            b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%b}}' % mine
        )
        return True

    def on_line(self, process: Process, line: bytes, said: Said) -> None:
        """It has written a message."""
        del line
        home, now = self._home, monotonic()
        home.hear(now)
        message_id = bytes(said.id)
        if said.method is not None:
            if not message_id:
                self._notified(said)
            elif said.method == "ping":
                process.write(responses.result_body(message_id, b"{}"))
            else:
                words = "The client has no such capability."
                process.write(responses.error_body(message_id, NO_METHOD, words))
        elif message_id in self.calls:
            self.given_up.pop(message_id, None)
            asked = self.calls.pop(message_id)
            home.served = now
            if asked is not None:
                asked.giver = None
                home.in_progress.discard(asked)
                if said.result:
                    asked.answer(responses.result_body(asked.id, bytes(said.result)))
                else:
                    asked.answer(b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (asked.id, bytes(said.error)))
            home.serve(now)
        elif message_id == _PING:
            self._pinged = 0.0
            for mine in self.given_up:  # it is there, and answers none of them
                self.calls.pop(mine, None)
            self.given_up.clear()
            home.serve(now)
        elif message_id == _GREETING and not self.ready:
            self._greeted(process, said)

    def _greeted(self, process: Process, said: Said) -> None:
        home = self._home
        problem = _problem(bytes(said.result)) if said.result else _words(bytes(said.error))
        if problem:
            process.end()
            home.lose(self, home.processes.refused(process, problem))
            return
        self.ready = True
        home.processes.answered(process)
        process.write(_INITIALIZED)
        home.greeted(bytes(said.result))

    def _notified(self, said: Said) -> None:
        if said.method == "notifications/progress":
            try:
                mine = bytes(_progress.decode(said.params).progress_token)
                asked = self.calls.get(mine)
                if asked is None or not asked.token or not asked.events:
                    return
                members = MEMBERS.decode(said.params)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return
            members["progressToken"] = msgspec.Raw(asked.token)
            params = msgspec.json.encode(members)
            asked.say(b'{"jsonrpc":"2.0","method":"notifications/progress","params":%b}' % params)
        elif said.method is not None and said.method.endswith("/list_changed"):
            method = msgspec.json.encode(said.method)
            self._home.tell(b'{"jsonrpc":"2.0","method":%b}' % method)

    def on_dropped(self, process: Process, message_id: bytes) -> None:
        """It has written a message too long to be read."""
        del process
        asked = self.calls.pop(message_id, None)
        if asked is not None:
            words = "The server's answer is longer than there is room for."
            asked.fail(UpstreamError("malformed", words))
        self._home.serve(monotonic())

    def on_lost(self, process: Process, words: str) -> None:
        """It has ended: its calls have, too."""
        self._home.lose(self, UpstreamError("closed" if process.answered else "connect", words))

    def finish(self, error: UpstreamError) -> None:
        """Tell all who wait for it."""
        calls, self.calls = self.calls, {}
        for asked in calls.values():
            if asked is not None:
                asked.fail(error)

    def look(self, now: float) -> bool:
        """Ask whether it is there, where nobody waits for what it does; whether it is not."""
        if not self.given_up or len(self.given_up) < len(self.calls):
            return False  # it does something for somebody
        if self._pinged:
            return now > self._pinged + TO_ANSWER
        if now > max(self.given_up.values()) + TO_ANSWER:
            self._pinged = now
            self.process.write(b'{"jsonrpc":"2.0","id":%b,"method":"ping"}' % _PING)
        return False

    def __repr__(self) -> str:
        said = f"{len(self.calls)} calls" + (f", {len(self.given_up)} given up" if self.given_up else "")
        return f"<Worker {said}: {self.process!r}>"


def _problem(result: bytes) -> str:
    """What is wrong with the result of a handshake; empty where nothing is."""
    try:
        offered = MEMBERS.decode(MEMBERS.decode(result).get("capabilities", _EMPTY))
        MEMBERS.decode(offered.get("resources", _EMPTY))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "its result is none of MCP"
    return ""


def _words(error: bytes) -> str:
    """What a JSON-RPC error says."""
    try:
        said = str(msgspec.json.decode(MEMBERS.decode(error)["message"]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
        return "an error without words"
    return "".join(c if c.isprintable() else " " for c in said[:200])


def _with_token(params: bytes, mine: bytes) -> bytes:
    """These params with another progress token."""
    members = MEMBERS.decode(params)
    meta = MEMBERS.decode(members["_meta"])
    meta["progressToken"] = msgspec.Raw(mine)
    members["_meta"] = msgspec.Raw(msgspec.json.encode(meta))
    return msgspec.json.encode(members)
