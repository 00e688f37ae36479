"""Is the server there, who is it, what are its tools, and when do its lists change.

The handshake is made until it first succeeds, then rarely, and at once after the server was not
reached or said that its tools have changed. Modern servers are asked by `server/discover`; others
by `initialize`, and the session that this opens is deleted. All this goes over connections of its
own, so that it never waits behind calls. A server that does not speak to us because it is at work
for others is alive and ready. Where the server announces changes of
its lists, one subscription stays open, so that cached lists are purged even when no client listens.
Source: MCP 2026-07-28 basic/lifecycle, server/utilities/subscriptions; MCP 2025-11-25 basic/lifecycle.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from mcpace_sidecar.call.settings import Settings
from mcpace_sidecar.contract.backoff import Backoff
from mcpace_sidecar.errors import McpaceError, UpstreamError
from mcpace_sidecar.http.backend import Backend
from mcpace_sidecar.mcp.catalog import MAX_TOOLS, Catalog, ServerInfo, gist
from mcpace_sidecar.server.diagnosis import advice
from mcpace_sidecar.server.session import HandshakeError, NotMcpError, Session, conversation

log = logging.getLogger(__name__)

AGAIN_AT_FIRST: Final = 0.05
AGAIN_AFTER_FAILURE: Final = 0.25
AGAIN_AT_LAST: Final = 5.0
AGAIN_AFTER_SUCCESS: Final = 30.0
STARTING: Final = 10.0
"""Seconds for which a server that has never answered is asked often."""
PATIENCE: Final = 2.0
"""Seconds of failures after which it is asked whether the server is elsewhere."""
ADVICE_EVERY: Final = 10.0
RESUBSCRIBE: Final = (1.0, 30.0)
"""Seconds until a subscription that ended is opened again: at first, at most."""
LATELY: Final = 30.0
"""Seconds for which a server that has answered a call needs no handshake to be believed alive."""
CHANGES_APART: Final = 0.25
"""Seconds between two changes of one list that are heeded: a server may tell of them without end."""
_MAX_PAGES: Final = 100
_MAX_LISTED: Final = 8 << 20
"""Bytes of one list that are read at most; what comes after them is not known by name."""

Begin = Callable[[Session], Any]


class Handshake:
    """Keeps `ready` and the catalog true.

    `pool` is its own, `calls` that of the clients' calls. `on_change` takes the kind of list that
    has changed.
    """

    def __init__(
        self,
        pool: Backend,
        calls: Backend,
        settings: Callable[[], Settings],
        catalog: Catalog,
        on_change: Callable[[str], None],
        own_ports: frozenset[int] | None,
    ) -> None:
        self.ready = False
        self._answers = False
        self.was_ready = asyncio.Event()
        """Set once it was so for the first time."""
        self.problem = "The server has not answered yet."
        self.subscribed = False
        self._pool = pool
        self._calls = calls
        self._settings = settings
        self._catalog = catalog
        self._on_change = on_change
        self._own_ports = own_ports
        self._doubt = asyncio.Event()
        self._era: Begin | None = None
        self._announces = asyncio.Event()
        self._listening: Session | None = None
        self._told: dict[str, bool] = {}  # the lists that changed lately -> whether they did again
        self._ending = False

    def doubt(self) -> None:
        """The server was not reached, or has changed: look again now."""
        self._doubt.set()

    async def keep(self) -> None:
        """Shake hands for as long as the sidecar runs."""
        failing, hint, advised, answered = 0.0, "", -ADVICE_EVERY, False
        again = Backoff(AGAIN_AFTER_FAILURE, AGAIN_AT_LAST, 1.5)
        while True:
            self._doubt.clear()
            try:
                with conversation():
                    await self._once()
            except McpaceError as error:
                now = time.monotonic()
                if self.ready and self._at_work(error, now):
                    await asyncio.sleep(AGAIN_AFTER_FAILURE)
                    await self._rest()
                    continue
                failing = failing or now
                if now > failing + PATIENCE and now > advised + ADVICE_EVERY:
                    hint = await advice(self._pool, self._settings().config, error, self._own_ports)
                    advised = now
                words = f"{str(error).rstrip('.')}. {hint}".rstrip()
                if self.ready:
                    log.warning("The server is not ready any more: %s", words)
                elif self.problem != words:
                    log.info("The server is not ready yet: %s", words)
                self.ready, self.problem = False, words
                self._answers = isinstance(error, HandshakeError | NotMcpError)
                answered = answered or self._answers
                # What answers, but not as an MCP server, is asked ever more rarely: it may never be one.
                if not self._answers:
                    again.reset()
            else:
                again.reset()
                failing, hint, answered = 0.0, "", True
                if not self.ready:
                    log.info(
                        "The server is ready: %s, %d tools", self._catalog.server, len(self._catalog.tools)
                    )
                self.ready, self._answers, self.problem = True, True, ""
                self.was_ready.set()
            if self.ready:
                await self._rest()
            else:
                starting = not answered and time.monotonic() < failing + STARTING
                await asyncio.sleep(AGAIN_AT_FIRST if starting else again.next())

    async def _rest(self) -> None:
        """Wait until it is time to look again, or there is a reason to."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._doubt.wait(), AGAIN_AFTER_SUCCESS)

    @property
    def alive(self) -> bool:
        """Whether the server lives: it answers HTTP, be it as no MCP server should, or is at work."""
        now = time.monotonic()
        return self._answers or self._calls.at_work(now) or self._calls.heard > now - LATELY

    def _at_work(self, error: McpaceError, now: float) -> bool:
        """Whether the server is well, though it has not answered the handshake as it should."""
        calls = self._calls
        if calls.at_work(now):
            return True
        if isinstance(error, UpstreamError) and (error.refused or error.reason == "closed"):
            return False
        return calls.served > now - LATELY

    def unsubscribe(self) -> None:
        """Close the subscription, for good: the sidecar ends."""
        self._ending = True
        if self._listening is not None:
            self._listening.interrupt()

    async def subscribe(self) -> None:
        """Hear of changes for as long as the sidecar runs."""
        again = Backoff(*RESUBSCRIBE)
        while True:
            await self._announces.wait()
            if self._ending:
                await asyncio.Event().wait()
            with contextlib.suppress(Exception):  # a server may say anything
                assert self._era is not None
                session = self._listening = Session(self._pool, self._settings().config.endpoint)
                try:
                    await self._era(session)
                    async for message in session.listen(self._opened):
                        again.reset()
                        self._heard(str(message["method"]))
                finally:
                    self.subscribed = False
                    self._listening = None
                    await session.end()
            await asyncio.sleep(again.next())

    def _opened(self) -> None:
        self.subscribed = True
        for kind in ("tools", "prompts", "resources"):
            self._on_change(kind)  # what happened while nobody listened is unknown

    def _heard(self, method: str) -> None:
        for kind in ("tools", "prompts", "resources"):
            if method == f"notifications/{kind}/list_changed":
                if kind in self._told:
                    self._told[kind] = True
                else:
                    self._changed(kind)

    def _changed(self, kind: str) -> None:
        """Heed a change at once, and those that come soon after it together."""
        self._told[kind] = False
        asyncio.get_running_loop().call_later(CHANGES_APART, self._heed_more, kind)
        self._on_change(kind)
        if kind == "tools":
            self.doubt()

    def _heed_more(self, kind: str) -> None:
        if self._told.pop(kind, False):
            self._changed(kind)

    async def _once(self) -> None:
        session = Session(self._pool, self._settings().config.endpoint)
        try:
            try:
                await self._begin(session)
            except HandshakeError as error:
                if error.status not in (401, 403, 421):
                    raise
                # It speaks to its own clients alone: it is there, and what it lists is heard from them.
                self._catalog.locked = True
                return
            self._catalog.locked = False
            tools = await _listed(session, "tools")
            limits = self._settings().config.rate_limits
            prompts = await _listed(session, "prompts") if limits and limits.prompts else None
        finally:
            await session.end()
        info = session.info
        server = ServerInfo(str(info.get("name", "")), str(info.get("version", "")), session.versions[0])
        self._catalog.learn(server, tools, prompts)
        announced = session.capabilities.values()
        if any(isinstance(c, dict) and c.get("listChanged") for c in announced):
            self._announces.set()
        else:
            self._announces.clear()

    async def _begin(self, session: Session) -> None:
        if self._settings().pair:
            self._era = Session.connect_pair
            await session.connect_pair()
            return
        try:
            self._era = Session.discover
            await session.discover()
        except HandshakeError:
            self._era = Session.initialize
            await session.initialize()


async def _listed(session: Session, kind: str) -> list[dict[str, Any]]:
    """Its tools, or its prompts."""
    items: list[dict[str, Any]] = []
    if kind not in session.capabilities:
        return items
    cursor: dict[str, Any] = {}
    read = session.received
    for _ in range(_MAX_PAGES):
        try:
            result = await session.call(f"{kind}/list", cursor)
        except HandshakeError:
            return items  # a server without tools is a server
        listed = (gist(item) for item in result.get(kind) or [] if isinstance(item, dict))
        items += [known for known in listed if known]
        if not result.get("nextCursor") or len(items) >= MAX_TOOLS or session.received > read + _MAX_LISTED:
            break
        cursor = {"cursor": result["nextCursor"]}
    return items
