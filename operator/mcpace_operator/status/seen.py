"""All that is known of a server when its status is said. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from mcpace_operator.children.context import Context
from mcpace_operator.comparison.additions import Addition
from mcpace_operator.comparison.drift import ChildId
from mcpace_operator.resource.workload import Deployment, Scaling
from mcpace_operator.status.checklist import Verdict, cached_tools, judge
from mcpace_operator.status.live import Live
from mcpace_operator.status.performance import moved
from mcpace_operator.status.reasons import Reason
from mcpace_sidecar.contract.report import ServerInfo

_MOST_TOOLS: Final = 500
_LONGEST_WORD: Final = 128


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


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a sidecar told of its server."""

    info: Mapping[str, str]
    tools: tuple[str, ...]

    @classmethod
    def told(cls, server: ServerInfo, tools: Sequence[str]) -> ServerFacts:
        """As the status keeps them: bounded, because a server may say what it likes."""
        info = {
            "name": server.name[:_LONGEST_WORD],
            "version": server.version[:_LONGEST_WORD],
            "protocolVersion": server.protocol_version[:_LONGEST_WORD],
        }
        return cls(info, tuple(dict.fromkeys(name[:_LONGEST_WORD] for name in tools[:_MOST_TOOLS])))


@dataclass(frozen=True, slots=True)
class Told:
    """What a server's pods told; nothing at first."""

    facts: ServerFacts | None = None
    live: Live | None = None
    trouble: Trouble | None = None
    waits: str = ""
    """What a replica that is starting waits for."""

    def is_news(self, before: Told, context: Context) -> bool:
        """Whether this is worth telling: something else, or a number that moved by a fifth."""
        if (self.facts, self.trouble, self.waits) != (before.facts, before.trouble, before.waits):
            return True
        if self.live is None or before.live is None:
            return self.live is not before.live
        cached = cached_tools(context.spec)
        then, now = (told.performance.document(cached) for told in (before.live, self.live))
        if moved(then, now) or self.live.conditions != before.live.conditions:
            return True
        both = (judge(context.spec, live, ready=1, limits_up=True) for live in (before.live, self.live))
        first, second = ([verdict.result for verdict in verdicts.values()] for verdicts in both)
        return first != second


def wanted_replicas(context: Context, deployment: Deployment) -> int:
    """How many replicas there shall be: the manifest's number, or whatever others wrote."""
    replicas = context.spec.replicas
    return replicas if replicas is not None else deployment.wanted


def is_complete(context: Context, deployment: Deployment) -> bool:
    """Whether every replica is up to date and answers."""
    return deployment.is_complete(wanted_replicas(context, deployment))


@dataclass(frozen=True, slots=True)
class Seen:
    """One server, its children, its pods and the stores."""

    context: Context
    deployment: Deployment
    limits: StoreState
    cache: StoreState
    told: Told = Told()
    """What its pods told."""
    stopped: Trouble | None = None
    """What stopped the last reconcile."""
    contested: Mapping[ChildId, str] = field(default_factory=dict)
    """What somebody else keeps changing, and who that is."""
    altered: Mapping[ChildId, Sequence[Addition]] = field(default_factory=dict)
    """What others added to."""
    autoscaler: Scaling | None = None
    """What the autoscaler says of whether it scales."""

    @property
    def wanted(self) -> int:
        """Replicas that there shall be."""
        return wanted_replicas(self.context, self.deployment)

    @property
    def most(self) -> int:
        """Replicas that there may be."""
        scaling = self.context.spec.autoscaling
        return scaling.max_replicas if scaling is not None else self.wanted

    @property
    def ready(self) -> int:
        """Replicas that are ready."""
        return self.deployment.status.ready_replicas

    @property
    def complete(self) -> bool:
        """Whether every replica is up to date and answers."""
        return is_complete(self.context, self.deployment)

    @property
    def trouble(self) -> Trouble | None:
        """What a person must mend."""
        if self.stopped is not None or self.complete:
            return self.stopped
        if self.told.trouble is not None:
            return self.told.trouble
        if self.deployment.paused:
            words = f"Paused by hand: kubectl rollout resume deployment/{self.context.name}"
            return Trouble(Reason.PausedByHand, words)
        return None

    @property
    def verdicts(self) -> Mapping[str, Verdict] | None:
        """The checklist's, once it can be judged."""
        if self.told.live is None:
            return None
        return judge(self.context.spec, self.told.live, ready=self.ready, limits_up=self.limits.up)
