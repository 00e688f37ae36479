"""Rules of a manifest, each written once: in CEL for the API server, and as a check for everybody else.

The CRD is given the one, the models keep to the other, in the same words; a test compares both on
generated manifests.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_before_validator_function

Location = tuple[int | str, ...]
"""What leads to a part of a document, such as `("tiers", 0, "name")`."""


class Broken(NamedTuple):
    """Where a rule is broken."""

    path: Location = ()
    """From the model that the rule is of; its fields as people write them."""
    more: str = ""
    """What is said behind the rule's message."""


@dataclass(frozen=True)
class Rule:
    """One rule of a model, as an attribute of its class."""

    cel: str
    """True where it is kept. Source: Kubernetes' x-kubernetes-validations."""
    message: str
    """What to write instead."""
    check: Callable[[Any], Broken | None]
    """Takes the model; None where it is kept."""

    @property
    def schema(self) -> dict[str, str]:
        """As it stands in the CRD."""
        return {"rule": self.cel, "message": self.message}


def rule(cel: str, message: str) -> Callable[[Callable[[Any], Broken | None]], Rule]:
    """Make a method of a model, its check, the Rule that holds the CEL of the same meaning."""
    return lambda check: Rule(cel, message, check)


def broken(where: bool, *path: int | str) -> Broken | None:
    """What a check returns that needs no further words."""
    return Broken(path) if where else None


@dataclass(frozen=True)
class Form:
    """How a value is written, as metadata of its type. An API server refuses another in the same words."""

    pattern: str
    """From ^ to $, as Python and RE2 read it alike; CEL quotes it, so without a backslash and '."""
    words: str
    """What to write instead."""
    longest: int
    """Characters."""
    or_number: bool = False
    """Whether it may be a whole number too, which then is looked at as text."""

    def read(self, value: Any) -> re.Match[str]:
        """The parts of a value of this form; ValueError says what to write instead."""
        right = isinstance(value, str) or (self.or_number and type(value) is int)
        match = re.fullmatch(self.pattern, str(value)) if right else None
        if match is None or len(match[0]) > self.longest:
            raise ValueError(self.words)
        return match

    def _check(self, value: Any) -> Any:
        self.read(value)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_before_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, _: CoreSchema, __: GetJsonSchemaHandler) -> dict[str, Any]:
        text = "string(self)" if self.or_number else "self"
        kind = {"x-kubernetes-int-or-string": True} if self.or_number else {"type": "string"}
        rules = [{"rule": f"{text}.matches('{self.pattern}')", "message": self.words}]
        return {**kind, "maxLength": self.longest, "x-kubernetes-validations": rules}
