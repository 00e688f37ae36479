"""One of the processes that all clients share, under ids of ours, and what it works on."""

from __future__ import annotations

from time import monotonic
from typing import Final

import msgspec

from mcpace_sidecar import __version__
from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.mcp import responses
from mcpace_sidecar.mcp.jsonrpc import OfProgress, Said
from mcpace_sidecar.mcp.methods import SAFE
from mcpace_sidecar.mcp.responses import NO_METHOD
from mcpace_sidecar.mcp.strictness import MEMBERS
from mcpace_sidecar.stdio import modern
from mcpace_sidecar.stdio.asked import OK, Asked
from mcpace_sidecar.stdio.lines import line_of
from mcpace_sidecar.stdio.process import Holder, Process
from mcpace_sidecar.stdio.serving import Serving

TO_ANSWER: Final = 5.0
"""Seconds that a process gets to answer a call that was given up, and again to answer a `ping`."""
TO_DISCOVER: Final = 3.0
"""Seconds that a process gets to say whether it speaks without a handshake; then one is tried as well."""
_GREETING: Final = b"0"
_INITIALIZE: Final = (
    b'{"jsonrpc":"2.0","id":%b,"method":"initialize","params":{"protocolVersion":"2025-11-25",'
    b'"capabilities":{},"clientInfo":{"name":"mcpace","version":"%b"}}}' % (_GREETING, __version__.encode())
)
_INITIALIZED: Final = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
_PING: Final = b"1"
_DISCOVER: Final = b"2"
_LISTEN: Final = b"3"

_EMPTY: Final = msgspec.Raw(b"{}")

_progress: Final = msgspec.json.Decoder(OfProgress)


class Home(Serving):
    """What holds workers, as they see it."""

    calls_per_process: int

    def greeted(self, hello: dict[str, msgspec.Raw], discovered: dict[str, msgspec.Raw]) -> None:
        """A process has said who it is, as it would answer `initialize`, and as it answers
        `server/discover`; empty where it knows no such thing.
        """  # noqa: D205 - because it reads on
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

    def again(self, worker: Worker) -> None:
        """One has ended at what it was asked first; another is asked otherwise."""
        raise NotImplementedError

    def gone(self, process: Process) -> None:
        """There is room for another."""
        raise NotImplementedError


class Worker(Holder):
    """One of the processes, and what it works on."""

    __slots__ = (
        "_home",
        "_patient",
        "_pinged",
        "calls",
        "deadline",
        "given_up",
        "idle_since",
        "modern",
        "process",
        "ready",
        "streams",
    )

    def __init__(self, home: Home) -> None:
        self._home = home
        self.calls: dict[bytes, Asked | None] = {}
        """By ids of ours; None: nobody waits for it any more."""
        self.given_up: dict[bytes, float] = {}
        """Those that nobody waits for -> since when."""
        self.streams: dict[bytes, Asked] = {}
        """The subscriptions of clients of the era without handshakes, by ids of ours."""
        self.idle_since = monotonic()
        """When it last had a call."""
        self.ready = False
        """Whether it has said who it is."""
        self.modern = False
        """Whether it speaks without a handshake."""
        self._pinged = 0.0
        """Since when it has not answered whether it is there; 0: it was not asked."""
        self.process = home.processes.start(self, home.gone)
        self.deadline = monotonic() + home.start_timeout
        self._patient = 0.0
        """Until when it may say whether it does without a handshake, before one is tried; 0: it may not."""
        if home.processes.modern is False:
            self.process.write(_INITIALIZE)
        else:  # some end at what they do not know
            self.process.probed = home.processes.modern is None
            self._patient = monotonic() + TO_DISCOVER
            self.process.write(modern.request(_DISCOVER, b"server/discover"))

    def _greet(self) -> None:
        """Shake hands: it has not said that it does without."""
        self._patient, self.process.probed = 0.0, False
        self.process.write(_INITIALIZE)

    @property
    def idle(self) -> bool:
        """Whether it does nothing for anybody."""
        return self.ready and not self.calls and not self.streams

    @property
    def free(self) -> bool:
        """Whether it takes another call."""
        return self.ready and len(self.calls) < self._home.calls_per_process and not self.process.stuck

    def work(self, mine: bytes, asked: Asked) -> None:
        """Give it a call, under this id."""
        params, asked.params = asked.params, b""
        if asked.token:
            params = _with_token(params, mine)
        if self.modern and not asked.modern:
            params = modern.self_contained(params)
        self.calls[mine] = asked
        self._ask(mine, asked, params)

    def subscribe(self, mine: bytes, asked: Asked) -> None:
        """Give it a subscription, under this id."""
        params, asked.params = asked.params, b""
        self.streams[mine] = asked
        self._ask(mine, asked, params)

    def _ask(self, mine: bytes, asked: Asked, params: bytes) -> None:
        method = msgspec.json.encode(asked.method)
        if params:
            line = b'{"jsonrpc":"2.0","id":%b,"method":%b,"params":%b}' % (mine, method, params)
        else:
            line = b'{"jsonrpc":"2.0","id":%b,"method":%b}' % (mine, method)
        self.process.write(line_of(line))

    def give_up(self, asked: Asked) -> bool:
        """Nobody waits for this call any more; whether it was this one's."""
        mine = next((mine for mine, each in self.calls.items() if each is asked), None)
        if mine is not None:
            self.calls[mine] = None
            self.given_up[mine] = monotonic()
        else:
            mine = next((mine for mine, each in self.streams.items() if each is asked), None)
            if mine is None:
                return False
            del self.streams[mine]
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
            home.served = self.idle_since = now
            if asked is not None:
                asked.giver = None
                home.in_progress.discard(asked)
                self._answer(asked, bytes(said.result), bytes(said.error))
            home.serve(now)
        elif message_id in self.streams:
            asked = self.streams.pop(message_id)
            asked.giver = None
            self._answer(asked, modern.with_subscription(bytes(said.result), asked.id), bytes(said.error))
        elif message_id == _PING:
            self._pinged = 0.0
            for mine in self.given_up:  # it is there, and answers none of them
                self.calls.pop(mine, None)
            self.given_up.clear()
            home.serve(now)
        elif self.ready:
            return
        elif message_id == _DISCOVER:
            if modern.VERSION in modern.versions(bytes(said.result)):
                self._discovered(process, bytes(said.result))
            elif self._patient:
                home.processes.modern = False
                self._greet()
        elif message_id == _GREETING:
            self._greeted(process, said)

    def _answer(self, asked: Asked, result: bytes, error: bytes) -> None:
        if result:
            asked.answer(responses.result_body(asked.id, result))
        else:
            head = modern.head_of(error) if asked.modern else OK
            asked.answer(b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (asked.id, error), head)

    def _discovered(self, process: Process, result: bytes) -> None:
        home = self._home
        discovered = MEMBERS.decode(result)
        try:
            hello = modern.greeting(discovered)
            wanted = modern.announced(MEMBERS.decode(hello["capabilities"]))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            process.end()
            home.lose(self, home.processes.refused(process, "its result is none of MCP", "server/discover"))
            return
        self.ready = self.modern = home.processes.modern = True
        home.processes.answered(process)
        if wanted:
            process.write(modern.request(_LISTEN, b"subscriptions/listen", wanted))
        home.greeted(hello, discovered)

    def _greeted(self, process: Process, said: Said) -> None:
        home = self._home
        problem = _problem(bytes(said.result)) if said.result else _words(bytes(said.error))
        if problem:
            process.end()
            home.lose(self, home.processes.refused(process, problem))
            return
        self.ready = True
        home.processes.modern = False
        home.processes.answered(process)
        process.write(_INITIALIZED)
        home.greeted(MEMBERS.decode(said.result), {})

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
            return
        method = msgspec.json.encode(said.method)
        mine = modern.subscription_of(bytes(said.params)) if self.modern else b""
        asked = self.streams.get(mine)
        if asked is not None:
            params = modern.with_subscription(bytes(said.params), asked.id)
            asked.say(b'{"jsonrpc":"2.0","method":%b,"params":%b}' % (method, params))
        elif said.method is not None and said.method.endswith("/list_changed"):
            self._home.tell(b'{"jsonrpc":"2.0","method":%b}' % method)
        elif said.method == "notifications/message" and self.modern and len(self.calls) == 1:
            # It does not say of which call; of one that is alone it is.
            asked = next(iter(self.calls.values()))
            if asked is not None and asked.events and asked.logs:
                asked.say(b'{"jsonrpc":"2.0","method":%b,"params":%b}' % (method, bytes(said.params)))

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
        if process.baffled:
            self._home.processes.modern = False
            self._home.again(self)
            return
        self._home.lose(self, UpstreamError("closed" if process.answered else "connect", words))

    def finish(self, error: UpstreamError) -> None:
        """Tell all who wait for it."""
        calls, self.calls = self.calls, {}
        unknown = UpstreamError(error.reason, f"{error} Whether the call took effect is unknown.")
        for asked in calls.values():
            if asked is not None:
                asked.fail(error if asked.method in SAFE else unknown)
        streams, self.streams = self.streams, {}
        for asked in streams.values():
            asked.giver = None
            if asked.begun:
                asked.end()
            else:
                asked.fail(error)

    def await_greeting(self, now: float) -> bool:
        """Shake hands where it says nothing of itself; whether it has had its time to."""
        if self._patient and now > self._patient:
            self._greet()
        if self.deadline < now:
            processes = self._home.processes
            processes.modern = processes.modern or False  # it may be what it was asked first
            return True
        return False

    def look(self, now: float) -> bool:
        """Ask whether it is there, where nobody waits for what it does; whether it is not."""
        if not self.given_up or len(self.given_up) < len(self.calls):
            return False  # it does something for somebody
        if self._pinged:
            return now > self._pinged + TO_ANSWER
        if now > max(self.given_up.values()) + TO_ANSWER:
            self._pinged = now
            if self.modern:  # which knows no `ping`
                self.process.write(modern.request(_PING, b"server/discover"))
            else:
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
