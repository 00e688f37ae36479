"""The conditions that stand in a server's status, read once and typed from there. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class Stored(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A condition as it is written. Source: Kubernetes API, meta/v1, Condition."""

    type: str
    """A `Type` by name, or what another version of the operator wrote."""
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""
    observed_generation: int = 0

    def document(self) -> dict[str, Any]:
        """As the API server takes it."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        return document


def stored(status: Mapping[str, Any]) -> dict[str, Stored]:
    """The conditions of a status, by type; without those that nobody can read."""
    conditions = status.get("conditions")
    found = {}
    for each in conditions if isinstance(conditions, list) else ():
        try:
            condition = msgspec.convert(each, Stored)
        except msgspec.ValidationError:
            continue  # it is written anew
        found[condition.type] = condition
    return found
