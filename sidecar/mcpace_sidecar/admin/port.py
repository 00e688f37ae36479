"""The second port: health, metrics, statistics. Never reached through the first.

`/healthz`, `/readyz`, `/serverz`, `/drained` and `/metrics` are open. The others need the server's own
token, because the server itself shares the loopback; without a token they answer on loopback only.
Listening there, only local Hosts and Origins are answered at all, and those that the manifest allows.
`/readyz?wait` is answered once the server is ready for the first time, or after four seconds: a kubelet
probes at most once a second, and a server that has just started should not wait for its next look. Of those
who wait only some are held.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from mcpace_sidecar import __version__
from mcpace_sidecar.admin import calls
from mcpace_sidecar.admin.drained import Drained
from mcpace_sidecar.cache.entry import ALL, client_tag
from mcpace_sidecar.cache.memory import MemoryResults
from mcpace_sidecar.cache.policy import tool_tag
from mcpace_sidecar.call.plane import Plane
from mcpace_sidecar.contract.report import VERSION, CountedDoor, Readiness, Report, ServerInfo, Slots
from mcpace_sidecar.contract.surface import GUARDED, POSTED, READYZ_WAIT, Path
from mcpace_sidecar.egress.doors import Doors
from mcpace_sidecar.errors import ProtocolError
from mcpace_sidecar.http.downstream import Responder, status_line
from mcpace_sidecar.http.head import Names, RequestHead
from mcpace_sidecar.http.known import RequestHeads
from mcpace_sidecar.http.server import ClientConnection
from mcpace_sidecar.identity.origins import WORDS
from mcpace_sidecar.server.findings import Findings
from mcpace_sidecar.server.handshake import Handshake
from mcpace_sidecar.telemetry import statistics
from mcpace_sidecar.telemetry.metrics import Metrics
from mcpace_sidecar.telemetry.tally import WINDOW, Tallies

_GUARDED: Final = frozenset(path.encode() for path in GUARDED)
_POSTED: Final = frozenset(path.encode() for path in POSTED)
_PURGE: Final = Path.PURGE.encode()
_DRAINED: Final = Path.DRAINED.encode()
_WAIT: Final = READYZ_WAIT.encode()
_WAITED: Final = 4.0
"""Seconds the probe that waits is held; kubelets give up after five."""
MOST_HELD: Final = 16
"""Probes that are held at once; more are answered at once, and leave connections to `/healthz`."""
_TEXT: Final = b"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
_JSON: Final = b"Content-Type: application/json\r\n"
_Route = Callable[[], tuple[int, bytes, bytes]]


class _Purge(msgspec.Struct, forbid_unknown_fields=True):
    tool: str | None = None
    client: str | None = None
    all: bool = False


class Admin:
    """Answers the admin port. `token` guards what is not open; None means loopback only."""

    max_request_bytes = 64 * 1024
    idle_timeout = 120.0
    draining = False

    def __init__(
        self, plane: Plane, handshake: Handshake, metrics: Metrics, tallies: Tallies,
        memory: MemoryResults, doors: Doors, findings: Findings, token: str | None,
        links: Sequence[object], drain: Callable[[], None], *, loopback: bool,
    ) -> None:  # fmt: skip
        self.heads = RequestHeads(Names({b"authorization", b"origin"}))
        self._plane = plane
        self._handshake = handshake
        self._metrics = metrics
        self._tallies = tallies
        self._memory = memory
        self._doors = doors
        self._findings = findings
        self._scraped: float | None = None
        self._token = token.encode() if token else None
        self._links = links
        self._drain = drain
        self._loopback = loopback
        self._started = time.monotonic()
        self._held: set[asyncio.Task[None]] = set()
        self.drained = Drained(plane)
        self._routes: dict[bytes, _Route] = {
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
        purging, waiting = head.path == _PURGE, head.path == _DRAINED
        guard = self._plane.settings.guard
        if self._loopback and not guard.admits(head, loopback=True):
            status, lines, text = _words(403, WORDS)
        elif route is None and not purging and not waiting:
            status, lines, text = _words(404, f"Not found: {', '.join(Path)}.")
        elif head.method != (b"POST" if head.path in _POSTED else b"GET"):
            status, lines, text = _words(405, "Use POST." if head.path in _POSTED else "Use GET.")
        elif head.path in _GUARDED and not self._may_read(head):
            status, lines, text = _words(401, "Send the admin token as Authorization: Bearer.")
        elif purging:
            self._purge(connection, body)
            return None
        elif waiting:
            turn = self.drained.take(connection)
            if turn is not None:
                return turn
            status, lines, text = _words(503, "Too many wait already.")
        elif head.target == _WAIT and self._may_hold:
            held = asyncio.get_running_loop().create_task(self._hold(connection))
            self._held.add(held)
            held.add_done_callback(self._held.discard)
            return None
        else:
            assert route is not None
            status, lines, text = route()
        connection.answer(status_line(status) + lines, text)
        return None

    @property
    def _may_hold(self) -> bool:
        return not self._handshake.was_ready.is_set() and len(self._held) < MOST_HELD

    async def _hold(self, connection: ClientConnection) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._handshake.was_ready.wait(), _WAITED)
        status, lines, text = self._readyz()
        connection.answer(status_line(status) + lines, text)

    def _begin_to_drain(self) -> tuple[int, bytes, bytes]:
        self._drain()
        return 200, _JSON, b'{"draining":true}'

    def on_bad_request(self, error: ProtocolError) -> tuple[bytes, bytes]:
        """Say what was wrong."""
        return _words(error.status, str(error))[1:]

    def on_broken(self, error: Exception) -> tuple[bytes, bytes]:
        """Count and log what was raised, and say so."""
        self._plane.faults.tell("connection", error)
        return _words(500, "Internal error")[1:]

    def _purge(self, connection: ClientConnection, body: bytes) -> None:
        try:
            wanted = msgspec.json.decode(body, type=_Purge)
        except msgspec.DecodeError as error:
            status, lines, text = _words(
                400, f'Send {{"tool": …}}, {{"client": …}} or {{"all": true}}: {error}.'
            )
            connection.answer(status_line(status) + lines, text)
            return
        tags = [ALL] if wanted.all else []
        if wanted.tool is not None:
            tags.append(tool_tag(wanted.tool))
        if wanted.client is not None:
            tags.append(client_tag(wanted.client))
        if not tags:
            status, lines, text = _words(400, 'Send {"tool": …}, {"client": …} or {"all": true}.')
            connection.answer(status_line(status) + lines, text)
            return

        def purged() -> None:
            status, lines, text = _json(200, {"purged": [tag.decode() for tag in tags]})
            connection.answer(status_line(status) + lines, text)

        self._plane.results.purge(tags, purged)

    def _may_read(self, head: RequestHead) -> bool:
        if self._token is None:
            return self._loopback
        given = head.get(b"authorization") or b""
        return hmac.compare_digest(given, b"Bearer " + self._token)

    def _healthz(self) -> tuple[int, bytes, bytes]:
        return _json(
            200,
            {
                "status": "healthy",
                "uptime": round(time.monotonic() - self._started, 3),
                "cache_size": len(self._memory),
                "tools_registered": len(self._plane.catalog.tools),
                "version": __version__,
            },
        )

    def _readyz(self) -> tuple[int, bytes, bytes]:
        if self._plane.draining:
            return _said(503, Readiness(ready=False, reason="The sidecar is ending."))
        if not self._handshake.ready:
            return _said(503, Readiness(ready=False, reason=self._handshake.problem or ""))
        return _said(200, Readiness(ready=True))

    def _serverz(self) -> tuple[int, bytes, bytes]:
        """Whether the server's container is alive: it answers HTTP, ready for MCP or not."""
        if not self._handshake.alive:
            return _json(503, {"alive": False, "reason": self._handshake.problem})
        return _json(200, {"alive": True})

    def _read_metrics(self) -> tuple[int, bytes, bytes]:
        self._scraped = time.monotonic()
        return 200, _TEXT, self._metrics.text()

    def _read_stats(self) -> tuple[int, bytes, bytes]:
        plane, server = self._plane, self._plane.catalog.server
        tools = plane.catalog.tools
        now = time.monotonic()
        report = Report(
            version=VERSION,
            calls=statistics.summary(self._tallies),
            window_seconds=WINDOW,
            server=ServerInfo(server.name, server.version, server.protocol_version) if server else None,
            tools=tuple(sorted(tools)),
            read_only_tools=tuple(
                sorted(n for n, hints in tools.items() if hints.get("readOnlyHint") is True)
            ),
            scraped_seconds_ago=None if self._scraped is None else round(now - self._scraped, 1),
            doors={
                name: CountedDoor(sum(door.answers.values()), door.pool.opened)
                for name, door in self._doors.open.items()
            },
            missing_secrets=plane.settings.missing_secrets,
            unknown_fields=plane.settings.ignored,
            in_flight=dict(plane.tools_in_flight()),
            findings=self._findings.now(),
            slots=self._slots(),
            sessions=len(plane.sessions),
            relays=plane.peers is not None,
            processes=plane.pool.counted(),
        )
        return 200, _JSON, msgspec.json.encode(report)

    def _read_config(self) -> tuple[int, bytes, bytes]:
        config = self._plane.settings.config
        return _json(200, config.model_dump(mode="json", by_alias=True) | {"findings": self._found()})

    def _read_calls(self) -> tuple[int, bytes, bytes]:
        return _words(200, "\n".join(calls.lines(self._plane, self._doors, self._links)))

    def _slots(self) -> Slots:
        """How many calls are worked on at once, and of how many that may be."""
        bulkhead = self._plane.bulkhead
        most = bulkhead.max_in_flight
        return Slots(bulkhead.in_flight, most if most < sys.maxsize else None)

    def _found(self) -> list[dict[str, str]]:
        """The rules that do nothing."""
        return [{"reason": finding.reason, "message": finding.message} for finding in self._findings.now()]


def _said(status: int, readiness: Readiness) -> tuple[int, bytes, bytes]:
    return status, _JSON, msgspec.json.encode(readiness)


def _json(status: int, document: Any) -> tuple[int, bytes, bytes]:
    return status, _JSON, json.dumps(document).encode()


def _words(status: int, words: str) -> tuple[int, bytes, bytes]:
    return status, b"Content-Type: text/plain\r\n", words.encode() + b"\n"
