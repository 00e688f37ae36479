"""What conditions and Events say, each with its meaning: the reference is made from these."""

from __future__ import annotations

from enum import Enum, unique
from typing import NamedTuple


class Row(NamedTuple):
    """A condition, as the tables here and in the reference have it."""

    holds_when: str
    told: bool = False
    """Whether an Event tells when it does not hold."""
    from_sidecars: bool = False
    """Whether it is not known until sidecars were asked."""


@unique
class Type(Enum):
    """What conditions say. A member's name is what stands in the status."""

    Ready = Row("Every replica is up to date and answers.", told=True)
    Available = Row("At least one replica answers.")
    Progressing = Row("Replicas are being started, updated or ended.")
    LimitsEnforced = Row("Limits are shared by all replicas; with `rateLimits`.")
    CacheReady = Row("Results are shared by all replicas; with `cache`.")
    DatabasePooled = Row("PgBouncer bounds the connections; with `database`.")
    AutoscalingActive = Row("The autoscaler knows how many replicas are needed; with `autoscaling`.")
    RulesApply = Row(
        "Every rule of the manifest does something, and every Secret that it names is there.",
        told=True,
        from_sidecars=True,
    )
    HasRoom = Row("Not every slot of every replica is taken.", from_sidecars=True)
    SessionsKept = Row(
        "Sessions of clients before 2026-07-28 are kept; said where they are not.", from_sidecars=True
    )
    FilesKept = Row("One process alone writes the files that the server keeps; said where more may.")
    ChildrenInSync = Row("The children are as the manifest says; said where they are not.", told=True)
    Managed = Row("This mcpace looks after the server; said by another one, which leaves it alone.")
    ChecklistPassed = Row("Every item of the performance checklist passed.", from_sidecars=True)


@unique
class Reason(Enum):
    """Why a condition is as it is, and what an Event tells of."""

    AllReplicasReady = "Every replica is up to date and has answered the MCP handshake."
    Progressing = "Replicas are being started, updated or ended."
    ReplicasAvailable = "At least one replica answers."
    NoReplicaAvailable = "No replica answers."
    ScaledToZero = "replicas is 0."
    InvalidSpec = "The stored spec cannot be used; the message says what to write."
    ChildConflict = "An object of a child's name exists and belongs to somebody else."
    ApplyFailed = "The API server refused a child; the message is its own."
    ImageNotPulled = "A container's image is not to be had."
    ContainerNotStarted = "A container cannot start: a Secret is missing, or its command."
    Crashes = "A container ends again and again; the message holds its last words."
    OutOfMemory = "A container was killed for its memory."
    Unschedulable = "No node takes the pod."
    PodsNotCreated = "Pods are refused: a quota, or a policy of the cluster."
    SpeaksStdio = "The server ends at once without an error, as servers that speak stdio do."
    ServerDoesNotAnswer = "The server runs, but answers no MCP where the manifest says."
    RedisAnswers = "The shared store answers."
    RedisUnusable = "The shared store answers, but cannot be used; the message says why."
    RedisDown = "The shared store does not answer."
    MetricsRead = "The autoscaler reads the metrics that it scales by."
    NoMetrics = "The autoscaler reads no metrics, so it scales nothing; the message holds its own words."
    NotJudged = "The autoscaler has not looked yet."
    EveryRuleApplies = "Nothing in the manifest is without effect."
    RulesWithoutEffect = (
        "Rules name tools that the server does not list, or do nothing; the message says which."
    )
    SecretMissing = "A Secret with API keys is not there, so its clients are unknown."
    NobodyMayCall = "Anonymous callers are refused, and no credential is known."
    SessionsPerReplica = (
        "Clients before 2026-07-28 keep sessions, of which each replica holds its own part, or one alone."
    )
    ProcessesShareFiles = (
        "Several processes of stdio may write to a volume, and know nothing of each other."
    )
    SlotsFree = "Calls find room."
    SlotsTaken = "Every slot of every replica was taken, look after look."
    NoRedis = "The operator was given no URL of a shared store: each replica is on its own."
    ConnectionsBounded = "PgBouncer bounds the database's connections; the message says by how many."
    PausedByHand = "Somebody has paused the Deployment, so it does not go on."
    ChildAltered = "Somebody has added to a child what the manifest does not have; it is left there."
    ChildContested = "Somebody else keeps changing a child; it is put back once a minute."
    EveryItemPassed = "Every item of the performance checklist passed."
    ItemsFailed = "Items of the performance checklist failed; status.checklist says what to write."
    ItemsUnknown = "Of some items of the performance checklist too little was seen."
    ManagedByAnother = "Another mcpace looks after this server; the message says which, and how to move it."
    PutBack = "Of an Event: a child was changed or deleted by others, and is again as the manifest says."
