"""Beginning a lost session again in the server's new process: handshake, log level, subscriptions.

Source: MCP 2025-11-25, basic/lifecycle, server/utilities/logging, server/resources.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable
from time import monotonic
from typing import Any, Final, NamedTuple

import msgspec

from mcpace_sidecar.errors import UpstreamError, unforeseen
from mcpace_sidecar.http.backend import Backend
from mcpace_sidecar.http.fetch import Fetch
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.http.sse import event_of
from mcpace_sidecar.mcp import answers
from mcpace_sidecar.sessions.session import Revived, Session
from mcpace_sidecar.sessions.table import Table

log = logging.getLogger(__name__)

RETURNS_WITHIN: Final = 10.0
"""Seconds that a server which has ended is waited for."""
AT_ONCE: Final = 16
"""Sessions that are begun again at a time: a server that has just started is slow."""
_TIMEOUT: Final = 15.0
"""Seconds that one answer may take."""
_WITHIN: Final = 30.0
"""Seconds that all of them may take together."""
STAYS: Final = 2.0
"""Seconds until others are asked again to take a session of a replica that ends."""
_TAKEN: Final = 5.0
"""Seconds for which calls wait until another replica has taken a session over that lives here."""
_LOOK: Final = 0.05
_REWRITABLE: Final = b"2025-06-18"
"""The version since which requests say theirs: of later ones a client need not know which is spoken."""
_UNWANTED: Final = "Nobody waits for the session any more."
_LOST: Final = (
    "The server's process was replaced, and what it held in memory for this session is lost. The session"
    " goes on."
)


class Loss(NamedTuple):
    """For whose sake a session is begun again, and why."""

    target: bytes
    """Where the present request goes."""
    lines: bytes
    """Its header lines, credentials above all."""
    binding: bytes
    """What tells that credential from others."""
    place: str
    """Who held it when the call was sent: where that sidecar's relay port is."""
    epoch: int
    """How often it had been begun again by then."""
    reason: str = "server_lost"
    down: bool = False
    """Whether the server of this replica is known not to be there."""
    adopts: bool = False
    """Whether another sidecar has asked for it: so it is for this one to do."""


class Claims:
    """Who begins a session again, where several could."""

    async def find(self, session: Session, loss: Loss) -> Revived | None:
        """What became of it elsewhere; None: it is for this replica to begin it again."""
        raise NotImplementedError

    async def claim(self, session: Session, loss: Loss) -> int | Revived:
        """The epoch under which this replica begins it again; or what became of it meanwhile."""
        raise NotImplementedError

    async def keep(self, session: Session, inner: bytes, epoch: int) -> bool:
        """Say that it has been begun again; whether it is still this replica's."""
        raise NotImplementedError

    def is_asking(self, session: Session) -> bool:
        """Whether others are asked to begin it, and this replica cannot."""
        raise NotImplementedError

    def take(self, session: Session) -> None:
        """Others are not asked any more: this replica is."""
        raise NotImplementedError


class Revival:
    """Begins sessions again."""

    def __init__(
        self, pool: Backend, table: Table, count: Callable[[str], None],
        on_error: Callable[[Exception], None] = unforeseen,
    ) -> None:  # fmt: skip
        """`count` is told why a session was begun again."""
        self._pool = pool
        self._table = table
        self._count = count
        self._on_error = on_error
        self._room = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self.claims: Claims | None = None
        """None: there are no other replicas."""

    def revive(self, session: Session, loss: Loss, done: Callable[[Revived], None]) -> None:
        """Begin it again, once for all who ask meanwhile; each is told what became of it."""
        if session.reviving is not None:
            session.reviving.append(done)
            return
        session.reviving = [done]
        self._go(self._revive(session, loss))

    def _go(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up what is being done."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _revive(self, session: Session, loss: Loss) -> None:
        try:
            async with asyncio.timeout(_TAKEN if loss.reason == "drained" else _WITHIN):
                revived = await self._attempt(session, loss)
        except UpstreamError as error:
            revived = Revived(error=error)
        except TimeoutError:
            words = f"The server did not take a session again within {_WITHIN:g} s."
            revived = Revived(error=UpstreamError("timeout", words))
        except Exception as error:  # noqa: BLE001 - because those who wait are told, whatever it is
            self._on_error(error)
            revived = Revived(error=UpstreamError("internal", "Internal error"))
        if loss.reason == "drained":
            session.stays = monotonic() + STAYS
            if session.here and (revived.error or revived.head):
                revived = Revived(again=True)  # nobody can take it, and here it lives
        if not (revived.again or revived.denied or revived.error is not None or revived.head is not None):
            self._table.end(session)
        waiting, session.reviving = session.reviving or [], None
        for done in waiting:
            done(revived)
        if revived.again and session.listener is not None:
            session.listener.moved()

    async def _attempt(self, session: Session, loss: Loss) -> Revived:
        if self.claims is not None:
            found = await self.claims.find(session, loss)
            if found is not None:
                return found
        async with self._room:  # and not while others are asked, who may ask this one
            if _is_unwanted(session, loss):
                return Revived(error=UpstreamError("closed", _UNWANTED))
            epoch: int | Revived = session.epoch + 1
            if self.claims is not None:
                epoch = await self.claims.claim(session, loss)
            return epoch if isinstance(epoch, Revived) else await self._begin(session, loss, epoch)

    async def _begin(self, session: Session, loss: Loss, epoch: int) -> Revived:
        params = self._params(session)
        if params is None:
            return _cannot(loss)
        post = b"POST %b HTTP/1.1\r\n%b" % (loss.target, loss.lines)
        head, body = await self._initialize(post, params)
        inner = head.get(b"mcp-session-id")
        try:
            return await self._take_over(session, loss, epoch, post, head, body)
        finally:
            if inner is not None and session.inner != inner:
                self._go(self._give_back(loss, inner))

    async def _take_over(
        self, session: Session, loss: Loss, epoch: int, post: bytes, head: ResponseHead, body: bytes
    ) -> Revived:
        """Go on with what `initialize` was answered with."""
        result = _result(head, body)
        inner = head.get(b"mcp-session-id")
        if result is None or inner is None:
            log.warning(
                "A session cannot be begun again: initialize was answered with HTTP %d", head.status
            )
            return Revived(head=head, body=body)
        spoken = str(result.get("protocolVersion", "")).encode("ascii", "replace")
        if session.version and spoken != session.version and min(spoken, session.version) < _REWRITABLE:
            log.warning("The server's new process speaks another version of MCP: no session goes on in it")
            return _cannot(loss)
        of_session = b"Mcp-Session-Id: %b\r\nMCP-Protocol-Version: %b\r\n" % (inner, spoken)
        for message in _replayed(session):
            answer, said = await self._send(post + of_session, message)
            if answer.status >= 300:
                words = "A session goes on without %s: HTTP %d %s"
                log.warning(words, message["method"], answer.status, said[:200])
        if _is_unwanted(session, loss):
            return Revived(error=UpstreamError("closed", _UNWANTED))
        if self.claims is not None and not await self.claims.keep(session, inner, epoch):
            return Revived(again=True)  # another has begun it meanwhile
        session.news = b"".join(map(event_of, _news(session, result.get("capabilities") or {})))
        session.spoken = spoken if session.version and spoken != session.version else b""
        session.inner, session.epoch = inner, epoch
        session.owner, session.here = self._table.owner, True
        self._count(loss.reason)
        return Revived(again=True)

    async def _give_back(self, loss: Loss, inner: bytes) -> None:
        """Tell the server that nobody uses the session that it has begun, if it hears."""
        request = b"DELETE %b HTTP/1.1\r\n%bMcp-Session-Id: %b\r\n\r\n" % (loss.target, loss.lines, inner)
        with contextlib.suppress(UpstreamError):
            await Fetch().from_pool(self._pool, request, _TIMEOUT)

    def _params(self, session: Session) -> dict[str, Any] | None:
        """The client's own, but for the version, which has been negotiated."""
        written = self._table.initialize(session) or session.initialize
        if not written:
            return None
        params = msgspec.json.decode(written)
        if not isinstance(params, dict):
            return None
        if session.version:
            params["protocolVersion"] = session.version.decode()
        return params

    async def _initialize(self, post: bytes, params: dict[str, Any]) -> tuple[ResponseHead, bytes]:
        """Shake hands, once the server listens."""
        message = {"jsonrpc": "2.0", "id": "mcpace-own", "method": "initialize", "params": params}
        until = monotonic() + RETURNS_WITHIN
        while True:
            try:
                return await self._send(post, message)
            except UpstreamError as error:
                if not error.refused or monotonic() > until:
                    raise
            await asyncio.sleep(_LOOK)

    async def _send(self, post: bytes, message: dict[str, Any]) -> tuple[ResponseHead, bytes]:
        body = msgspec.json.encode(message)
        head = b"Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n"
        request = b"%b%bContent-Length: %d\r\n\r\n%b" % (post, head, len(body), body)
        return await Fetch().from_pool(self._pool, request, _TIMEOUT)


def _is_unwanted(session: Session, loss: Loss) -> bool:
    """Whether the replica that ends, and gave it away, has left: it goes on with the session itself."""
    return loss.adopts and loss.reason == "drained" and not session.reviving


def _cannot(loss: Loss) -> Revived:
    """It has ended, as far as this replica knows; whoever asked it to take a session over may know more."""
    words = "This replica cannot begin the session again."
    return Revived(error=UpstreamError("internal", words)) if loss.adopts else Revived()


def _replayed(session: Session) -> Iterable[dict[str, Any]]:
    """What the server was told in the session, and must know again."""
    yield {"jsonrpc": "2.0", "method": "notifications/initialized"}
    if session.level:
        params = {"level": msgspec.Raw(session.level)}
        yield {"jsonrpc": "2.0", "id": "mcpace-own", "method": "logging/setLevel", "params": params}
    for number, uri in enumerate(session.subscriptions):
        params = {"uri": msgspec.Raw(uri)}
        name = f"mcpace-own-{number}"
        yield {"jsonrpc": "2.0", "id": name, "method": "resources/subscribe", "params": params}


def _news(session: Session, capabilities: dict[str, Any]) -> Iterable[bytes]:
    """What the client is told of the loss, as notifications."""
    for kind in ("tools", "prompts", "resources"):
        declared = capabilities.get(kind)
        if isinstance(declared, dict) and declared.get("listChanged"):
            yield b'{"jsonrpc":"2.0","method":"notifications/%b/list_changed"}' % kind.encode()
    for uri in session.subscriptions:
        yield b'{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":%b}}' % uri
    if "logging" in capabilities and session.level not in _TOO_HIGH:
        params = {"level": "warning", "logger": "mcpace", "data": _LOST}
        yield b'{"jsonrpc":"2.0","method":"notifications/message","params":%b}' % msgspec.json.encode(
            params
        )


_TOO_HIGH: Final = (b'"error"', b'"critical"', b'"alert"', b'"emergency"')
"""The log levels of those who want no warning."""


def _result(head: ResponseHead, body: bytes) -> dict[str, Any] | None:
    """The result in an answer; None: it is none."""
    if head.status != 200:
        return None
    events = head.content_type == b"text/event-stream"
    result = answers.read(body, events=events).result
    return dict(msgspec.json.decode(result)) if result else None
