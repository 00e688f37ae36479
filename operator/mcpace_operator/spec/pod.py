"""What is written as in a pod, and the template that is merged over the generated one."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, WithJsonSchema

from mcpace_sidecar.config import Model

_PRESERVED: Final = {"x-kubernetes-preserve-unknown-fields": True}
PodPart = Annotated[dict[str, Any], WithJsonSchema({"type": "object", **_PRESERVED})]
"""An object as in a pod; the API server judges it when the child is applied."""

_QUANTITY: Final = r"^[0-9]+(\.[0-9]+)?(m|k|[KMGTPE]i?|e[0-9]+)?$"


def _amount(value: int | str) -> int | str:
    if isinstance(value, int) and value < 0:
        raise ValueError("must not be negative")
    return value


Quantity = Annotated[
    Annotated[int, Field(strict=True)] | Annotated[str, Field(pattern=_QUANTITY, max_length=32)],
    AfterValidator(_amount),
    WithJsonSchema(
        {"x-kubernetes-int-or-string": True, "pattern": _QUANTITY, "maxLength": 32, "minimum": 0}
    ),
]
"""An amount as Kubernetes writes it: 2, "0.5", 100m, 64Mi."""

Amounts = Annotated[dict[str, Quantity], Field(max_length=32)]


class Resources(Model):
    """Requests and limits, as of a container."""

    requests: Amounts | None = None
    limits: Amounts | None = None


class PodMetadata(Model):
    """Labels and annotations of the pods."""

    labels: dict[str, str] = Field(default={}, max_length=64)
    annotations: dict[str, str] = Field(default={}, max_length=64)


class PodTemplate(Model):
    """What is merged over the generated pod, for all that has no field of its own."""

    metadata: PodMetadata = PodMetadata()
    spec: PodPart = Field(
        default={},
        description="Maps are merged deeply; containers, volumes, env and ports by name, mounts by path;"
        " other lists replace. The sidecar (`mcpace`) can be changed, never removed.",
    )
