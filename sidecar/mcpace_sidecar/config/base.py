"""What every part of the schema is made of: the base model, names, rules in CEL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
"""A name of ours (a tier, a door): a DNS label."""

McpName = Annotated[str, Field(min_length=1, max_length=128)]
"""A tool's or prompt's name, as the server lists it."""

UrlPath = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^/[A-Za-z0-9._~/-]*$")]
"""An absolute path, without query, fragment or escapes."""

HeaderName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
HeaderValue = Annotated[str, Field(min_length=1, max_length=256)]

BY_NAME: Final[dict[str, Any]] = {
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
}
"""A list that Kubernetes merges by its items' names."""


def rule(cel: str, message: str) -> JsonValue:
    """One CEL rule of the CRD; the model's own validator raises the same words."""
    return {"rule": cel, "message": message}


class Model(BaseModel):
    """Base of every part of a manifest: frozen, camelCase outside, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True)


class SecretRef(Model):
    """A Secret in the server's namespace."""

    name: str = Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")


def unique(what: str, names: Iterable[str]) -> None:
    """Raise ValueError where a name stands twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what}: the name '{name}' stands twice; write each name once")
        seen.add(name)
