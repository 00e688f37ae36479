"""The second port: health, metrics, statistics. Never reached through the first.

`/`, `/healthz`, `/readyz`, `/serverz`, `/drained` and `/metrics` are open. The others need the server's own
token, because the server itself shares the loopback; without a token they answer on loopback only.
Listening there, only local Hosts and Origins are answered at all, and those that the manifest allows. What
a page in a browser posts is taken with our own header alone, which it may send nowhere else unasked.
`/readyz?wait` is answered once the server is ready for the first time, or after four seconds: a kubelet
probes at most once a second, and a server that has just started should not wait for its next look. Of those
who wait only some are held.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from mcpace_sidecar import __version__
from mcpace_sidecar.admin import calls, page
from mcpace_sidecar.admin.clients import Clients
from mcpace_sidecar.admin.drained import Drained
from mcpace_sidecar.admin.reports import Judge, Reports, Store
from mcpace_sidecar.cache.entry import ALL, client_tag
from mcpace_sidecar.cache.memory import MemoryResults
from mcpace_sidecar.cache.policy import tool_tag
from mcpace_sidecar.call.plane import Plane
from mcpace_sidecar.contract.report import Readiness
from mcpace_sidecar.contract.surface import (
    ADMIN_TOKEN_HEADER,
    FROM_PAGE,
    GUARDED,
    POSTED,
    READYZ_WAIT,
    STATS_RECENT,
    Path,
)
from mcpace_sidecar.egress.doors import Doors
from mcpace_sidecar.errors import ProtocolError
from mcpace_sidecar.http.downstream import Responder, status_line
from mcpace_sidecar.http.head import Names, RequestHead
from mcpace_sidecar.http.known import RequestHeads
from mcpace_sidecar.http.server import ClientConnection
from mcpace_sidecar.identity.origins import WORDS
from mcpace_sidecar.server.findings import Findings
from mcpace_sidecar.server.handshake import Handshake
from mcpace_sidecar.telemetry.metrics import Metrics
from mcpace_sidecar.telemetry.tally import Tallies

_GUARDED: Final = frozenset(path.encode() for path in GUARDED)
_POSTED: Final = frozenset(path.encode() for path in POSTED)
_PURGE: Final = Path.PURGE.encode()
_LIMITS: Final = Path.LIMITS.encode()
_RESET: Final = Path.RESET.encode()
_DRAINED: Final = Path.DRAINED.encode()
_LATER: Final = (_PURGE, _LIMITS, _RESET, _DRAINED)
"""What is not answered at once."""
_WAIT: Final = READYZ_WAIT.encode()
_RECENT: Final = STATS_RECENT.encode()
_FROM_PAGE: Final = FROM_PAGE.lower().encode()
_TOKEN: Final = ADMIN_TOKEN_HEADER.lower().encode()
_WAITED: Final = 4.0
"""Seconds the probe that waits is held; kubelets give up after five."""
MOST_HELD: Final = 16
"""Probes that are held at once; more are answered at once, and leave connections to `/healthz`."""
MOST_ASKED: Final = 16
"""Questions about clients that are answered at once."""
_TEXT: Final = b"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
_JSON: Final = b"Content-Type: application/json\r\nCache-Control: no-store\r\n"
_ALWAYS: Final = b"X-Content-Type-Options: nosniff\r\n"
_CHALLENGE: Final = b"WWW-Authenticate: Bearer\r\n"
_Answer = tuple[int, bytes, bytes]
"""Status, header lines, body."""
_Route = Callable[[], _Answer]


class _Purge(msgspec.Struct, forbid_unknown_fields=True):
    tool: str | None = None
    client: str | None = None
    all: bool = False


class _Reset(msgspec.Struct, forbid_unknown_fields=True):
    client: str


class Admin:
    """Answers the admin port. `token` guards what is not open; None means loopback only."""

    max_request_bytes = 64 * 1024
    idle_timeout = 120.0
    draining = False

    def __init__(
        self, plane: Plane, handshake: Handshake, metrics: Metrics, tallies: Tallies,
        memory: MemoryResults, doors: Doors, findings: Findings, token: str | None,
        links: Sequence[Store], judge: Judge,
        lines: Callable[[], Mapping[str, int]], drain: Callable[[], None], *, loopback: bool,
    ) -> None:  # fmt: skip
        self.heads = RequestHeads(Names({b"authorization", b"origin", _FROM_PAGE, _TOKEN}))
        self._plane = plane
        self._handshake = handshake
        self._metrics = metrics
        self._memory = memory
        self._doors = doors
        self._findings = findings
        self._token = token.encode() if token else None
        self._links = links
        self._lines = lines
        self._drain = drain
        self._loopback = loopback
        self._reports = Reports(plane, handshake, tallies, memory, doors, findings, links, judge)
        self._clients = Clients(plane, links)
        self._held: set[asyncio.Task[None]] = set()
        self._asked: set[asyncio.Task[None]] = set()
        self.drained = Drained(plane)
        self._routes: dict[bytes, _Route] = {
            Path.PAGE.encode(): page.answer,
            Path.HEALTHZ.encode(): self._healthz,
            Path.READYZ.encode(): self._readyz,
            Path.SERVERZ.encode(): self._serverz,
            Path.METRICS.encode(): self._read_metrics,
            Path.STATS.encode(): self._read_stats,
            Path.CONFIG.encode(): self._read_config,
            Path.CALLS.encode(): self._read_calls,
            Path.DRAIN.encode(): self._begin_to_drain,
        }

    def judge_head(self, connection: ClientConnection, head: RequestHead) -> bool:
        """Wait for the body, which is bounded."""
        del connection, head
        return False

    def on_request(self, connection: ClientConnection, head: RequestHead, body: bytes) -> Responder | None:
        """Answer at once; a purge, when it is known everywhere; who waits for a drain, in its turn."""
        route = self._routes.get(head.path)
        if head.target == _RECENT:
            route = self._read_recent
        refusal = self._refusal(head)
        if refusal is not None:
            _answer(connection, head, *refusal)
        elif head.path == _PURGE:
            self._purge(connection, head, body)
        elif head.path == _LIMITS:
            named = parse_qs(head.target.partition(b"?")[2].decode("latin-1")).get("client")
            self._later(connection, head, self._tell_left(named[0] if named else None))
        elif head.path == _RESET:
            self._later(connection, head, self._reset(body))
        elif head.path == _DRAINED:
            turn = self.drained.take(connection)
            if turn is not None:
                return turn
            _answer(connection, head, *_words(503, "Too many wait already."))
        elif head.target == _WAIT and self._may_hold:
            held = asyncio.get_running_loop().create_task(self._hold(connection, head))
            self._held.add(held)
            held.add_done_callback(self._held.discard)
        else:
            assert route is not None
            _answer(connection, head, *route())
        return None

    def _refusal(self, head: RequestHead) -> _Answer | None:
        """Why a request is not done; None where it is."""
        if self._loopback and not self._plane.settings.guard.admits(head, loopback=True):
            return _words(403, WORDS)
        if head.path not in self._routes and head.path not in _LATER:
            return _words(404, f"Not found: {', '.join(Path)}.")
        method = b"POST" if head.path in _POSTED else b"GET"
        also_head = method == b"GET" and head.path != _DRAINED
        if head.method != method and not (also_head and head.method == b"HEAD"):
            status, lines, text = _words(405, f"Use {method.decode()}.")
            return status, b"%bAllow: %b%b\r\n" % (lines, method, b", HEAD" if also_head else b""), text
        if head.path in _GUARDED and not self._may_read(head):
            status, lines, text = _words(401, "Send the admin token as Authorization: Bearer.")
            return status, lines + _CHALLENGE, text
        if method == b"POST" and head.get(b"origin") is not None and head.get(_FROM_PAGE) is None:
            return _words(403, f"A page in a browser sends the header {FROM_PAGE} with what it posts.")
        return None

    @property
    def _may_hold(self) -> bool:
        return not self._handshake.was_ready.is_set() and len(self._held) < MOST_HELD

    async def _hold(self, connection: ClientConnection, head: RequestHead) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._handshake.was_ready.wait(), _WAITED)
        _answer(connection, head, *self._readyz())

    def _begin_to_drain(self) -> _Answer:
        self._drain()
        return 200, _JSON, b'{"draining":true}'

    def on_bad_request(self, error: ProtocolError) -> tuple[bytes, bytes]:
        """Say what was wrong."""
        return _words(error.status, str(error))[1:]

    def on_broken(self, error: Exception) -> tuple[bytes, bytes]:
        """Count and log what was raised, and say so."""
        self._plane.faults.tell("connection", error)
        return _words(500, "Internal error")[1:]

    def _purge(self, connection: ClientConnection, head: RequestHead, body: bytes) -> None:
        try:
            wanted = msgspec.json.decode(body, type=_Purge)
        except msgspec.DecodeError as error:
            said = f'Send {{"tool": …}}, {{"client": …}} or {{"all": true}}: {error}.'
            _answer(connection, head, *_words(400, said))
            return
        tags = [ALL] if wanted.all else []
        if wanted.tool is not None:
            tags.append(tool_tag(wanted.tool))
        if wanted.client is not None:
            tags.append(client_tag(wanted.client))
        if not tags:
            _answer(connection, head, *_words(400, 'Send {"tool": …}, {"client": …} or {"all": true}.'))
            return

        def purged() -> None:
            _answer(connection, head, *_json(200, {"purged": [tag.decode() for tag in tags]}))

        self._plane.results.purge(tags, purged)

    def _later(
        self, connection: ClientConnection, head: RequestHead, answering: Coroutine[Any, Any, _Answer]
    ) -> None:
        if len(self._asked) >= MOST_ASKED:
            answering.close()
            _answer(connection, head, *_words(503, "Too many ask already."))
            return
        asked = asyncio.get_running_loop().create_task(self._say(connection, head, answering))
        self._asked.add(asked)
        asked.add_done_callback(self._asked.discard)

    async def _say(
        self, connection: ClientConnection, head: RequestHead, answering: Coroutine[Any, Any, _Answer]
    ) -> None:
        try:
            answer = await answering
        except Exception as error:  # noqa: BLE001 - because whoever asked is to be told
            self._plane.faults.tell("connection", error)
            answer = _words(500, "Internal error")
        _answer(connection, head, *answer)

    async def _tell_left(self, client: str | None) -> _Answer:
        return 200, _JSON, msgspec.json.encode(await self._clients.left(client))

    async def _reset(self, body: bytes) -> _Answer:
        try:
            client = msgspec.json.decode(body, type=_Reset).client
        except msgspec.DecodeError as error:
            return _words(400, f'Send {{"client": …}}: {error}.')
        if self._plane.settings.limits is None:
            return _words(400, "The manifest has no rateLimits: nobody is counted.")
        if not await self._clients.reset(client):
            return _words(503, "Redis, where all replicas count, did not answer: try again.")
        return _json(200, {"reset": client})

    def _may_read(self, head: RequestHead) -> bool:
        if self._token is None:
            return self._loopback
        bearer, token = head.get(b"authorization") or b"", head.get(_TOKEN) or b""
        return hmac.compare_digest(bearer, b"Bearer " + self._token) or hmac.compare_digest(
            token, self._token
        )

    def _healthz(self) -> _Answer:
        return _json(
            200,
            {
                "status": "healthy",
                "uptime": self._reports.uptime,
                "cache_size": len(self._memory),
                "tools_registered": len(self._plane.catalog.tools),
                "version": __version__,
            },
        )

    def _readyz(self) -> _Answer:
        if self._plane.draining or not self._handshake.ready:
            return _said(503, Readiness(ready=False, reason=self._reports.problem))
        return _said(200, Readiness(ready=True))

    def _serverz(self) -> _Answer:
        """Whether the server's container is alive: it answers HTTP, ready for MCP or not."""
        if not self._handshake.alive:
            return _json(503, {"alive": False, "reason": self._handshake.problem})
        return _json(200, {"alive": True})

    def _read_metrics(self) -> _Answer:
        self._reports.scraped()
        return 200, _TEXT, self._metrics.text()

    def _read_stats(self) -> _Answer:
        return 200, _JSON, msgspec.json.encode(self._reports.now())

    def _read_recent(self) -> _Answer:
        return 200, _JSON, msgspec.json.encode(self._reports.recent())

    def _read_config(self) -> _Answer:
        config = self._plane.settings.config
        return _json(
            200,
            config.model_dump(mode="json", by_alias=True)
            | {"findings": self._found(), "lines": dict(self._lines())},
        )

    def _read_calls(self) -> _Answer:
        return _words(200, "\n".join(calls.lines(self._plane, self._doors, self._links)))

    def _found(self) -> list[dict[str, str]]:
        """The rules that do nothing."""
        return [{"reason": finding.reason, "message": finding.message} for finding in self._findings.now()]


def _answer(
    connection: ClientConnection, head: RequestHead, status: int, lines: bytes, body: bytes
) -> None:
    begin = status_line(status) + lines + _ALWAYS
    if head.method == b"HEAD":  # RFC 9110, section 9.3.2: as GET, without the body
        connection.answer_empty(begin + b"Content-Length: %d\r\n" % len(body))
    else:
        connection.answer(begin, body)


def _said(status: int, readiness: Readiness) -> _Answer:
    return status, _JSON, msgspec.json.encode(readiness)


def _json(status: int, document: Any) -> _Answer:
    return status, _JSON, json.dumps(document).encode()


def _words(status: int, words: str) -> _Answer:
    return status, b"Content-Type: text/plain\r\n", words.encode() + b"\n"
