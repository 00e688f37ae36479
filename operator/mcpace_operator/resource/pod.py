"""What is written as in a pod, and the template that is merged over the generated one."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, WithJsonSchema

from mcpace_sidecar.contract.config import Model
from mcpace_sidecar.contract.config.base import Text

_PRESERVED: Final = {"x-kubernetes-preserve-unknown-fields": True}
PodPart = Annotated[dict[str, Any], WithJsonSchema({"type": "object", **_PRESERVED})]
"""An object as in a pod; the API server judges it when the child is applied."""

_LONGEST: Final = 32
_QUANTITY: Final = r"^[0-9]+(\.[0-9]+)?(m|k|[KMGTPE]i?|e[0-9]+)?$"


QUANTITY_WORDS: Final = 'write an amount such as 2, "0.5", 100m or 64Mi'


def _amount(value: Any) -> Any:
    text = value if isinstance(value, str) else str(value) if type(value) is int else ""
    if len(text) > _LONGEST or re.fullmatch(_QUANTITY, text) is None:
        raise ValueError(QUANTITY_WORDS)
    return value


Quantity = Annotated[
    int | str,
    BeforeValidator(_amount),
    WithJsonSchema(
        {"x-kubernetes-int-or-string": True, "pattern": _QUANTITY, "maxLength": _LONGEST, "minimum": 0}
    ),
]
"""An amount as Kubernetes writes it: 2, "0.5", 100m, 64Mi."""

Amounts = Annotated[dict[str, Quantity], Field(max_length=32)]


class Resources(Model):
    """Requests and limits, as of a container."""

    requests: Amounts | None = Field(default=None, description="What is reserved, as cpu: 100m.")
    limits: Amounts | None = Field(default=None, description="What is the most, as memory: 256Mi.")


class PodMetadata(Model):
    """Labels and annotations of the pods."""

    labels: dict[str, Text] = Field(default={}, max_length=64, description="Beside those of ours.")
    annotations: dict[str, Text] = Field(default={}, max_length=64, description="Beside those of ours.")


class PodTemplate(Model):
    """What is merged over the generated pod, for all that has no field of its own."""

    metadata: PodMetadata = PodMetadata()
    spec: PodPart = Field(
        default={},
        description="Maps are merged deeply; containers, volumes, env and ports by name, mounts by path;"
        " other lists replace. The sidecar (`mcpace`) can be changed, never removed.",
    )
