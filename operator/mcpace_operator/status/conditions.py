"""A server's conditions: what holds, why, and what to do. Pure.

Types and reasons stand in `reasons.py`; the message says what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from mcpace_operator.children.meta import Context
from mcpace_operator.comparison.additions import Addition
from mcpace_operator.comparison.drift import ChildId
from mcpace_operator.resource.server import INSTANCE, Server
from mcpace_operator.status.checklist import Finding, Live, Result
from mcpace_operator.status.reasons import Reason, Type

SCHEMA: Final = {
    "type": "object",
    "required": ["type", "status"],
    "properties": {
        "type": {"type": "string", "description": "What it says; docs/reference.md lists all."},
        "status": {
            "type": "string",
            "enum": ["True", "False", "Unknown"],
            "description": "Whether it holds.",
        },
        "reason": {"type": "string", "description": "Why, in one word; docs/reference.md lists all."},
        "message": {"type": "string", "description": "Why, and what to do."},
        "lastTransitionTime": {
            "type": "string",
            "format": "date-time",
            "description": "Since when it holds, or does not.",
        },
        "observedGeneration": {
            "type": "integer",
            "format": "int64",
            "description": "Of which manifest it is said.",
        },
    },
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition, before it is compared with what stands in the status."""

    type: Type
    holds: bool | None
    """None is unknown."""
    reason: Reason
    message: str


class Trouble(NamedTuple):
    """What a person must mend before a server can be as its manifest says."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class StoreState:
    """What is known of one shared store. `up` is None where none is configured."""

    up: bool | None
    unusable: str = ""
    """Why it cannot be used though it answers, and what to write."""


_MOST: Final = 5
"""Of a kind that are named in a message."""
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
    live: Live | None,
    autoscaler: Mapping[str, Any],
    waits: str,
) -> list[Condition]:
    """All that is to be said.

    `trouble` is what a person must mend, `contested` what somebody else keeps changing and who
    that is, `altered` what others added to, `findings` the checklist's, once it was judged;
    `live` is what sidecars said, once they were asked, `autoscaler` what the autoscaler says of itself;
    `waits` is what a replica that is starting waits for.
    """
    spec, wanted = context.spec, wanted_replicas(context, deployment)
    if trouble is None and deployment.get("paused") and not is_complete(context, deployment):
        trouble = _paused(context)
    found = [
        _ready(context, deployment, trouble, waits),
        _available(deployment, wanted),
        _progressing(context, deployment, trouble),
    ]
    if spec.rate_limits is not None:
        mode = spec.rate_limits.when_redis_is_down
        found.append(_store(Type.LimitsEnforced, limits, f"limits are {_WITHOUT[mode]}"))
    if spec.cache is not None:
        found.append(_store(Type.CacheReady, cache, "results are kept in each replica's memory alone"))
    most = spec.autoscaling.max_replicas if spec.autoscaling else wanted
    if spec.database is not None:
        found.append(_database(spec.database.max_connections, wanted, most))
    if spec.autoscaling is not None and wanted:
        found.append(_autoscaler(autoscaler))
    if live is not None:
        found += _live(live, most)
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
    return Condition(Type.ChildrenInSync, holds=False, reason=Reason.ChildContested, message=words)


def _altered(altered: Mapping[ChildId, Sequence[Addition]]) -> Condition:
    each = [f"{child_id} has {', '.join(map(str, added[:_MOST]))}" for child_id, added in altered.items()]
    words = f"{'; '.join(each)}: the manifest does not have that. Write it there (podTemplate takes most of"
    words += " what a pod can be), or take it away."
    return Condition(Type.ChildrenInSync, holds=False, reason=Reason.ChildAltered, message=words)


def _paused(context: Context) -> Trouble:
    """What is said while a Deployment that is not complete is paused."""
    words = f"Paused by hand: kubectl rollout resume deployment/{context.name}"
    return Trouble(Reason.PausedByHand, words)


def _ready(
    context: Context, deployment: Mapping[str, Any], trouble: Trouble | None, waits: str
) -> Condition:
    if trouble is not None:
        return Condition(Type.Ready, holds=False, reason=trouble.reason, message=trouble.message)
    wanted = wanted_replicas(context, deployment)
    if is_complete(context, deployment):
        reason = Reason.AllReplicasReady if wanted else Reason.ScaledToZero
        return Condition(
            Type.Ready, holds=True, reason=reason, message=f"{wanted} of {wanted} replicas are ready."
        )
    words = f"{deployment.get('readyReplicas', 0)} of {wanted} replicas are ready."
    words += f" Waiting: {waits}" if waits else ""
    return Condition(Type.Ready, holds=False, reason=Reason.Progressing, message=words)


def _progressing(context: Context, deployment: Mapping[str, Any], trouble: Trouble | None) -> Condition:
    if is_complete(context, deployment):
        words = "Nothing is on its way."
        return Condition(Type.Progressing, holds=False, reason=Reason.AllReplicasReady, message=words)
    if trouble is not None:
        return Condition(Type.Progressing, holds=False, reason=trouble.reason, message="It does not go on.")
    words = "Replicas are being started, updated or ended."
    return Condition(Type.Progressing, holds=True, reason=Reason.Progressing, message=words)


def _database(per_pod: int, replicas: int, most: int) -> Condition:
    words = f"At most {per_pod} connections per pod: {per_pod * replicas} for {replicas} replicas"
    words += f", {per_pod * most} for the {most} that autoscaling allows." if most != replicas else "."
    return Condition(Type.DatabasePooled, holds=True, reason=Reason.ConnectionsBounded, message=words)


def _autoscaler(told: Mapping[str, Any]) -> Condition:
    """What the HorizontalPodAutoscaler's own condition ScalingActive says."""
    kind = Type.AutoscalingActive
    if told.get("status") == "True":
        words = "The autoscaler reads its metrics."
        return Condition(kind, holds=True, reason=Reason.MetricsRead, message=words)
    if told.get("status") != "False":
        words = "The autoscaler has not looked yet."
        return Condition(kind, holds=None, reason=Reason.NotJudged, message=words)
    words = f"It scales nothing: {cut(str(told.get('message', '')))}. Is metrics-server installed?"
    return Condition(kind, holds=False, reason=Reason.NoMetrics, message=words)


def _live(live: Live, most: int) -> Iterator[Condition]:
    """What sidecars tell of a manifest that is valid, and still not what was meant."""
    yield _rules(live)
    if live.full:
        words = "Every slot of every replica was taken in the last looks: calls wait, or are turned away."
        words += " Raise concurrency.maxInFlight if the server can do more at once, or add replicas."
        yield Condition(Type.HasRoom, holds=False, reason=Reason.SlotsTaken, message=words)
    else:
        yield Condition(Type.HasRoom, holds=True, reason=Reason.SlotsFree, message="Calls find room.")
    if live.has_sessions and most > 1:
        words = (
            "Clients of a protocol before 2026-07-28 keep a session in one replica, and its next call can"
        )
        words += (
            " reach another, which answers 404 Session not found. Run one replica, or let the server be"
        )
        words += " stateless."
        yield Condition(Type.SessionsKept, holds=False, reason=Reason.SessionsPerReplica, message=words)


def _rules(live: Live) -> Condition:
    kind, words = Type.RulesApply, [message for _, message in live.rules]
    words += [f"clients.apiKeys: the Secret {name} is not there" for name in live.missing_secrets]
    if not words:
        every = "Nothing in the manifest is without effect."
        return Condition(kind, holds=True, reason=Reason.EveryRuleApplies, message=every)
    reason = Reason.RulesWithoutEffect if live.rules else Reason.SecretMissing
    if any(name == Reason.NobodyMayCall.name for name, _ in live.rules):
        reason = Reason.NobodyMayCall
    more = f"; and {len(words) - _MOST} more" if len(words) > _MOST else ""
    return Condition(kind, holds=False, reason=reason, message=f"{'; '.join(words[:_MOST])}{more}.")


LONGEST: Final = 400
LONGEST_MESSAGE: Final = 4096
"""Characters of a condition's message: an API server may quote back all that it refuses."""


def cut(words: str) -> str:
    """What others say, on one line and not too long."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in words[: 4 * LONGEST]).split())
    return _within(LONGEST, plain)


def _within(longest: int, words: str) -> str:
    return words if len(words) <= longest else f"{words[: longest - 1]}…"


FROM_SIDECARS: Final = (Type.RulesApply, Type.HasRoom, Type.SessionsKept, Type.ChecklistPassed)
"""What is not known until sidecars were asked."""


def _checklist(findings: Mapping[str, Finding]) -> Condition:
    by = {r: [name for name, finding in findings.items() if finding.result is r] for r in Result}
    counts = f"{len(by[Result.PASSED])} of {len(findings)} passed"
    failed, unknown = by[Result.FAILED], by[Result.UNKNOWN]
    if failed:
        words = f"{counts}; failed: {', '.join(failed)}. See status.checklist for what to write."
        return Condition(Type.ChecklistPassed, holds=False, reason=Reason.ItemsFailed, message=words)
    if unknown:
        words = f"{counts}; too little was seen of: {', '.join(unknown)}."
        return Condition(Type.ChecklistPassed, holds=None, reason=Reason.ItemsUnknown, message=words)
    return Condition(Type.ChecklistPassed, holds=True, reason=Reason.EveryItemPassed, message=f"{counts}.")


def _available(deployment: Mapping[str, Any], wanted: int) -> Condition:
    if available(deployment):
        count = deployment.get("availableReplicas", 0)
        return Condition(
            Type.Available, holds=True, reason=Reason.ReplicasAvailable, message=f"{count} answer."
        )
    if wanted == 0:
        return Condition(Type.Available, holds=False, reason=Reason.ScaledToZero, message="replicas is 0.")
    words = "No replica answers yet."
    return Condition(Type.Available, holds=False, reason=Reason.NoReplicaAvailable, message=words)


def _store(kind: Type, state: StoreState, without: str) -> Condition:
    if state.up is None:
        return Condition(
            kind, holds=False, reason=Reason.NoRedis, message=f"No shared Redis is configured: {without}."
        )
    if state.up:
        return Condition(kind, holds=True, reason=Reason.RedisAnswers, message="The shared Redis answers.")
    if state.unusable:
        words = f"Redis cannot be used, so {without}: {state.unusable}."
        return Condition(kind, holds=False, reason=Reason.RedisUnusable, message=words)
    words = f"Redis does not answer: {without}."
    return Condition(kind, holds=False, reason=Reason.RedisDown, message=words)


def elsewhere(server: Server) -> Condition:
    """What another mcpace than the one that looks after a server says of it."""
    words = (
        f"The mcpace {cut(server.manager)} looks after this server, another one leaves it alone. Let them"
    )
    words += " watch other namespaces (watchNamespaces), or say which it shall be:"
    words += f" kubectl annotate mcpserver {server.key.name} {INSTANCE}=NAMESPACE/RELEASE"
    return Condition(Type.Managed, holds=False, reason=Reason.ManagedByAnother, message=words)


def stamped(server: Server, conditions: Sequence[Condition], now: datetime) -> list[dict[str, Any]]:
    """As they stand in a status: a condition keeps its time while it holds, or does not."""
    before = by_type(server.status)
    stamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    result = []
    for condition in conditions:
        holds = {True: "True", False: "False", None: "Unknown"}[condition.holds]
        old = before.get(condition.type.name) or {}
        same = old.get("status") == holds
        result.append(
            {
                "type": condition.type.name,
                "status": holds,
                "reason": condition.reason.name,
                "message": _within(LONGEST_MESSAGE, condition.message),
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
