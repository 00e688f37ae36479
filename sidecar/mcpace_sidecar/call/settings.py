"""A configuration made ready for the data path. Replaced whole when the file changes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mcpace_sidecar.cache.policy import Keys
from mcpace_sidecar.call.policies import Policies
from mcpace_sidecar.contract.config import SidecarConfig
from mcpace_sidecar.contract.config.cache import Cache
from mcpace_sidecar.contract.quantity import seconds, size
from mcpace_sidecar.errors import ConfigError
from mcpace_sidecar.http.head import Names
from mcpace_sidecar.identity.callers import Identities, read_keys
from mcpace_sidecar.identity.client import Client
from mcpace_sidecar.identity.origins import Guard
from mcpace_sidecar.limits.plan import LimitPlan
from mcpace_sidecar.relay import peer

if TYPE_CHECKING:
    from mcpace_sidecar.identity.tokens import Tokens
    from mcpace_sidecar.telemetry.spans import Spans

_READ: Final = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"access-control-request-headers",
        b"access-control-request-method",
        b"authorization",
        b"content-encoding",
        b"content-type",
        b"cookie",
        b"mcp-method",
        b"mcp-name",
        b"mcp-protocol-version",
        b"mcp-session-id",
        b"origin",
        b"x-api-key",
    }
)
"""Headers that decide something under any configuration."""
OURS: Final = b"mcpace-"
"""What the names of fields begin with that sidecars send to each other."""
PLACES: Final = frozenset(
    {
        b"front-end-https",
        b"x-host",
        b"x-original-host",
        b"x-original-url",
        b"x-rewrite-url",
        b"x-scheme",
        b"x-script-name",
        b"x-url-scheme",
    }
)
"""Headers besides X-Forwarded-* that frameworks take for the address that is public."""
UNASKED: Final = 8 << 20
"""Bytes of the cache where none is written: of what the server itself says may be kept."""
UNASKED_PAGES: Final = 9 << 20
"""The same where results come in pages: room for those of two, however large."""


class Settings:
    """What the stages of a call look up."""

    def __init__(
        self,
        config: SidecarConfig,
        ignored: tuple[str, ...] = (),
        keys: Path | None = None,
        before: Settings | None = None,
        name: str = "",
    ) -> None:
        """`keys` is the folder of mounted API keys; ConfigError where they contradict.

        `before`: the settings these replace; verified tokens and fetched keys are taken over.
        `name`: the server's, for its spans.
        """
        self.config = config
        self.ignored = ignored
        self.path = config.endpoint.encode()
        self.pair = config.transport == "sse"
        own = (config.endpoint, *config.pass_paths)
        self.health_path = config.health_path.encode() if config.health_path not in own else b""
        self.pass_paths = frozenset(path.encode() for path in config.pass_paths)
        self.max_request_bytes = size(config.max_request_bytes)
        known, self.missing_secrets = read_keys(config.clients, keys)
        self.identities = Identities(config.clients, known, _tokens(config, before))
        self.continues = config.sessions.continuity and not self.pair
        """Whether session ids are ours."""
        concurrency = config.concurrency
        self.repeatable = frozenset(concurrency.repeatable_tools if concurrency is not None else ())
        """Tools whose calls may be sent again where the server ended in the midst of them."""
        self.forward_credential = config.clients.forward_credential
        self.guard = Guard(config.clients, config.public_url)
        self.preserves_host = config.upstream.host == "preserve"
        self.limits = LimitPlan(config.rate_limits) if config.rate_limits else None
        self.count_cache_hits = config.rate_limits is None or config.rate_limits.count_cache_hits
        self.when_redis_is_down = config.rate_limits.when_redis_is_down if config.rate_limits else "local"
        self.reply = config.rate_limits.reply if config.rate_limits else "jsonrpc"
        self.policies = Policies(config)
        self.keys = Keys(config.cache)
        cache = config.cache or Cache()
        self.vary_on = self.keys.vary_on
        apart = tuple(name for name in self.identities.apart if name not in self.vary_on)
        read = {self.identities.key_header, *self.vary_on, *((b"last-event-id",) if self.continues else ())}
        self.names = Names(_READ | PLACES | read, apart, (b"x-forwarded-", OURS))
        """The request headers that decide something under this configuration."""
        self.relayed = Names(_READ | peer.READ | {b"last-event-id"}, (), (OURS,))
        """The same of those that another sidecar passes on."""
        self.all_apart = apart == self.identities.apart
        self.paging = config.responses.page is not None
        unasked = UNASKED_PAGES if self.paging else UNASKED
        self.cache_bytes = size(cache.max_bytes) if config.cache is not None else unasked
        self.cache_entries = cache.max_entries
        self.heartbeat = seconds(config.responses.heartbeat)
        self.idle_timeout = seconds(config.clients.idle_timeout)
        self.drain_timeout = seconds(config.drain_timeout)
        self.patience = seconds(config.upstream.timeout)
        self.compress_over = size(config.responses.compress_over)
        self.access_log = config.monitoring.access_log
        self.spans = _spans(config, before, name)
        self.parallel = config.concurrency is not None and config.concurrency.parallel_tool

    def tier(self, client: Client) -> str | None:
        """The tier that a client is limited by; without limits, the one that it names."""
        return self.limits.tier(client) if self.limits is not None else client.tier


def _tokens(config: SidecarConfig, before: Settings | None) -> Tokens | None:
    jwt: Any = config.clients.jwt
    if jwt is None:
        return None
    tokens = before.identities.tokens if before is not None else None
    if tokens is not None and tokens.config == jwt:
        return tokens
    # Imported here because cryptography is held in memory only where tokens are verified.
    from mcpace_sidecar.identity.tokens import Tokens  # noqa: PLC0415 - because of that

    return Tokens(jwt)


def _spans(config: SidecarConfig, before: Settings | None, name: str) -> Spans | None:
    traces: Any = config.monitoring.traces
    if traces is None:
        return None
    if before is not None and before.spans is not None and before.spans.config == traces:
        return before.spans
    try:
        # Imported here because the SDK is an extra, and held in memory only where spans are made.
        from mcpace_sidecar.telemetry.spans import Spans  # noqa: PLC0415 - because of that
    except ImportError as error:
        words = f"monitoring.traces needs {error.name}: in a checkout, pip install '.[traces]'"
        raise ConfigError(words) from error
    return Spans(traces, name)
