"""What a server's status says: conditions, address, replicas, and what the server told of itself. Pure.

Reasons are constants that the documentation lists; the message says what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from mcpace_operator.children import service
from mcpace_operator.children.meta import SERVER_LABEL, Context
from mcpace_operator.server import Server

REASONS: Final = {
    "AllReplicasReady": "Every replica is up to date and has answered the MCP handshake.",
    "Progressing": "Replicas are being started, updated or ended.",
    "ReplicasAvailable": "At least one replica answers.",
    "NoReplicaAvailable": "No replica answers.",
    "ScaledToZero": "replicas is 0.",
    "InvalidSpec": "The stored spec cannot be used; the message says what to write.",
    "ChildConflict": "An object of a child's name exists and belongs to somebody else.",
    "ApplyFailed": "The API server refused a child; the message is its own.",
    "RedisAnswers": "The shared store answers.",
    "RedisDown": "The shared store does not answer.",
    "NoRedis": "The operator was given no URL of a shared store: each replica is on its own.",
}
"""Reason -> what it means."""

_CONDITION: Final = {
    "type": "object",
    "required": ["type", "status"],
    "properties": {
        "type": {"type": "string"},
        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "reason": {"type": "string"},
        "message": {"type": "string"},
        "lastTransitionTime": {"type": "string", "format": "date-time"},
        "observedGeneration": {"type": "integer", "format": "int64"},
    },
}

STATUS_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "observedGeneration": {"type": "integer", "format": "int64"},
        "conditions": {
            "type": "array",
            "items": _CONDITION,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
        "url": {"type": "string"},
        "replicas": {"type": "integer"},
        "readyReplicas": {"type": "integer"},
        "replicasReady": {"type": "string"},
        "selector": {"type": "string"},
        "serverInfo": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "version": {"type": "string"},
                "protocolVersion": {"type": "string"},
            },
        },
        "tools": {"type": "array", "items": {"type": "string"}},
    },
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition, before it is compared with what stands in the status."""

    type: str
    holds: bool
    reason: str
    message: str


class Trouble(NamedTuple):
    """What a person must mend before a server can be as its manifest says."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class StoreState:
    """What is known of one shared store. `up` is None where none is configured."""

    up: bool | None
    words: str = ""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a sidecar told of its server."""

    info: Mapping[str, str]
    tools: tuple[str, ...]


def invalid(server: Server, words: str, now: datetime) -> dict[str, Any]:
    """The status of a server whose spec cannot be used: what runs goes on as it is."""
    kept = {name: value for name, value in server.status.items() if name != "conditions"}
    others = [c for c in server.status.get("conditions") or [] if c.get("type") != "Ready"]
    ready = Condition("Ready", holds=False, reason="InvalidSpec", message=words)
    return kept | {
        "observedGeneration": server.generation,
        "conditions": [*others, *_conditions(server, [ready], now)],
    }


def status(
    context: Context,
    deployment: Mapping[str, Any],
    facts: ServerFacts | None,
    limits: StoreState,
    cache: StoreState,
    trouble: Trouble | None,
    now: datetime,
) -> dict[str, Any]:
    """The status of a server.

    `deployment` is its generation and status, empty if there is none yet; `trouble` the reason
    and the words of what stopped the last reconcile.
    """
    server, spec = context.server, context.spec
    wanted = spec.replicas if spec.replicas is not None else deployment.get("wanted", 1)
    ready = deployment.get("readyReplicas", 0)
    conditions = [
        _ready(deployment, wanted, trouble),
        _available(deployment, wanted),
    ]
    if spec.rate_limits is not None:
        mode = spec.rate_limits.when_redis_is_down
        conditions.append(_store("LimitsEnforced", limits, f"limits are {_WITHOUT[mode]}"))
    if spec.cache is not None:
        conditions.append(_store("CacheReady", cache, "results are kept in each replica's memory alone"))
    document: dict[str, Any] = {
        "observedGeneration": server.generation,
        "conditions": _conditions(server, conditions, now),
        "url": service.url(context),
        "replicas": deployment.get("replicas", 0),
        "readyReplicas": ready,
        "replicasReady": f"{ready}/{wanted}",
        "selector": f"{SERVER_LABEL}={context.name}",
    }
    if facts is not None:
        document["serverInfo"] = dict(facts.info)
        document["tools"] = list(facts.tools)
    else:  # what was known before this operator started
        document |= {name: server.status[name] for name in ("serverInfo", "tools") if name in server.status}
    return document


_WITHOUT: Final = {
    "local": "each replica's share, kept in its memory",
    "open": "not enforced",
    "closed": "closed: limited calls are refused",
}


def available(deployment: Mapping[str, Any]) -> bool:
    """Whether at least one replica answers."""
    return bool(deployment.get("availableReplicas", 0) > 0)


def _ready(deployment: Mapping[str, Any], wanted: int, trouble: Trouble | None) -> Condition:
    if trouble is not None:
        return Condition("Ready", holds=False, reason=trouble.reason, message=trouble.message)
    current = deployment.get("observedGeneration", 0) >= deployment.get("generation", 1)
    counts = [deployment.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
    if current and counts == [wanted] * 3:
        reason = "AllReplicasReady" if wanted else "ScaledToZero"
        return Condition(
            "Ready", holds=True, reason=reason, message=f"{wanted} of {wanted} replicas are ready."
        )
    ready = deployment.get("readyReplicas", 0)
    words = f"{ready} of {wanted} replicas are ready; see `kubectl describe pods`."
    return Condition("Ready", holds=False, reason="Progressing", message=words)


def _available(deployment: Mapping[str, Any], wanted: int) -> Condition:
    if available(deployment):
        count = deployment.get("availableReplicas", 0)
        return Condition("Available", holds=True, reason="ReplicasAvailable", message=f"{count} answer.")
    if wanted == 0:
        return Condition("Available", holds=False, reason="ScaledToZero", message="replicas is 0.")
    return Condition(
        "Available", holds=False, reason="NoReplicaAvailable", message="No replica answers yet."
    )


def _store(kind: str, state: StoreState, without: str) -> Condition:
    if state.up is None:
        return Condition(
            kind, holds=False, reason="NoRedis", message=f"No shared Redis is configured: {without}."
        )
    if state.up:
        return Condition(kind, holds=True, reason="RedisAnswers", message="The shared Redis answers.")
    return Condition(kind, holds=False, reason="RedisDown", message=f"Redis does not answer: {without}.")


def _conditions(server: Server, conditions: list[Condition], now: datetime) -> list[dict[str, Any]]:
    before = {c.get("type"): c for c in server.status.get("conditions") or []}
    stamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    result = []
    for condition in conditions:
        holds = "True" if condition.holds else "False"
        old = before.get(condition.type) or {}
        same = old.get("status") == holds
        result.append(
            {
                "type": condition.type,
                "status": holds,
                "reason": condition.reason,
                "message": condition.message,
                "lastTransitionTime": old.get("lastTransitionTime", stamp) if same else stamp,
                "observedGeneration": server.generation,
            }
        )
    return result
