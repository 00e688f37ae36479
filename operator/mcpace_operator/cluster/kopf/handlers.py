"""kopf's edge: events mark a key in the queue, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import aiohttp
import kopf

from mcpace_operator.cluster.kinds import KINDS, WATCHED
from mcpace_operator.cluster.nesting import ShallowResponse
from mcpace_operator.resource.models import GROUP, KIND, PLURAL, VERSION
from mcpace_operator.resource.server import SELECTOR
from mcpace_sidecar.contract.backoff import Backoff

LASTING: Final = 10.0
"""Seconds from which on a watch counts as one that lasted."""
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
TURN: Final = 0.2
"""Seconds between two looks whether to end."""


class See(NamedTuple):
    """Who is told of what kopf sees."""

    event: Callable[[str, Mapping[str, Any], bool], object]
    """Takes (kind, body, deleted)."""
    gap: Callable[[], object]
    """Told when a watch could not go on where it was: what was deleted meanwhile comes by no event."""
    watched: Callable[[str], object]
    """Told of each path that is watched, when its watch has begun."""


class Nothing(kopf.DiffBaseStorage):
    """Stores and compares nothing: this operator keeps its own view, and kopf's would cost a copy."""

    def build(self, **_: Any) -> Any:
        """Nothing."""
        return {}

    def fetch(self, **_: Any) -> Any:
        """Nothing."""
        return None

    def store(self, **_: Any) -> None:
        """Nothing."""


def registry(
    see: See, ending: Callable[[], bool], opened: Callable[[aiohttp.ClientSession], object]
) -> kopf.OperatorRegistry:
    """The handlers for servers and their children.

    `ending` is whether kopf shall end; `opened` is told of each session that kopf then owns.
    """
    handlers = kopf.OperatorRegistry()

    def handler(kind: str) -> Callable[..., None]:
        def on_event(event: Mapping[str, Any], **_: Any) -> None:
            see.event(kind, event["object"], event["type"] == "DELETED")

        return on_event

    kopf.on.event(GROUP, VERSION, PLURAL, id="server", registry=handlers)(handler(KIND))
    for kind in WATCHED:
        plural = KINDS[kind].plural
        group, _, version = KINDS[kind].api.rpartition("/")
        kopf.on.event(group, version, plural, id=plural, registry=handlers)(handler(kind))

    @kopf.on.login(registry=handlers)
    async def login(**kwargs: Any) -> Any:
        found = kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
        if found is None:
            return None
        session = _paced(found, see, ending)
        opened(session)
        return kopf.AiohttpSession(server=found.server, aiohttp_session=session)

    return handlers


def _paced(found: kopf.ConnectionInfo, see: See, ending: Callable[[], bool]) -> aiohttp.ClientSession:
    """The same connection with a pace: kopf opens a watch anew the moment a server closes it.

    A list after the first one means that a watch could not go on, which kopf tells nobody.
    """
    listed: set[str] = set()
    pace = Pace()
    trace = aiohttp.TraceConfig()

    async def on_start(_: Any, __: Any, params: aiohttp.TraceRequestStartParams) -> None:
        path, query = params.url.path, params.url.query
        if query.get("watch") == "true":
            loop = asyncio.get_running_loop()
            until = loop.time() + pace.delay(path, loop.time())
            while (left := until - loop.time()) > 0 and not ending():  # kopf cannot end what waits here
                await asyncio.sleep(min(left, TURN))
        elif "limit" in query and "continue" not in query:
            if path in listed:
                see.gap()
            listed.add(path)

    async def on_end(_: Any, __: Any, params: aiohttp.TraceRequestEndParams) -> None:
        if params.url.query.get("watch") == "true" and params.response.status == 200:
            see.watched(params.url.path)

    trace.on_request_start.append(on_start)
    trace.on_request_end.append(on_end)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=found.as_ssl_context()),
        headers=found.as_http_headers(),
        trust_env=found.trust_env,
        response_class=ShallowResponse,
        trace_configs=[trace],
    )


class Pace:
    """How long to wait before a path is watched again: longer, the sooner its watches end."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, Backoff]] = {}  # path -> when it began, and how long to wait

    def delay(self, path: str, now: float) -> float:
        """Seconds to wait; nothing for a watch that lasted."""
        began, backoff = self._last.get(path, (-LASTING, Backoff(FIRST_PAUSE, LONGEST_PAUSE)))
        if now - began < LASTING:
            delay = backoff.next()
        else:
            backoff.reset()
            delay = 0.0
        self._last[path] = (now + delay, backoff)
        return delay


def settings() -> kopf.OperatorSettings:
    """kopf, tuned for a thousand servers; each value as measured."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.persistence.diffbase_storage = Nothing()
    chosen.queueing.worker_limit = 50
    chosen.queueing.idle_timeout = 0.1
    chosen.networking.connect_timeout = 5
    chosen.networking.request_timeout = 15
    chosen.networking.error_backoffs = (1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 60, 60, 60, 60)
    chosen.scanning.disabled = True
    chosen.watching.server_timeout = 120
    chosen.watching.client_timeout = 150
    chosen.watching.connect_timeout = 5
    chosen.watching.chunk_size = 100
    chosen.watching.reconnect_backoff = 1.0
    for kind in WATCHED:
        chosen.watching.label_selectors[KINDS[kind].plural] = SELECTOR
    return chosen
