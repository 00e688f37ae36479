"""`autoscaling`, `strategy` and `podDisruptionBudget`: how many replicas there are, and may go at once."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from mcpace_operator.resource.pod import PodPart
from mcpace_sidecar.contract.config import Model, rule
from mcpace_sidecar.contract.config.base import MisplacedError

CPU_TARGET: Final = 70
"""Percent of the CPU request that is aimed at where no target is given."""

ORDER_WORDS = "autoscaling.maxReplicas must not be below autoscaling.minReplicas"
BUDGET_WORDS = "podDisruptionBudget takes maxUnavailable or minAvailable, not both"

RECREATE_WORDS = "strategy.type Recreate takes neither maxSurge nor maxUnavailable"
STUCK_WORDS = (
    "with strategy.maxSurge 0, write maxUnavailable too, such as 1: or else no pod could be replaced"
)
_NONE: Final = (0, "0%")

_PERCENT: Final = r"^(100|[1-9]?[0-9])%$"
PART_WORDS: Final = "write a number of pods up to 1000, or a part of them such as 50%"


def _part(value: Any) -> Any:
    number = type(value) is int and 0 <= value <= 1000
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
            "maximum": 1000,
        }
    ),
]
"""A number of pods, or a part of them such as 50%."""


class Autoscaling(Model):
    """A HorizontalPodAutoscaler that owns the number of replicas; the operator then never writes it."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule("(has(self.minReplicas) ? self.minReplicas : 1) <= self.maxReplicas", ORDER_WORDS)
            ]
        }
    )

    min_replicas: int = Field(default=1, ge=1, le=1000, description="Never fewer.")
    max_replicas: int = Field(ge=1, le=1000, description="Never more.")
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

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise MisplacedError(("maxReplicas",), ORDER_WORDS)
        return self

    @property
    def cpu(self) -> int | None:
        """The CPU target, given or by default."""
        if self.target_memory_utilization is None and not self.metrics:
            return self.target_cpu_utilization or CPU_TARGET
        return self.target_cpu_utilization


class Strategy(Model):
    """How pods are replaced when the manifest changes: with a surge and none less, unless set otherwise."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!(has(self.type) && self.type == 'Recreate')"
                    " || !(has(self.maxSurge) || has(self.maxUnavailable))",
                    RECREATE_WORDS,
                ),
                rule(
                    "!(has(self.maxSurge) && string(self.maxSurge) in ['0', '0%'])"
                    " || (has(self.maxUnavailable) && !(string(self.maxUnavailable) in ['0', '0%']))",
                    STUCK_WORDS,
                ),
            ]
        }
    )

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

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.type == "Recreate" and (self.max_surge, self.max_unavailable) != (None, None):
            raise ValueError(RECREATE_WORDS)
        if self.max_surge in _NONE and self.max_unavailable in (None, *_NONE):
            raise ValueError(STUCK_WORDS)
        return self


class DisruptionBudget(Model):
    """How many replicas a drained node may take at once; one unless said otherwise."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule("!(has(self.maxUnavailable) && has(self.minAvailable))", BUDGET_WORDS)
            ]
        }
    )

    enabled: bool = Field(
        default=True, description="False where you bring your own: two would block drains."
    )
    max_unavailable: IntOrPercent | None = Field(
        default=None, description="Replicas that may go at once; 1 where nothing is set."
    )
    min_available: IntOrPercent | None = Field(default=None, description="Replicas that must stay.")

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if self.max_unavailable is not None and self.min_available is not None:
            raise MisplacedError(("minAvailable",), BUDGET_WORDS)
        return self
