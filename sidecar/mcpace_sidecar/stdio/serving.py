"""What both ways of having processes share: requests as HTTP brings them, as what they ask for.

Answers are those of a Streamable HTTP server (MCP 2025-11-25, basic/transports).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from mcpace_sidecar.bounded import make_room
from mcpace_sidecar.contract.config import SidecarConfig
from mcpace_sidecar.contract.config.stdio import Stdio
from mcpace_sidecar.contract.quantity import seconds
from mcpace_sidecar.contract.report import Processes as Counted
from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.http.backend import Backend
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.http.receiver import Receiver, Ticket
from mcpace_sidecar.mcp import responses
from mcpace_sidecar.mcp.ids import id_value
from mcpace_sidecar.mcp.jsonrpc import Posted, WithToken
from mcpace_sidecar.mcp.methods import INITIALIZE, MODERN
from mcpace_sidecar.mcp.responses import INVALID_REQUEST, PARSE_ERROR
from mcpace_sidecar.stdio.asked import ACCEPTED, BAD_REQUEST, NOT_ALLOWED, NOT_FOUND, Asked
from mcpace_sidecar.stdio.process import Process
from mcpace_sidecar.stdio.processes import Processes

NO_SESSION: Final = -32001
"""The code with which the official servers refuse a session that they do not know."""
MOST_WAITING: Final = 256
"""Requests that wait, where `concurrency` says nothing."""
_REMEMBERED: Final = 2048
_LONGEST: Final = 4096
"""Bytes of a head that is remembered."""
_REQUEST_LINE: Final = re.compile(rb"([A-Z]+) ([^ ?]*)[^ ]* ")
_SESSION: Final = re.compile(rb"\r\nmcp-session-id:[ \t]*([^\r\n]*?)[ \t]*\r\n", re.IGNORECASE)
_VERSION: Final = re.compile(rb"\r\nmcp-protocol-version:[ \t]*([^\r\n]*?)[ \t]*\r\n", re.IGNORECASE)
_METHOD: Final = re.compile(rb"\r\nmcp-method:[ \t]*([^\r\n]*?)[ \t]*\r\n", re.IGNORECASE)
_NAME: Final = re.compile(rb"\r\nmcp-name:[ \t]*([^\r\n]*?)[ \t]*\r\n", re.IGNORECASE)
_ACCEPTED: Final = re.compile(rb"\r\naccept:[^\r\n]*(?:text/event-stream|text/\*|\*/\*)", re.IGNORECASE)
_ACCEPT: Final = re.compile(rb"\r\naccept:", re.IGNORECASE)

_posted: Final = msgspec.json.Decoder(Posted)
_with_token: Final = msgspec.json.Decoder(WithToken)


class Facts:
    """What a request's head says here."""

    __slots__ = ("about", "events", "method", "modern", "named", "path", "session", "version")

    def __init__(self, head: bytes) -> None:
        line = _REQUEST_LINE.match(head)
        self.method = line[1] if line is not None else b""
        self.path = line[2] if line is not None else b""
        self.session = _said(_SESSION, head)
        self.version = _said(_VERSION, head)
        self.modern = self.version >= MODERN
        """Whether it is of the era without handshakes."""
        self.about = _said(_METHOD, head)
        """What it says that the body's method is."""
        self.named = _said(_NAME, head)
        """What it says that the body calls."""
        self.events = _ACCEPTED.search(head) is not None or _ACCEPT.search(head) is None


def _said(name: re.Pattern[bytes], head: bytes) -> bytes:
    found = name.search(head)
    return found[1] if found is not None else b""


class Serving(Backend):
    """Requests in, by their methods; answers are the subclass's."""

    def __init__(
        self,
        address: Address,
        processes: Processes,
        on_error: Callable[[Exception], None],
        *,
        most: int = 0,
    ) -> None:
        """`most`: processes at once, in place of what the configuration says."""
        super().__init__(address, on_error)
        self.processes = processes
        self.gathered = processes.gathered
        self.settings = Stdio()
        self.most = most
        self._own_most = most
        self.idle_timeout = self.start_timeout = 0.0
        self.most_waiting = MOST_WAITING
        self._endpoint = b""
        self._known: dict[bytes, Facts] = {}
        self.in_progress: set[Asked] = set()
        """What is to be answered, but for streams."""

    def adopt(self, config: SidecarConfig) -> None:
        """Use what this says from the next request on."""
        self.settings = config.stdio
        self.most = self._own_most or config.stdio.most
        self.idle_timeout = seconds(config.stdio.idle_timeout)
        self.start_timeout = seconds(config.stdio.start_timeout)
        self.most_waiting = config.concurrency.max_queued if config.concurrency else MOST_WAITING
        self._endpoint = config.endpoint.encode()

    def request(self, request: Sequence[bytes], receiver: Receiver, patience: float | None) -> Ticket:
        """Take a request."""
        head, body = request[0], request[-1]
        if len(request) == 1:
            head, _, body = head.partition(b"\r\n\r\n")
            head += b"\r\n"
        facts = self._known.get(head)
        if facts is None:
            facts = Facts(head)
            if len(head) <= _LONGEST:
                make_room(self._known, _REMEMBERED)
                self._known[head] = facts
        asked = Asked(receiver, patience, facts.events, facts.modern)
        if facts.modern:
            asked.named = facts.named or _said(_NAME, b"\r\n" + b"".join(request[1:-1]))
        if facts.path != self._endpoint:
            self.refuse(asked, NOT_FOUND, INVALID_REQUEST, "Not found: there are no other paths.")
        elif facts.method == b"POST":
            self._take(asked, facts, body)
        elif facts.method == b"GET":
            self.listen(asked, facts)
        elif facts.method == b"DELETE":
            self.delete(asked, facts)
        else:
            self.refuse(asked, NOT_ALLOWED, INVALID_REQUEST, "Use POST, GET or DELETE.")
        return asked

    def _take(self, asked: Asked, facts: Facts, body: bytes) -> None:
        try:
            posted = _posted.decode(body)
            asked.id = bytes(posted.id)
            asked.method = posted.method or ""
            if posted.method is not None and asked.id and b'"progressToken"' in body:
                meta = _with_token.decode(posted.params).meta
                asked.token = bytes(meta.progress_token) if meta is not None else b""
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.refuse(asked, BAD_REQUEST, PARSE_ERROR, "The body is no JSON-RPC message.")
            return
        self.post(asked, facts, posted, body)

    # -- what asks for what

    def post(self, asked: Asked, facts: Facts, posted: Posted, body: bytes) -> None:
        """Take a message of a client's."""
        raise NotImplementedError

    def listen(self, asked: Asked, facts: Facts) -> None:
        """Give a client what the server says of its own accord."""
        raise NotImplementedError

    def delete(self, asked: Asked, facts: Facts) -> None:
        """End a session."""
        raise NotImplementedError

    def without_handshake(self, asked: Asked, facts: Facts) -> bool:
        """Whether its client needs none. `initialize` is such to a server that needs none either."""
        return facts.modern and (asked.method != INITIALIZE or self.processes.modern is not False)

    # -- answers

    def later(self, asked: Asked, body: bytes, head: ResponseHead) -> None:
        """Answer at once, but nobody before `request` has returned."""
        asyncio.get_running_loop().call_soon(asked.answer, body, head)

    def soon(self, act: Callable[[], None]) -> None:
        """Do this next."""
        asyncio.get_running_loop().call_soon(act)

    def fail_later(self, asked: Asked, error: UpstreamError) -> None:
        """Say at once that there is no answer, but when `request` has returned."""
        asyncio.get_running_loop().call_soon(asked.fail, error)

    def accept(self, asked: Asked) -> None:
        """Say that a message was taken."""
        self.later(asked, b"", ACCEPTED)

    def refuse(self, asked: Asked, head: ResponseHead, code: int, words: str) -> None:
        """Answer with an error."""
        self.later(asked, responses.error_body(asked.id or b"null", code, words), head)

    # -- what is known of those in progress

    def at_work(self, now: float) -> bool:
        """Whether a process is at work on a call, and not silent for longer than it may be."""
        return any(asked.deadline > now or asked.excuses() for asked in self.in_progress)

    def sweep(self, now: float) -> None:
        """Fail what has waited too long."""
        for asked in list(self.in_progress):
            if asked.patience is None or now < asked.deadline:
                continue
            if asked.excuses() or self.excused(asked):
                asked.touch(now)
            else:
                self.overdue(asked)

    def excused(self, asked: Asked) -> bool:
        """Whether the server waits for the client."""
        del asked
        return False

    def overdue(self, asked: Asked) -> None:
        """It has waited too long."""
        words = f"The server did not answer within {asked.patience or 0.0:g} s."
        asked.fail(UpstreamError("timeout", words))

    def counted(self) -> Counted:
        """What is reported of the processes."""
        return self.processes.counted(self.waiting)

    def parts(self) -> Sequence[object]:
        """The processes."""
        return [self.processes, *sorted(self.processes.all, key=_number)]

    @property
    def waiting(self) -> int:
        """What waits for a process."""
        raise NotImplementedError

    def gone(self, process: Process) -> None:
        """Nothing is left of a process."""
        raise NotImplementedError


def _number(process: Process) -> int:
    return process.number


def key_of(message_id: bytes) -> bytes:
    """What tells an id from others, however it is written."""
    short = message_id.isdigit() and len(message_id) < 16
    if short or (message_id.startswith(b'"') and b"\\" not in message_id and message_id.isascii()):
        return message_id
    return repr(id_value(message_id)).encode()
