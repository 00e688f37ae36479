"""A server's conditions: what holds, why, and what to do. Pure.

Reasons are constants that the documentation lists; the message says what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from mcpace_operator.additions import Addition
from mcpace_operator.checklist import Finding, Result
from mcpace_operator.children.meta import Context
from mcpace_operator.drift import ChildId
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
    "RedisUnusable": "The shared store answers, but cannot be used; the message says why.",
    "NoRedis": "The operator was given no URL of a shared store: each replica is on its own.",
    "ConnectionsBounded": "PgBouncer bounds the database's connections; the message says by how many.",
    "PausedByHand": "Somebody has paused the Deployment, so it does not go on.",
    "ChildAltered": "Somebody has added to a child what the manifest does not have; it is left there.",
    "ChildContested": "Somebody else keeps changing a child; it is put back once a minute.",
    "EveryItemPassed": "Every item of the performance checklist passed.",
    "ItemsFailed": "Items of the performance checklist failed; status.checklist says what to write.",
    "ItemsUnknown": "Of some items of the performance checklist too little was seen.",
}
"""Reason -> what it means."""

SCHEMA: Final = {
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
    unusable: str = ""
    """Why it cannot be used though it answers, and what to write."""


_MOST: Final = 5
"""Additions of one child that are named."""
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


def conditions(
    context: Context,
    deployment: Mapping[str, Any],
    limits: StoreState,
    cache: StoreState,
    trouble: Trouble | None,
    contested: Mapping[ChildId, str],
    altered: Mapping[ChildId, Sequence[Addition]],
    findings: Mapping[str, Finding] | None,
) -> list[Condition]:
    """All that is to be said.

    `trouble` is what a person must mend, `contested` what somebody else keeps changing and who
    that is, `altered` what others added to, `findings` the checklist's, once it was judged.
    """
    spec, wanted = context.spec, wanted_replicas(context, deployment)
    if trouble is None and deployment.get("paused") and not is_complete(context, deployment):
        trouble = _paused(context)
    found = [
        _ready(context, deployment, trouble),
        _available(deployment, wanted),
        _progressing(context, deployment, trouble),
    ]
    if spec.rate_limits is not None:
        mode = spec.rate_limits.when_redis_is_down
        found.append(_store("LimitsEnforced", limits, f"limits are {_WITHOUT[mode]}"))
    if spec.cache is not None:
        found.append(_store("CacheReady", cache, "results are kept in each replica's memory alone"))
    if spec.database is not None:
        most = spec.autoscaling.max_replicas if spec.autoscaling else wanted
        found.append(_database(spec.database.max_connections, wanted, most))
    if contested:
        found.append(_contested(contested))
    elif altered:
        found.append(_altered(altered))
    if findings is not None:
        found.append(_checklist(findings))
    return found


def _contested(contested: Mapping[ChildId, str]) -> Condition:
    each = [f"{child_id} (by {by})" if by else str(child_id) for child_id, by in contested.items()]
    words = f"Somebody else keeps changing {', '.join(each)}. End that, or write it in the McpServer:"
    words += " podTemplate takes most of what a pod can be."
    return Condition("ChildrenInSync", holds=False, reason="ChildContested", message=words)


def _altered(altered: Mapping[ChildId, Sequence[Addition]]) -> Condition:
    each = [f"{child_id} has {', '.join(map(str, added[:_MOST]))}" for child_id, added in altered.items()]
    words = f"{'; '.join(each)}: the manifest does not have that. Write it there (podTemplate takes most of"
    words += " what a pod can be), or take it away."
    return Condition("ChildrenInSync", holds=False, reason="ChildAltered", message=words)


def _paused(context: Context) -> Trouble:
    """What is said while a Deployment that is not complete is paused."""
    words = f"Paused by hand: kubectl rollout resume deployment/{context.name}"
    return Trouble("PausedByHand", words)


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
    if state.unusable:
        words = f"Redis cannot be used, so {without}: {state.unusable}."
        return Condition(kind, holds=False, reason="RedisUnusable", message=words)
    return Condition(kind, holds=False, reason="RedisDown", message=f"Redis does not answer: {without}.")


def stamped(server: Server, conditions: Sequence[Condition], now: datetime) -> list[dict[str, Any]]:
    """As they stand in a status: a condition keeps its time while it holds, or does not."""
    before = by_type(server.status)
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


def by_type(status: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The conditions of a status; nothing where an older version wrote what nobody can read."""
    conditions = status.get("conditions")
    if not isinstance(conditions, list):
        return {}
    return {str(c.get("type")): dict(c) for c in conditions if isinstance(c, Mapping)}
