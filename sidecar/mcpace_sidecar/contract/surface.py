"""A sidecar as whoever starts it sees it: its ports, its options, and the paths of its admin port."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

SERVER_PORT: Final = 8000
"""The MCP server's own, unless the manifest says another."""
DATA_PORT: Final = 18080
"""Where calls arrive, unless the manifest says otherwise."""
ADMIN_PORT: Final = 18090
"""Health, metrics and statistics, unless the manifest says otherwise."""
STDIO_PORT: Final = 18070
"""Where processes of a stdio server are started, on the pod's loopback."""
RELAY_PORT: Final = 18081
"""Where the other sidecars of the same server come in."""
DATABASE_PORT: Final = 6432
"""PgBouncer's, in the pod."""


class Flag(StrEnum):
    """Options of `mcpace sidecar`."""

    CONFIG = "--config"
    LISTEN = "--listen"
    ADMIN_LISTEN = "--admin-listen"
    UPSTREAM = "--upstream"
    RELAY_LISTEN = "--relay-listen"
    PEERS = "--peers"
    NAME = "--name"
    KEYS = "--keys"


class Path(StrEnum):
    """What the admin port answers."""

    PAGE = "/"
    HEALTHZ = "/healthz"
    READYZ = "/readyz"
    SERVERZ = "/serverz"
    METRICS = "/metrics"
    STATS = "/stats"
    CONFIG = "/config"
    CALLS = "/debug/calls"
    PURGE = "/purge"
    LIMITS = "/limits"
    RESET = "/limits/reset"
    DRAIN = "/drain"
    DRAINED = "/drained"


READYZ_WAIT: Final = f"{Path.READYZ}?wait"
"""Answered once the server is ready for the first time, or after some seconds."""
STATS_RECENT: Final = f"{Path.STATS}?recent"
"""How the five minutes went, too."""
GUARDED: Final = frozenset(
    {Path.STATS, Path.CONFIG, Path.CALLS, Path.PURGE, Path.LIMITS, Path.RESET, Path.DRAIN}
)
"""What needs the server's admin token."""
POSTED: Final = frozenset({Path.PURGE, Path.RESET, Path.DRAIN})
"""What is asked for with POST, and not with GET."""
FROM_PAGE: Final = "Mcpace-Page"
"""The header without which no page's POST is taken: one of elsewhere may not send it unasked."""
ADMIN_TOKEN_HEADER: Final = "Mcpace-Admin-Token"  # noqa: S105 - its name, not what it holds
"""The admin token where Authorization is another's: an API server that passes requests on keeps its own."""
