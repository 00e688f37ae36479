"""A server's conditions: what holds, why, and what to do. Pure.

Types and reasons stand in `reasons.py`; the message says what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from mcpace_operator.comparison.additions import Addition
from mcpace_operator.comparison.drift import ChildId
from mcpace_operator.resource.server import INSTANCE, Server
from mcpace_operator.resource.workload import Scaling
from mcpace_operator.status.checklist import Result, Verdict
from mcpace_operator.status.live import Live
from mcpace_operator.status.reasons import Reason, Type
from mcpace_operator.status.seen import Seen, StoreState
from mcpace_operator.status.stored import Stored, stored

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


_MOST: Final = 5
"""Of a kind that are named in a message."""
_WITHOUT: Final = {
    "local": "each replica's share, kept in its memory",
    "open": "not enforced",
    "closed": "closed: limited calls are refused",
}


def conditions(seen: Seen) -> list[Condition]:
    """All that is to be said, in the order of the chain."""
    return [condition for judge in CHAIN for condition in judge(seen)]


def _in_sync(seen: Seen) -> Iterator[Condition]:
    if seen.contested:
        yield _contested(seen.contested)
    elif seen.altered:
        yield _altered(seen.altered)


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


def _ready(seen: Seen) -> Iterator[Condition]:
    trouble, wanted = seen.trouble, seen.wanted
    if trouble is not None:
        yield Condition(Type.Ready, holds=False, reason=trouble.reason, message=trouble.message)
    elif seen.complete:
        reason = Reason.AllReplicasReady if wanted else Reason.ScaledToZero
        words = f"{wanted} of {wanted} replicas are ready."
        yield Condition(Type.Ready, holds=True, reason=reason, message=words)
    else:
        words = f"{seen.ready} of {wanted} replicas are ready."
        words += f" Waiting: {seen.told.waits}" if seen.told.waits else ""
        yield Condition(Type.Ready, holds=False, reason=Reason.Progressing, message=words)


def _progressing(seen: Seen) -> Iterator[Condition]:
    trouble, kind = seen.trouble, Type.Progressing
    if seen.complete:
        words = "Nothing is on its way."
        yield Condition(kind, holds=False, reason=Reason.AllReplicasReady, message=words)
    elif trouble is not None:
        yield Condition(kind, holds=False, reason=trouble.reason, message="It does not go on.")
    else:
        words = "Replicas are being started, updated or ended."
        yield Condition(kind, holds=True, reason=Reason.Progressing, message=words)


def _database(seen: Seen) -> Iterator[Condition]:
    database, replicas, most = seen.context.spec.database, seen.wanted, seen.most
    if database is None:
        return
    per_pod = database.max_connections
    words = f"At most {per_pod} connections per pod: {per_pod * replicas} for {replicas} replicas"
    words += f", {per_pod * most} for the {most} that autoscaling allows." if most != replicas else "."
    yield Condition(Type.DatabasePooled, holds=True, reason=Reason.ConnectionsBounded, message=words)


def _files(seen: Seen) -> Iterator[Condition]:
    """A server of stdio that keeps a file reads it, changes it and writes it whole."""
    spec = seen.context.spec
    alone = spec.stdio.processes == "shared" and spec.stdio.most == 1 and seen.most <= 1
    if spec.transport != "stdio" or alone:
        return
    written = [str(mount.get("mountPath")) for mount in spec.volume_mounts if not mount.get("readOnly")]
    if written:
        words = f"Processes overwrite what others have written to a file in {', '.join(written[:_MOST])}."
        words += " A server that keeps a file (server-memory, Excel) needs `stdio: {processes: shared}` and"
        words += " `replicas: 1`; for one that does not, say `readOnly: true` at the mount, or let it be."
        yield Condition(Type.FilesKept, holds=False, reason=Reason.ProcessesShareFiles, message=words)


def _autoscaler(seen: Seen) -> Iterator[Condition]:
    if seen.context.spec.autoscaling is not None and seen.wanted:
        yield _scaling(seen.autoscaler)


def _scaling(told: Scaling | None) -> Condition:
    """What the HorizontalPodAutoscaler's own condition ScalingActive says."""
    kind = Type.AutoscalingActive
    if told is not None and told.active:
        words = "The autoscaler reads its metrics."
        return Condition(kind, holds=True, reason=Reason.MetricsRead, message=words)
    if told is None or told.active is None:
        words = "The autoscaler has not looked yet."
        return Condition(kind, holds=None, reason=Reason.NotJudged, message=words)
    words = f"It scales nothing: {cut(told.message)}. Is metrics-server installed?"
    return Condition(kind, holds=False, reason=Reason.NoMetrics, message=words)


_SPLIT: Final = (
    "Clients of a protocol before 2026-07-28 keep sessions, and the sidecars of these pods, older than the"
    " operator, do not reach each other: every call is answered, but each replica begins a session of its"
    " own, and what the server holds in memory for one is not the same in all."
    " `sidecar: {rollOnUpgrade: true}` gives them new sidecars."
)
_LOST: Final = (
    "Clients of a protocol before 2026-07-28 keep a session in one replica, and its next call can reach"
    " another, which answers 404 Session not found. Run one replica, leave sessions.continuity out, or let"
    " the server be stateless."
)


def _live(seen: Seen) -> Iterator[Condition]:
    """What sidecars tell of a manifest that is valid, and still not what was meant."""
    told = seen.told.live
    if told is None:
        return
    yield _rules(told)
    if told.full:
        words = "Every slot of every replica was taken in the last looks: calls wait, or are turned away."
        words += " Raise concurrency.maxInFlight if the server can do more at once, or add replicas."
        yield Condition(Type.HasRoom, holds=False, reason=Reason.SlotsTaken, message=words)
    else:
        yield Condition(Type.HasRoom, holds=True, reason=Reason.SlotsFree, message="Calls find room.")
    if told.has_sessions and seen.most > 1 and not told.relays:
        keeping = seen.context.spec.sessions.continuity
        yield Condition(
            Type.SessionsKept,
            holds=False,
            reason=Reason.SessionsPerReplica,
            message=_SPLIT if keeping else _LOST,
        )


def _rules(told: Live) -> Condition:
    kind, words = Type.RulesApply, [message for _, message in told.rules]
    words += [f"clients.apiKeys: the Secret {name} is not there" for name in told.missing_secrets]
    if not words:
        every = "Nothing in the manifest is without effect."
        return Condition(kind, holds=True, reason=Reason.EveryRuleApplies, message=every)
    reason = Reason.RulesWithoutEffect if told.rules else Reason.SecretMissing
    if any(name == Reason.NobodyMayCall.name for name, _ in told.rules):
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


def _checklist(seen: Seen) -> Iterator[Condition]:
    verdicts = seen.verdicts
    if verdicts is not None:
        yield _judged(verdicts)


def _judged(verdicts: Mapping[str, Verdict]) -> Condition:
    by = {r: [name for name, verdict in verdicts.items() if verdict.result is r] for r in Result}
    counts = f"{len(by[Result.PASSED])} of {len(verdicts)} passed"
    failed, unknown = by[Result.FAILED], by[Result.UNKNOWN]
    if failed:
        words = f"{counts}; failed: {', '.join(failed)}. See status.checklist for what to write."
        return Condition(Type.ChecklistPassed, holds=False, reason=Reason.ItemsFailed, message=words)
    if unknown:
        words = f"{counts}; too little was seen of: {', '.join(unknown)}."
        return Condition(Type.ChecklistPassed, holds=None, reason=Reason.ItemsUnknown, message=words)
    return Condition(Type.ChecklistPassed, holds=True, reason=Reason.EveryItemPassed, message=f"{counts}.")


def _available(seen: Seen) -> Iterator[Condition]:
    kind = Type.Available
    if seen.deployment.is_available:
        count = seen.deployment.status.available_replicas
        yield Condition(kind, holds=True, reason=Reason.ReplicasAvailable, message=f"{count} answer.")
    elif seen.wanted == 0:
        yield Condition(kind, holds=False, reason=Reason.ScaledToZero, message="replicas is 0.")
    else:
        words = "No replica answers yet."
        yield Condition(kind, holds=False, reason=Reason.NoReplicaAvailable, message=words)


def _limits(seen: Seen) -> Iterator[Condition]:
    rules = seen.context.spec.rate_limits
    if rules is not None:
        yield _store(Type.LimitsEnforced, seen.limits, f"limits are {_WITHOUT[rules.when_redis_is_down]}")


def _cache(seen: Seen) -> Iterator[Condition]:
    if seen.context.spec.cache is not None:
        yield _store(Type.CacheReady, seen.cache, "results are kept in each replica's memory alone")


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


CHAIN: Final[tuple[Callable[[Seen], Iterable[Condition]], ...]] = (
    _ready, _available, _progressing, _limits, _cache, _database, _files, _autoscaler, _live, _in_sync,
    _checklist,
)  # fmt: skip
"""What is judged, in the order in which it stands in the status."""


def elsewhere(server: Server) -> Condition:
    """What another mcpace than the one that looks after a server says of it."""
    words = (
        f"The mcpace {cut(server.manager)} looks after this server, another one leaves it alone. Let them"
    )
    words += " watch other namespaces (watchNamespaces), or say which it shall be:"
    words += f" kubectl annotate mcpserver {server.key.name} {INSTANCE}=NAMESPACE/RELEASE"
    return Condition(Type.Managed, holds=False, reason=Reason.ManagedByAnother, message=words)


def stamped(server: Server, conditions: Sequence[Condition], now: datetime) -> list[Stored]:
    """As they stand in a status: a condition keeps its time while it holds, or does not."""
    before = stored(server.status)
    stamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    result = []
    for condition in conditions:
        holds = {True: "True", False: "False", None: "Unknown"}[condition.holds]
        old = before.get(condition.type.name)
        since = old.last_transition_time if old is not None and old.status == holds else ""
        result.append(
            Stored(
                type=condition.type.name,
                status=holds,
                reason=condition.reason.name,
                message=_within(LONGEST_MESSAGE, condition.message),
                last_transition_time=since or stamp,
                observed_generation=server.generation,
            )
        )
    return result
