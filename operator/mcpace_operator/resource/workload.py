"""What the API server tells of a server's Deployment, autoscaler and pods: read once, and typed from there.

Each holds what the operator looks at, and nothing else. Source: the Kubernetes API, apps/v1, autoscaling/v2
and v1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

T = TypeVar("T")

GIVEN: Final = "mcpace.dev/secret"
"""Annotation of a pod: the hash of what it was given by the Secret, and starts anew for."""
WRITTEN: Final = "mcpace.dev/secret-written"
"""Annotation of a Deployment: the hash of the whole Secret as it was written, which is never read."""
_ENDED: Final = ("Succeeded", "Failed")
"""Phases of pods of which no container runs again."""
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


class _Condition(Struct, frozen=True, rename="camel"):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class DeploymentStatus(Struct, frozen=True, rename="camel"):
    """What its controller says of a Deployment."""

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    conditions: tuple[_Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Deployment:
    """A server's Deployment; as it stands here where there is none yet."""

    generation: int = 1
    wanted: int = 1
    """Its replicas, whoever wrote them."""
    paused: bool = False
    secret: str = ""
    """The hash of the Secret that was written for it."""
    status: DeploymentStatus = field(default_factory=DeploymentStatus)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Deployment:
        """Read a body of the API server's; ValueError for what is none."""
        spec = body["spec"]
        return cls(
            generation=body["metadata"].get("generation", 0),
            wanted=spec.get("replicas", 1),
            paused=bool(spec.get("paused")),
            secret=(body["metadata"].get("annotations") or {}).get(WRITTEN, ""),
            status=_read(body.get("status"), DeploymentStatus),
        )

    @property
    def is_available(self) -> bool:
        """Whether at least one replica answers."""
        return self.status.available_replicas > 0

    def is_complete(self, wanted: int) -> bool:
        """Whether so many replicas are there, up to date, and answer."""
        status = self.status
        counts = (status.replicas, status.updated_replicas, status.available_replicas)
        return status.observed_generation >= self.generation and counts == (wanted,) * 3

    @property
    def failure(self) -> str | None:
        """Why it can make no pods, in the API server's words; None where it can."""
        failed = _condition(self.status.conditions, "ReplicaFailure")
        return failed.message if failed is not None and failed.status == "True" else None


class _AutoscalerStatus(Struct, frozen=True):
    conditions: tuple[_Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Scaling:
    """Whether an autoscaler scales, as it says itself."""

    active: bool | None
    """None where it does not know yet."""
    message: str = ""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Scaling:
        """Read a body of the API server's; ValueError for what is none."""
        said = _condition(_read(body.get("status"), _AutoscalerStatus).conditions, "ScalingActive")
        if said is None:
            return cls(None)
        return cls({"True": True, "False": False}.get(said.status), said.message)


class Waiting(Struct, frozen=True):
    """Why a container does not run yet."""

    reason: str = ""
    message: str = ""


class Running(Struct, frozen=True, rename="camel"):
    """Since when a container runs."""

    started_at: datetime | None = None


class Terminated(Struct, frozen=True, rename="camel"):
    """How a container ended."""

    exit_code: int = 0
    reason: str = ""
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


class State(Struct, frozen=True):
    """One of the three, or none."""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class Container(Struct, frozen=True, rename="camel"):
    """What the kubelet says of one container."""

    name: str
    image: str = ""
    restart_count: int = 0
    state: State = State()
    last_state: State = State()

    @property
    def ended(self) -> Terminated | None:
        """How it ended: just now, or the last time."""
        return self.state.terminated or self.last_state.terminated


class _PodStatus(Struct, frozen=True, rename="camel"):
    phase: str = ""
    conditions: tuple[_Condition, ...] = ()
    container_statuses: tuple[Container, ...] = ()
    init_container_statuses: tuple[Container, ...] = ()
    address: str = msgspec.field(default="", name="podIP")


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod of a server."""

    name: str
    created: datetime
    deleting: bool
    address: str
    """Its IP address; "" until it has one, and once it has ended: others may have that one by then."""
    conditions: tuple[_Condition, ...]
    containers: tuple[Container, ...]
    """Those that start first, first."""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Pod:
        """Read a body of the API server's; ValueError for what is none."""
        metadata, status = body["metadata"], _read(body.get("status"), _PodStatus)
        created = metadata.get("creationTimestamp")
        return cls(
            name=metadata["name"],
            created=datetime.fromisoformat(created) if created else _EPOCH,
            deleting=bool(metadata.get("deletionTimestamp")),
            address=status.address if status.phase not in _ENDED else "",
            conditions=status.conditions,
            containers=status.init_container_statuses + status.container_statuses,
        )

    @property
    def is_ready(self) -> bool:
        """Whether the kubelet says that it is."""
        ready = _condition(self.conditions, "Ready")
        return ready is not None and ready.status == "True"

    @property
    def unschedulable(self) -> str | None:
        """Why no node takes it; None where one may."""
        placed = _condition(self.conditions, "PodScheduled")
        return placed.message if placed is not None and placed.reason == "Unschedulable" else None


def _condition(conditions: tuple[_Condition, ...], kind: str) -> _Condition | None:
    return next((each for each in conditions if each.type == kind), None)


def _read(told: Mapping[str, Any] | None, kind: type[T]) -> T:
    """Go writes an empty list, and a time that is not set, as null."""
    return msgspec.convert({name: value for name, value in (told or {}).items() if value is not None}, kind)
