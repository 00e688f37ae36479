"""What a process is told by its environment: every variable, once. The reference lists them.

Secrets reach a process so or by files, never by its command line.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from mcpace_sidecar.errors import ConfigError


class Variable(NamedTuple):
    """One variable."""

    name: str
    readers: str
    """The commands that read it."""
    words: str
    is_secret: bool = False
    """Whether `NAME_FILE` may name a file that holds it."""

    def __str__(self) -> str:
        return self.name

    def read(self) -> str | None:
        """What it holds; None where it is not set, or empty. ConfigError for a file that cannot be read."""
        value = os.environ.get(self.name)
        path = os.environ.get(f"{self}_FILE") if self.is_secret else None
        if value or not path:
            return value or None
        try:
            return Path(path).read_text(encoding="utf-8").strip() or None
        except OSError as error:
            raise ConfigError(f"{self}_FILE: {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self}_FILE: {path} is no text in UTF-8") from error

    def names(self) -> tuple[str, ...]:
        """The names that it holds, with commas between them."""
        return tuple(filter(None, (self.read() or "").split(",")))


_ALL: Final = "sidecar, run, operator"
_REDIS: Final = "Redis; without it, memory"

LIMITS_URL: Final = Variable("MCPACE_LIMITS_URL", _ALL, _REDIS, is_secret=True)
CACHE_URL: Final = Variable("MCPACE_CACHE_URL", _ALL, _REDIS, is_secret=True)
REDIS_CA: Final = Variable(
    "MCPACE_REDIS_CA", _ALL, "PEM by which a Redis over TLS is verified", is_secret=True
)
ADMIN_TOKEN: Final = Variable(
    "MCPACE_ADMIN_TOKEN",
    "sidecar, run, check, limits, cache",
    "guards what is not open on the admin port; what opens it, of one at a URL",
    is_secret=True,
)
SESSION_KEY: Final = Variable(
    "MCPACE_SESSION_KEY",
    "sidecar",
    "32 bytes in hex, by which session ids are sealed; without it one is drawn, and they end with the"
    " sidecar (`run` keeps one for each manifest)",
    is_secret=True,
)
SESSION_KEY_PREVIOUS: Final = Variable(
    "MCPACE_SESSION_KEY_PREVIOUS", "sidecar", "the key before, while both are accepted", is_secret=True
)
MEMORY_LIMIT: Final = Variable(
    "MCPACE_MEMORY_LIMIT", "sidecar, run", "a size such as 256Mi, in place of the container's memory limit"
)
SERVER_CGROUP: Final = Variable(
    "MCPACE_SERVER_CGROUP", "sidecar", "the folder of the server's cgroup, whose use the metrics show"
)
MASTER_KEY: Final = Variable(
    "MCPACE_MASTER_KEY", "operator", "every server's passwords are derived from it", is_secret=True
)
MASTER_KEY_PREVIOUS: Final = Variable(
    "MCPACE_MASTER_KEY_PREVIOUS", "operator", "the key before, while both are accepted", is_secret=True
)
MASTER_KEY_LEGACY: Final = Variable(
    "MCPACE_MASTER_KEY_LEGACY", "operator", "the key as an older chart drew it", is_secret=True
)
REDIS_PASSWORD_LEGACY: Final = Variable(
    "MCPACE_REDIS_PASSWORD_LEGACY", "operator", "the embedded Redis's, as an older chart drew it",
    is_secret=True,
)  # fmt: skip
MASTER_KEY_SECRET: Final = Variable(
    "MCPACE_MASTER_KEY_SECRET", "operator", "`NAMESPACE/NAME` of the Secret to make where no key is given"
)
EMBEDDED_STORES: Final = Variable(
    "MCPACE_EMBEDDED_STORES", "operator", "which of `limits,cache` are the release's own"
)
SIDECAR_IMAGE: Final = Variable("MCPACE_SIDECAR_IMAGE", "operator", "the image put beside every server")
SIDECAR_PULL_POLICY: Final = Variable("MCPACE_SIDECAR_PULL_POLICY", "operator", "when it is pulled")
HEALTH_PORT: Final = Variable(
    "MCPACE_HEALTH_PORT", "operator", "where `/healthz`, `/readyz` and `/metrics` answer; 8080"
)
LEASE_NAMESPACE: Final = Variable("MCPACE_LEASE_NAMESPACE", "operator", "where several elect one")
IDENTITY: Final = Variable("MCPACE_IDENTITY", "operator", "this one's name among them")
INSTANCE: Final = Variable(
    "MCPACE_INSTANCE", "operator", "what names this mcpace among others: the release's namespace and name"
)
NAMESPACES: Final = Variable(
    "MCPACE_NAMESPACES", "operator", "the namespaces looked after, with commas; none is all"
)
CALLERS: Final = Variable(
    "MCPACE_CALLERS", "operator", "peers of every NetworkPolicy, in JSON, that reach the data port"
)
WATCHERS: Final = Variable("MCPACE_WATCHERS", "operator", "the same of the admin port")
FIXED_USER_IDS: Final = Variable(
    "MCPACE_FIXED_USER_IDS", "operator", "`false`: containers name no user, where the cluster chooses one"
)
PULL_SECRETS: Final = Variable(
    "MCPACE_PULL_SECRETS", "operator", "Secrets, with commas, by which all servers' pods pull images"
)
MONITOR_LABELS: Final = Variable(
    "MCPACE_MONITOR_LABELS", "operator", "labels of ServiceMonitors and PrometheusRules, in JSON"
)
RUNBOOKS_URL: Final = Variable(
    "MCPACE_RUNBOOKS_URL", "operator", "the address of the folder of runbooks that alerts lead to"
)
GRAFANA_URL: Final = Variable("MCPACE_GRAFANA_URL", "operator", "that of Grafana, for links to dashboards")
DATABASE_URI: Final = Variable("MCPACE_DATABASE_URI", "pgbouncer", "the database", is_secret=True)
API_KEY: Final = Variable(
    "MCPACE_API_KEY", "call, probe, tools, resources, prompts, init, check, bench",
    "the key that is sent as `X-API-Key`, or as `--api-key-header` or the `apiKeyHeader` of `--manifest`"
    " says", is_secret=True,
)  # fmt: skip
TOKEN: Final = Variable(
    "MCPACE_TOKEN",
    "call, probe, tools, resources, prompts, init, check, bench",
    "the token that is sent as `Authorization: Bearer`",
    is_secret=True,
)

VARIABLES: Final = tuple(each for each in globals().copy().values() if isinstance(each, Variable))
