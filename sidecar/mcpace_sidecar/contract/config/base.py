"""What every part of the schema is made of: the base model, names, rules in CEL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

PATTERNS: Final[dict[str, str]] = {}
"""Every pattern of the schema -> what to write instead of a text that does not match it."""


def spelled(pattern: str, words: str, **more: Any) -> Any:
    """A field whose text must match a pattern; `words` say what to write. `more` is Field's."""
    PATTERNS[pattern] = words
    return Field(pattern=pattern, **more)


Text = Annotated[str, Field(max_length=4096)]
"""Any text; as long as the CRD lets one be that says nothing else."""


class MisplacedError(ValueError):
    """What is wrong with a part inside the one that is validated. `path` leads there."""

    def __init__(self, path: tuple[int | str, ...], words: str) -> None:
        super().__init__(words)
        self.path = path


Name = Annotated[
    str,
    spelled(
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "write lower-case letters, digits and '-', such as team-a",
        min_length=1,
        max_length=63,
    ),
]
"""A name of ours (a tier, a door): a DNS label."""

McpName = Annotated[str, Field(min_length=1, max_length=128)]
"""A tool's or prompt's name, as the server lists it."""

HealthPath = Annotated[
    str,
    spelled(
        r"^(/[A-Za-z0-9._~/-]*)?$",
        "write a path that begins with '/', such as /healthz, or \"\" for none",
        max_length=256,
    ),
]
"""A path, or nothing."""

UrlPath = Annotated[
    str,
    spelled(
        r"^/[A-Za-z0-9._~/-]*$",
        "write a path that begins with '/', such as /mcp: letters, digits and . _ ~ / -",
        min_length=1,
        max_length=256,
    ),
]
"""An absolute path, without query, fragment or escapes."""

URL_WORDS: Final = "write an http or https URL without a query, such as https://api.example.com"
URL_PATTERN: Final = r"^https?://[A-Za-z0-9.\[\]:-]+(/[A-Za-z0-9._~/-]*)?$"

HeaderName = Annotated[
    str,
    spelled(
        r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$",
        "write a header's name, such as X-User",
        min_length=1,
        max_length=64,
    ),
]

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

    name: str = spelled(
        r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        "write a Secret's name: lower-case letters, digits, '-' and '.'",
        min_length=1,
        max_length=253,
        description="A Secret of the server's own namespace.",
    )


def unique(where: str, names: Iterable[str | int], key: str = "name") -> None:
    """Raise MisplacedError where a name, or another key, stands twice in the list at `where`."""
    seen: set[str | int] = set()
    for number, name in enumerate(names):
        if name in seen:
            words = f"the {key} '{name}' stands twice; write each {key} once"
            raise MisplacedError((where, number, key), words)
        seen.add(name)
