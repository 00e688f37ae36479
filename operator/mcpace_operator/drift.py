"""Whether a child is as it should be, told without asking the API server. Pure.

A child is in sync when it carries the hash of what is desired, and nobody has changed what
we applied since: either the fields that we own (our entry in its managedFields) are those
that we left, or everything desired is there to be seen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

HASH: Final = "mcpace.dev/hash"
MANAGER: Final = "mcpace"


class ChildId(NamedTuple):
    """What names a child beside its server's namespace."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(slots=True)
class Child:
    """What is remembered of a child."""

    owner_uid: str | None
    version: int
    """Its resourceVersion; comparable within one kind (KEP-5504)."""
    hash: str
    owned: str
    """The hash of the fields we own."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """A Deployment's generation and status."""
    body: Mapping[str, Any] | None = None
    """The whole, until it was found to be in sync."""


def fingerprint(desired: Mapping[str, Any]) -> str:
    """The hash of a desired child."""
    return hashlib.sha256(json.dumps(desired, sort_keys=True).encode()).hexdigest()[:32]


def stamped(desired: Mapping[str, Any]) -> dict[str, Any]:
    """The desired child with its own hash on it."""
    metadata = dict(desired["metadata"])
    metadata["annotations"] = {**metadata.get("annotations", {}), HASH: fingerprint(desired)}
    return {**desired, "metadata": metadata}


def remember(body: Mapping[str, Any]) -> Child:
    """What a live body says."""
    metadata = body["metadata"]
    owners = [o for o in metadata.get("ownerReferences") or [] if o.get("controller")]
    return Child(
        owner_uid=owners[0]["uid"] if owners else None,
        version=int(metadata["resourceVersion"]),
        hash=(metadata.get("annotations") or {}).get(HASH, ""),
        owned=_owned(metadata),
        facts=_facts(body),
        body=body,
    )


def _owned(metadata: Mapping[str, Any]) -> str:
    for entry in metadata.get("managedFields") or []:
        if entry.get("manager") == MANAGER and entry.get("operation") == "Apply":
            return hashlib.sha256(json.dumps(entry.get("fieldsV1"), sort_keys=True).encode()).hexdigest()
    return ""


def _facts(body: Mapping[str, Any]) -> Mapping[str, Any]:
    status = body.get("status")
    if not isinstance(status, Mapping) or "template" not in (body.get("spec") or {}):
        return {}
    return {"generation": body["metadata"].get("generation", 0), **status}


def in_sync(child: Child, desired: Mapping[str, Any], left: str | None) -> bool:
    """Whether the child needs no apply. `left`: the fields we owned after our last apply."""
    if child.hash != fingerprint(desired):
        return False
    if left is not None and child.owned == left:
        return True
    return child.body is not None and covers(desired, child.body)


def covers(desired: Any, live: Any) -> bool:
    """Whether everything desired is in what lives; lists are matched by their items' key."""
    if isinstance(desired, Mapping):
        return isinstance(live, Mapping) and all(
            covers(value, live.get(name)) for name, value in desired.items()
        )
    if isinstance(desired, list | tuple):
        if not isinstance(live, list | tuple):
            return not desired and live is None
        key = _list_key(desired)
        if key is None:
            return len(desired) == len(live) and all(map(covers, desired, live))
        by_key = {item.get(key): item for item in live if isinstance(item, Mapping)}
        return all(covers(item, by_key.get(item[key])) for item in desired)
    return bool(desired == live)


def _list_key(items: list[Any] | tuple[Any, ...]) -> str | None:
    for key in ("name", "containerPort", "port", "uid", "mountPath"):
        if items and all(isinstance(item, Mapping) and key in item for item in items):
            return key
    return None
