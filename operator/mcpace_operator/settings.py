"""What the operator's environment says; the chart sets it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mcpace_operator.masterkey import WORDS, MasterKey
from mcpace_operator.resource.monitoring import Links
from mcpace_sidecar import __version__
from mcpace_sidecar.contract import environment
from mcpace_sidecar.contract.environment import Variable
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
    links: Links = field(default_factory=Links)
    """Where alerts lead to."""
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
                f"{environment.MASTER_KEY} (or {environment.MASTER_KEY}_FILE) is missing: {WORDS}, from"
                " which each server's passwords are derived."
                f" {environment.MASTER_KEY_SECRET}=NAMESPACE/NAME has one made"
            )
        return cls(
            sidecar_image=environment.SIDECAR_IMAGE.read() or DEFAULTS.sidecar_image,
            sidecar_pull_policy=environment.SIDECAR_PULL_POLICY.read() or DEFAULTS.sidecar_pull_policy,
            limits_url=environment.LIMITS_URL.read(),
            cache_url=environment.CACHE_URL.read(),
            redis_authority=environment.REDIS_CA.read(),
            embedded=frozenset(environment.EMBEDDED_STORES.names()),
            master_key=key or MasterKey(),
            key_secret=key_secret if key is None else None,
            health_port=_port(environment.HEALTH_PORT, DEFAULTS.health_port),
            callers=_peers(environment.CALLERS),
            watchers=_peers(environment.WATCHERS),
            monitor_labels=_json(environment.MONITOR_LABELS, {}),
            links=Links(environment.RUNBOOKS_URL.read() or "", environment.GRAFANA_URL.read() or ""),
            fixed_user_ids=environment.FIXED_USER_IDS.read() != "false",
            pull_secrets=environment.PULL_SECRETS.names(),
            election=_election(),
            instance=environment.INSTANCE.read() or DEFAULTS.instance,
            namespaces=environment.NAMESPACES.names(),
        )


DEFAULTS: Final = OperatorSettings()
"""What counts where the environment says nothing."""


def _key_secret() -> tuple[str, str] | None:
    text = environment.MASTER_KEY_SECRET.read() or ""
    namespace, _, name = text.partition("/")
    if text and not (namespace and name):
        raise ConfigError(f"{environment.MASTER_KEY_SECRET} is {text!r}: write NAMESPACE/NAME of a Secret")
    return (namespace, name) if text else None


def _peers(variable: Variable) -> tuple[Mapping[str, Any], ...]:
    peers = _json(variable, [])
    if not all(isinstance(peer, dict) for peer in peers):
        raise ConfigError(f"{variable} must be a list of objects in JSON, each a peer of a NetworkPolicy")
    return tuple(peers)


def _port(variable: Variable, default: int) -> int:
    text = variable.read() or str(default)
    if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) <= 65535):
        raise ConfigError(f"{variable} is no port: write a number from 1 to 65535, not {text!r}")
    return int(text)


def _election() -> tuple[str, str] | None:
    both = environment.LEASE_NAMESPACE, environment.IDENTITY
    namespace, identity = (variable.read() for variable in both)
    if namespace and identity:
        return namespace, identity
    if namespace or identity:
        raise ConfigError(f"{both[0]} and {both[1]} go together: set both, or neither")
    return None


def _json(variable: Variable, default: Any) -> Any:
    text = variable.read()
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
