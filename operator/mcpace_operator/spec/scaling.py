"""`autoscaling` and `podDisruptionBudget`: how many replicas there are, and how many may go at once."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from mcpace_operator.spec.pod import PodPart
from mcpace_sidecar.config import Model, rule
from mcpace_sidecar.config.base import MisplacedError

CPU_TARGET: Final = 70
"""Percent of the CPU request that is aimed at where no target is given."""

ORDER_WORDS = "autoscaling.maxReplicas must not be below autoscaling.minReplicas"
BUDGET_WORDS = "podDisruptionBudget takes maxUnavailable or minAvailable, not both"

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

    min_replicas: int = Field(default=1, ge=1, le=1000)
    max_replicas: int = Field(ge=1, le=1000)
    target_cpu_utilization: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        alias="targetCPUUtilization",
        description="Percent of the server container's CPU request; 70 where no other target is set."
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
    max_unavailable: IntOrPercent | None = None
    min_available: IntOrPercent | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if self.max_unavailable is not None and self.min_available is not None:
            raise MisplacedError(("minAvailable",), BUDGET_WORDS)
        return self
