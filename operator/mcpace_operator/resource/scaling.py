"""`autoscaling`, `strategy` and `podDisruptionBudget`: how many replicas there are, and may go at once."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from mcpace_operator.resource.pod import PodPart
from mcpace_sidecar.contract.config import Model
from mcpace_sidecar.contract.rules import Broken, broken, rule

CPU_TARGET: Final = 70
"""Percent of the CPU request that is aimed at where no target is given."""

_NONE: Final = ["0", "0%"]
"""No pod, as text."""
_MOST: Final = 1000
"""Pods of a server."""
_PERCENT: Final = r"^(100|[1-9]?[0-9])%$"
PART_WORDS: Final = f"write a number of pods up to {_MOST}, or a part of them such as 50%"


def _part(value: Any) -> Any:
    number = type(value) is int and 0 <= value <= _MOST
    if not number and not (isinstance(value, str) and re.fullmatch(_PERCENT, value)):
        raise ValueError(PART_WORDS)
    return value


IntOrPercent = Annotated[
    int | str,
    BeforeValidator(_part),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "pattern": _PERCENT,
            "maxLength": 4,
            "minimum": 0,
            "maximum": _MOST,
        }
    ),
]
"""A number of pods, or a part of them such as 50%."""


_FEWEST: Final = 1


class Autoscaling(Model):
    """A HorizontalPodAutoscaler that owns the number of replicas; the operator then never writes it."""

    min_replicas: int = Field(default=_FEWEST, ge=1, le=_MOST, description="Never fewer.")
    max_replicas: int = Field(ge=1, le=_MOST, description="Never more.")
    target_cpu_utilization: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        alias="targetCPUUtilization",
        description=f"Percent of the server container's CPU request; {CPU_TARGET} where no other target is"
        " set."
        " Without a request of its own the server gets one of 100m.",
    )
    target_memory_utilization: int | None = Field(
        default=None, ge=1, le=1000, description="Percent of the server container's memory request."
    )
    metrics: tuple[PodPart, ...] = Field(
        default=(), max_length=16, description="Further metrics, as of autoscaling/v2."
    )
    behavior: PodPart | None = Field(default=None, description="As of autoscaling/v2.")

    @rule(
        f"(has(self.minReplicas) ? self.minReplicas : {_FEWEST}) <= self.maxReplicas",
        "autoscaling.maxReplicas must not be below autoscaling.minReplicas",
    )
    def _are_in_order(self) -> Broken | None:
        return broken(self.min_replicas > self.max_replicas, "maxReplicas")

    @property
    def cpu(self) -> int | None:
        """The CPU target, given or by default."""
        if self.target_memory_utilization is None and not self.metrics:
            return self.target_cpu_utilization or CPU_TARGET
        return self.target_cpu_utilization


class Strategy(Model):
    """How pods are replaced when the manifest changes: with a surge and none less, unless set otherwise."""

    type: Literal["RollingUpdate", "Recreate"] = Field(
        default="RollingUpdate",
        description="Recreate ends the old pods before new ones start, as a ReadWriteOnce volume needs it:"
        " calls fail meanwhile.",
    )
    max_surge: IntOrPercent | None = Field(
        default=None,
        description="Pods above the number wanted while they are replaced; 25% where not set."
        " 0 where a quota is used up.",
    )
    max_unavailable: IntOrPercent | None = Field(
        default=None, description="Pods below the number wanted while they are replaced; 0 where not set."
    )

    @rule(
        "!(has(self.type) && self.type == 'Recreate') || !(has(self.maxSurge) || has(self.maxUnavailable))",
        "strategy.type Recreate takes neither maxSurge nor maxUnavailable",
    )
    def _recreates_all_at_once(self) -> Broken | None:
        told = self.max_surge is not None or self.max_unavailable is not None
        return broken(self.type == "Recreate" and told)

    @rule(
        f"!(has(self.maxSurge) && string(self.maxSurge) in {_NONE})"
        f" || (has(self.maxUnavailable) && !(string(self.maxUnavailable) in {_NONE}))",
        "with strategy.maxSurge 0, write maxUnavailable too, such as 1: or else no pod could be replaced",
    )
    def _goes_on(self) -> Broken | None:
        none = self.max_unavailable is None or str(self.max_unavailable) in _NONE
        return broken(str(self.max_surge) in _NONE and none)


class DisruptionBudget(Model):
    """How many replicas a drained node may take at once; one unless said otherwise."""

    enabled: bool = Field(
        default=True, description="False where you bring your own: two would block drains."
    )
    max_unavailable: IntOrPercent | None = Field(
        default=None, description="Replicas that may go at once; 1 where nothing is set."
    )
    min_available: IntOrPercent | None = Field(default=None, description="Replicas that must stay.")

    @rule(
        "!(has(self.maxUnavailable) && has(self.minAvailable))",
        "podDisruptionBudget takes maxUnavailable or minAvailable, not both",
    )
    def _says_one(self) -> Broken | None:
        return broken(self.max_unavailable is not None and self.min_available is not None, "minAvailable")
