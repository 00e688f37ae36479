"""What a server's status says: conditions, address, replicas, and what the server told of itself. Pure.

Reasons are constants that the documentation lists; the message says what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from mcpace_operator.checklist import Finding, Live, Result, cached_tools, judge
from mcpace_operator.children import service
from mcpace_operator.children.meta import SERVER_LABEL, Context
from mcpace_operator.performance import PERCENTILES, moved
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
    "ImageNotPulled": "A container's image is not to be had.",
    "ContainerNotStarted": "A container cannot start: a Secret is missing, or its command.",
    "Crashes": "A container ends again and again; the message holds its last words.",
    "OutOfMemory": "A container was killed for its memory.",
    "Unschedulable": "No node takes the pod.",
    "PodsNotCreated": "Pods are refused: a quota, or a policy of the cluster.",
    "ServerDoesNotAnswer": "The server runs, but answers no MCP where the manifest says.",
    "RedisAnswers": "The shared store answers.",
    "RedisDown": "The shared store does not answer.",
    "NoRedis": "The operator was given no URL of a shared store: each replica is on its own.",
    "ConnectionsBounded": "PgBouncer bounds the database's connections; the message says by how many.",
    "EveryItemPassed": "Every item of the performance checklist passed.",
    "ItemsFailed": "Items of the performance checklist failed; status.checklist says what to write.",
    "ItemsUnknown": "Of some items of the performance checklist too little was seen.",
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
        "performance": {
            "type": "object",
            "description": "Five minutes over all replicas, told again when a number moves by a fifth.",
            "properties": {
                name: {"type": "string"}
                for name in (
                    *PERCENTILES,
                    "callsPerSecond",
                    "errorRate",
                    "hitRatio",
                    "limitedRatio",
                )
            },
        },
        "checklist": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "result"],
                "properties": {
                    "name": {"type": "string"},
                    "result": {"type": "string", "enum": [result.value for result in Result]},
                    "evidence": {"type": "string"},
                    "mend": {"type": "string", "description": "What to write in the manifest."},
                },
            },
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    },
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition, before it is compared with what stands in the status."""

    type: str
    holds: bool | None
    """None is unknown."""
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


@dataclass(frozen=True, slots=True)
class Told:
    """What a server's pods told; nothing at first."""

    facts: ServerFacts | None = None
    live: Live | None = None
    trouble: Trouble | None = None

    def is_news(self, before: Told, context: Context) -> bool:
        """Whether this is worth telling: something else, or a number that moved by a fifth."""
        if (self.facts, self.trouble) != (before.facts, before.trouble):
            return True
        if self.live is None or before.live is None:
            return self.live is not before.live
        cached = cached_tools(context)
        then, now = (told.performance.document(cached) for told in (before.live, self.live))
        if moved(then, now):
            return True
        verdicts = (judge(context, live, ready=1, limits_up=True) for live in (before.live, self.live))
        first, second = ([finding.result for finding in verdict.values()] for verdict in verdicts)
        return first != second


def invalid(server: Server, words: str, now: datetime) -> dict[str, Any]:
    """The status of a server whose spec cannot be used: what runs goes on as it is."""
    kept = {name: value for name, value in server.status.items() if name != "conditions"}
    others = [c for c in _before(server).values() if c.get("type") != "Ready"]
    ready = Condition("Ready", holds=False, reason="InvalidSpec", message=words)
    return kept | {
        "observedGeneration": server.generation,
        "conditions": [*others, *_conditions(server, [ready], now)],
    }


def status(
    context: Context,
    deployment: Mapping[str, Any],
    told: Told,
    limits: StoreState,
    cache: StoreState,
    trouble: Trouble | None,
    now: datetime,
) -> dict[str, Any]:
    """The status of a server.

    `deployment` is its generation, replicas and status, empty if there is none yet; `trouble`
    what stopped the last reconcile.
    """
    server, spec = context.server, context.spec
    wanted = wanted_replicas(context, deployment)
    ready = deployment.get("readyReplicas", 0)
    trouble = trouble or (None if is_complete(context, deployment) else told.trouble)
    conditions = [
        _ready(context, deployment, trouble),
        _available(deployment, wanted),
        _progressing(context, deployment, trouble),
    ]
    if spec.rate_limits is not None:
        mode = spec.rate_limits.when_redis_is_down
        conditions.append(_store("LimitsEnforced", limits, f"limits are {_WITHOUT[mode]}"))
    if spec.cache is not None:
        conditions.append(_store("CacheReady", cache, "results are kept in each replica's memory alone"))
    if spec.database is not None:
        most = spec.autoscaling.max_replicas if spec.autoscaling else wanted
        conditions.append(_database(spec.database.max_connections, wanted, most))
    document: dict[str, Any] = {
        "observedGeneration": server.generation,
        "url": service.url(context),
        "replicas": deployment.get("replicas", 0),
        "readyReplicas": ready,
        "replicasReady": f"{ready}/{wanted}",
        "selector": f"{SERVER_LABEL}={context.name}",
    }
    if told.facts is not None:
        document["serverInfo"] = dict(told.facts.info)
        document["tools"] = list(told.facts.tools)
    if told.live is not None:
        findings = judge(context, told.live, ready=ready, limits_up=limits.up)
        document["performance"] = told.live.performance.document(cached_tools(context))
        document["checklist"] = [_item(name, finding) for name, finding in findings.items()]
        conditions.append(_checklist(findings))
    for name in KEPT:  # what was known before this operator started
        if name not in document and name in server.status:
            document[name] = server.status[name]
    document["conditions"] = _conditions(server, conditions, now)
    if told.live is None and "ChecklistPassed" in _before(server):
        document["conditions"].append(_before(server)["ChecklistPassed"])
    return document


KEPT: Final = ("serverInfo", "tools", "performance", "checklist")

_WITHOUT: Final = {
    "local": "each replica's share, kept in its memory",
    "open": "not enforced",
    "closed": "closed: limited calls are refused",
}


def available(deployment: Mapping[str, Any]) -> bool:
    """Whether at least one replica answers."""
    return bool(deployment.get("availableReplicas", 0) > 0)


def wanted_replicas(context: Context, deployment: Mapping[str, Any]) -> int:
    """How many replicas there shall be: the manifest's number, or whatever others wrote."""
    replicas = context.spec.replicas
    return int(replicas if replicas is not None else deployment.get("wanted", 1))


def is_complete(context: Context, deployment: Mapping[str, Any]) -> bool:
    """Whether every replica is up to date and answers."""
    wanted = wanted_replicas(context, deployment)
    current = deployment.get("observedGeneration", 0) >= deployment.get("generation", 1)
    counts = [deployment.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
    return current and counts == [wanted] * 3


def _ready(context: Context, deployment: Mapping[str, Any], trouble: Trouble | None) -> Condition:
    if trouble is not None:
        return Condition("Ready", holds=False, reason=trouble.reason, message=trouble.message)
    wanted = wanted_replicas(context, deployment)
    if is_complete(context, deployment):
        reason = "AllReplicasReady" if wanted else "ScaledToZero"
        return Condition(
            "Ready", holds=True, reason=reason, message=f"{wanted} of {wanted} replicas are ready."
        )
    words = f"{deployment.get('readyReplicas', 0)} of {wanted} replicas are ready."
    return Condition("Ready", holds=False, reason="Progressing", message=words)


def _progressing(context: Context, deployment: Mapping[str, Any], trouble: Trouble | None) -> Condition:
    if is_complete(context, deployment):
        words = "Nothing is on its way."
        return Condition("Progressing", holds=False, reason="AllReplicasReady", message=words)
    if trouble is not None:
        return Condition("Progressing", holds=False, reason=trouble.reason, message="It does not go on.")
    words = "Replicas are being started, updated or ended."
    return Condition("Progressing", holds=True, reason="Progressing", message=words)


def _database(per_pod: int, replicas: int, most: int) -> Condition:
    words = f"At most {per_pod} connections per pod: {per_pod * replicas} for {replicas} replicas"
    words += f", {per_pod * most} for the {most} that autoscaling allows." if most != replicas else "."
    return Condition("DatabasePooled", holds=True, reason="ConnectionsBounded", message=words)


def _checklist(findings: Mapping[str, Finding]) -> Condition:
    by = {r: [name for name, finding in findings.items() if finding.result is r] for r in Result}
    counts = f"{len(by[Result.PASSED])} of {len(findings)} passed"
    failed, unknown = by[Result.FAILED], by[Result.UNKNOWN]
    if failed:
        words = f"{counts}; failed: {', '.join(failed)}. See status.checklist for what to write."
        return Condition("ChecklistPassed", holds=False, reason="ItemsFailed", message=words)
    if unknown:
        words = f"{counts}; too little was seen of: {', '.join(unknown)}."
        return Condition("ChecklistPassed", holds=None, reason="ItemsUnknown", message=words)
    return Condition("ChecklistPassed", holds=True, reason="EveryItemPassed", message=f"{counts}.")


def _item(name: str, finding: Finding) -> dict[str, str]:
    item = {"name": name, "result": finding.result.value, "evidence": finding.evidence}
    return item | ({"mend": finding.mend} if finding.mend else {})


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
    before = _before(server)
    stamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    result = []
    for condition in conditions:
        holds = {True: "True", False: "False", None: "Unknown"}[condition.holds]
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


def _before(server: Server) -> dict[str, dict[str, Any]]:
    """The conditions that stand, by type; nothing where an older version wrote what nobody can read."""
    conditions = server.status.get("conditions")
    if not isinstance(conditions, list):
        return {}
    return {str(c.get("type")): dict(c) for c in conditions if isinstance(c, Mapping)}
