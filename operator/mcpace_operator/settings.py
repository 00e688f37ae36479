"""What the operator's environment says; the chart sets it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mcpace_operator.masterkey import WORDS, MasterKey
from mcpace_sidecar import __version__
from mcpace_sidecar.contract.environment import secret
from mcpace_sidecar.errors import ConfigError


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """Images, stores, and the key that every server's passwords are derived from.

    `repr` leaves the secrets out.
    """

    sidecar_image: str = f"mcpace/sidecar:{__version__}"
    sidecar_pull_policy: str = "IfNotPresent"
    limits_url: str | None = field(default=None, repr=False)
    cache_url: str | None = field(default=None, repr=False)
    redis_authority: str | None = None
    """Certificates in PEM by which a Redis over TLS is verified; None is the system's."""
    embedded: frozenset[str] = frozenset()
    """Which of the stores, `limits` and `cache`, are the release's own; their URLs hold no password."""
    master_key: MasterKey = field(default=MasterKey(), repr=False)
    key_secret: tuple[str, str] | None = None
    """The namespace and name of the master key's Secret, to be made where there is no key."""
    health_port: int = 8080
    callers: tuple[Mapping[str, Any], ...] = ()
    """Peers that may call every server with a NetworkPolicy that names none; empty is everybody."""
    watchers: tuple[Mapping[str, Any], ...] = ()
    """Peers that may reach the admin ports: the operator itself, and monitoring."""
    monitor_labels: Mapping[str, str] = field(default_factory=dict)
    """Labels by which a Prometheus finds its ServiceMonitors and PrometheusRules."""
    fixed_user_ids: bool = True
    """Whether containers say which user they run as; where the cluster chooses, they must not."""
    pull_secrets: tuple[str, ...] = ()
    """Names of Secrets, in each server's namespace, by which every server's pods pull images."""
    election: tuple[str, str] | None = None
    """The namespace of the Lease and this operator's own name, where several run."""
    instance: str = "mcpace"
    """What names this mcpace among others of the cluster: its release's namespace and name."""
    namespaces: tuple[str, ...] = ()
    """The namespaces that are watched; none is all."""

    @property
    def release(self) -> str:
        """`instance` as a label; the chart writes the same into the policy of its Redis."""
        return self.instance.replace("/", ".")[:63].rstrip("-.")

    @classmethod
    def from_environment(cls) -> OperatorSettings:
        """Read MCPACE_*; ConfigError names what is missing."""
        key, key_secret = MasterKey.from_environment(), _key_secret()
        if key is None and key_secret is None:
            raise ConfigError(
                f"MCPACE_MASTER_KEY (or MCPACE_MASTER_KEY_FILE) is missing: {WORDS}, from which each"
                " server's passwords are derived. MCPACE_MASTER_KEY_SECRET=NAMESPACE/NAME has one made"
            )
        return cls(
            sidecar_image=os.environ.get("MCPACE_SIDECAR_IMAGE", f"mcpace/sidecar:{__version__}"),
            sidecar_pull_policy=os.environ.get("MCPACE_SIDECAR_PULL_POLICY") or "IfNotPresent",
            limits_url=secret("MCPACE_LIMITS_URL"),
            cache_url=secret("MCPACE_CACHE_URL"),
            redis_authority=secret("MCPACE_REDIS_CA"),
            embedded=frozenset(filter(None, os.environ.get("MCPACE_EMBEDDED_STORES", "").split(","))),
            master_key=key or MasterKey(),
            key_secret=key_secret if key is None else None,
            health_port=_port("MCPACE_HEALTH_PORT", 8080),
            callers=_peers("MCPACE_CALLERS"),
            watchers=_peers("MCPACE_WATCHERS"),
            monitor_labels=_json("MCPACE_MONITOR_LABELS", {}),
            fixed_user_ids=os.environ.get("MCPACE_FIXED_USER_IDS", "true") != "false",
            pull_secrets=tuple(filter(None, os.environ.get("MCPACE_PULL_SECRETS", "").split(","))),
            election=_election(),
            instance=os.environ.get("MCPACE_INSTANCE") or "mcpace",
            namespaces=tuple(filter(None, os.environ.get("MCPACE_NAMESPACES", "").split(","))),
        )


def _key_secret() -> tuple[str, str] | None:
    text = os.environ.get("MCPACE_MASTER_KEY_SECRET", "")
    namespace, _, name = text.partition("/")
    if text and not (namespace and name):
        raise ConfigError(f"MCPACE_MASTER_KEY_SECRET is {text!r}: write NAMESPACE/NAME of a Secret")
    return (namespace, name) if text else None


def _peers(variable: str) -> tuple[Mapping[str, Any], ...]:
    peers = _json(variable, [])
    if not all(isinstance(peer, dict) for peer in peers):
        raise ConfigError(f"{variable} must be a list of objects in JSON, each a peer of a NetworkPolicy")
    return tuple(peers)


def _port(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) <= 65535):
        raise ConfigError(f"{variable} is no port: write a number from 1 to 65535, not {text!r}")
    return int(text)


def _election() -> tuple[str, str] | None:
    namespace, identity = (os.environ.get(f"MCPACE_{name}", "") for name in ("LEASE_NAMESPACE", "IDENTITY"))
    if bool(namespace) != bool(identity):
        raise ConfigError("MCPACE_LEASE_NAMESPACE and MCPACE_IDENTITY go together: set both, or neither")
    return (namespace, identity) if namespace else None


def _json(variable: str, default: Any) -> Any:
    text = os.environ.get(variable)
    if not text:
        return default
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{variable} is no JSON: {error}") from None
    if not isinstance(value, type(default)):
        kind = "a list" if isinstance(default, list) else "an object"
        raise ConfigError(f"{variable} must be {kind} in JSON, such as {json.dumps(default)}")
    return value
