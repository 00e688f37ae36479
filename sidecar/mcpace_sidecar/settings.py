"""A configuration made ready for the data path. Replaced whole when the file changes."""

from __future__ import annotations

from pathlib import Path

from mcpace_sidecar.cache.policy import CachePolicy
from mcpace_sidecar.config import SidecarConfig
from mcpace_sidecar.identity import Identities, read_keys
from mcpace_sidecar.limits.plan import LimitPlan
from mcpace_sidecar.quantity import seconds, size


class Settings:
    """What the stages of a call look up."""

    def __init__(
        self, config: SidecarConfig, ignored: tuple[str, ...] = (), keys: Path | None = None
    ) -> None:
        """`keys` is the folder of mounted API keys; ConfigError where they contradict."""
        self.config = config
        self.ignored = ignored
        self.path = config.path.encode()
        self.pass_paths = frozenset(path.encode() for path in config.pass_paths)
        self.max_request_bytes = size(config.max_request_bytes)
        known, self.missing_secrets = read_keys(config.clients, keys)
        self.identities = Identities(config.clients, known)
        self.forward_credential = config.clients.forward_credential
        self.allowed_origins = frozenset(
            o.lower().encode("latin-1") for o in config.clients.allowed_origins
        )
        self.limits = LimitPlan(config.rate_limits) if config.rate_limits else None
        self.count_cache_hits = config.rate_limits is None or config.rate_limits.count_cache_hits
        self.when_redis_is_down = config.rate_limits.when_redis_is_down if config.rate_limits else "local"
        self.cache = CachePolicy(config.cache) if config.cache else None
        self.cache_bytes = size(config.cache.max_bytes) if config.cache else 0
        self.patience = seconds(config.upstream.timeout)
        self.max_connections = config.upstream.max_connections
        self.idle_timeout = seconds(config.upstream.idle_timeout)
        self.connect_timeout = seconds(config.upstream.connect_timeout)
        tools = [tool.name for tool in config.rate_limits.tools] if config.rate_limits else []
        tools += [tool.name for tool in config.cache.tools] if config.cache else []
        self.tool_names = frozenset(tools)
