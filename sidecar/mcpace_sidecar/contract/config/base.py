"""What every part of the schema is made of: the base model, which keeps its rules, and names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from mcpace_sidecar.contract.rules import Location, Rule

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

    def __init__(self, path: Location, words: str, *, of_name: bool = False) -> None:
        """`of_name`: whether the field's name is wrong, and not what it holds."""
        super().__init__(words)
        self.path = path
        self.of_name = of_name


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
"""A name of a tool, a prompt or an argument, as the server lists it."""

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
"""A list that Kubernetes merges by its items' names, so that each may stand there once."""

AS_SET: Final[dict[str, Any]] = {"x-kubernetes-list-type": "set"}
"""A list in which Kubernetes takes each item once."""


@cache
def rules_of(model: type[Model]) -> tuple[Rule, ...]:
    """The rules of a model: first those that it inherits."""
    parts = reversed(model.__mro__)
    return tuple(each for part in parts for each in vars(part).values() if isinstance(each, Rule))


def _with_rules(schema: dict[str, Any], model: type[Model]) -> None:
    if rules := rules_of(model):
        schema["x-kubernetes-validations"] = [rule.schema for rule in rules]


class Model(BaseModel):
    """Base of every part of a manifest: frozen, camelCase outside, unknown fields refused.

    Its `Rule`s are kept, by the API server too, and so are lists `BY_NAME` and `AS_SET`.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        ignored_types=(Rule,),
        json_schema_extra=_with_rules,
    )

    @model_validator(mode="after")
    def _keeps_its_rules(self) -> Self:
        for name, field in type(self).model_fields.items():
            if field.json_schema_extra == BY_NAME:
                _once(field.alias or name, [item.name for item in getattr(self, name)], "name")
            elif field.json_schema_extra == AS_SET:
                _once(field.alias or name, getattr(self, name))
        for each in rules_of(type(self)):
            found = each.check(self)
            if found is not None:
                raise MisplacedError(found.path, each.message + found.more)
        return self


class SecretRef(Model):
    """A Secret in the server's namespace."""

    name: str = spelled(
        r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        "write a Secret's name: lower-case letters, digits, '-' and '.'",
        min_length=1,
        max_length=253,
        description="A Secret of the server's own namespace.",
    )


def _once(where: str, names: Sequence[str], *within: str) -> None:
    for number, name in enumerate(names):
        if name in names[:number]:
            raise MisplacedError(
                (where, number, *within), f"the name '{name}' stands twice; write each name once"
            )
