"""Whether a child is as it should be, told without asking the API server. Pure.

A child is in sync when it carries the hash of what is desired, and nobody has changed what
we applied since: the fields that we own (our entry in its managedFields) are those that we left,
or, where that is not known, everything desired is there to be seen, and ours.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple

from mcpace_operator.comparison.additions import MANAGER, Addition, additions
from mcpace_operator.resource.models import KIND
from mcpace_operator.resource.server import SERVER_LABEL, Server
from mcpace_operator.resource.workload import WRITTEN, Deployment, Scaling

HASH: Final = "mcpace.dev/hash"
CAUSE: Final = "mcpace.dev/cause"
"""Annotation of a Deployment: the hash of what in the manifest its pods are made from."""
_NOTED: Final = (f"f:{CAUSE}", f"f:{WRITTEN}")
"""Fields that are written between two applies, by another operation than they are."""
_HEAD: Final = ("apiVersion", "kind", "metadata")


class ChildId(NamedTuple):
    """What names a child beside its server's namespace."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class Whose(Enum):
    """Whose an object is that bears a child's name."""

    OURS = "ours"
    ORPHAN = "orphan"
    """Nobody's, with our labels: so `kubectl delete --cascade=orphan` leaves it. To be adopted."""
    FORMER = "former"
    """An earlier server's of this name, until the garbage collector has taken it or let it go."""
    FOREIGN = "foreign"
    """Somebody else's, and not to be touched."""


@dataclass(slots=True)
class Child:
    """What is remembered of a child."""

    uid: str
    owner_uid: str | None
    """Of what controls it, where anything does."""
    version: int
    """Its resourceVersion; comparable within one kind (KEP-5504)."""
    hash: str
    owned: str
    """The hash of the fields we own."""
    cause: str = ""
    server: str = ""
    """The server that its label names."""
    owner: str | None = None
    """What controls it: kind and name. "" where something owns it that does not; None for nobody."""
    added: tuple[Addition, ...] = ()
    deployment: Deployment | None = None
    """What it is, where it is one."""
    owns_replicas: bool = False
    """Whether our own apply of it wrote its replicas, as an older operator's did."""
    scaling: Scaling | None = None
    """What it says of whether it scales, where it is an autoscaler."""
    body: Mapping[str, Any] | None = None
    """The whole, until it was found to be in sync."""

    def whose(self, server: Server) -> Whose:
        """Whose it is, seen from a server that wants a child of its name."""
        if self.owner_uid == server.uid:
            return Whose.OURS
        if self.server != server.key.name:
            return Whose.FOREIGN
        if self.owner is None:
            return Whose.ORPHAN
        return Whose.FORMER if self.owner == f"{KIND} {server.key.name}" else Whose.FOREIGN


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
    references = metadata.get("ownerReferences") or []
    owners = [o for o in references if o.get("controller")]
    annotations = metadata.get("annotations") or {}
    spec = body.get("spec") or {}
    return Child(
        uid=metadata["uid"],
        owner_uid=owners[0]["uid"] if owners else None,
        version=int(metadata["resourceVersion"]),
        hash=annotations.get(HASH, ""),
        owned=_owned(metadata),
        cause=annotations.get(CAUSE, ""),
        server=(metadata.get("labels") or {}).get(SERVER_LABEL, ""),
        owner=f"{owners[0].get('kind')} {owners[0].get('name')}" if owners else "" if references else None,
        added=additions(body.get("kind", ""), body),
        deployment=Deployment.of(body) if "template" in spec else None,
        owns_replicas="f:replicas" in _fields(metadata).get("f:spec", {}),
        scaling=Scaling.of(body) if "scaleTargetRef" in spec else None,
        body=body,
    )


def _owned(metadata: Mapping[str, Any]) -> str:
    fields = _fields(metadata)
    head = fields.get("f:metadata", {})
    if annotations := head.get("f:annotations"):
        kept = {name: value for name, value in annotations.items() if name not in _NOTED}
        fields = {**fields, "f:metadata": {**head, "f:annotations": kept}}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest() if fields else ""


def _fields(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    for entry in metadata.get("managedFields") or []:
        if entry.get("manager") == MANAGER and entry.get("operation") == "Apply":
            return dict(entry.get("fieldsV1") or {})
    return {}


def in_sync(
    child: Child, desired: Mapping[str, Any], left: str | None, *, manifest_known: bool = False
) -> bool:
    """Whether the child needs no apply. `left`: the fields we owned after our last apply.

    A Deployment that an older operator made from the same manifest stays as that one made it:
    an upgrade restarts no pods. One so old that it notes no cause was made from the manifest as it
    is if that one has said so in the status (`manifest_known`).
    """
    if child.hash != fingerprint(desired):
        cause = (desired["metadata"].get("annotations") or {}).get(CAUSE)
        same = cause is not None and (child.cause or (cause if manifest_known else "")) == cause
        return same and bool(child.hash) and left in (None, child.owned)
    if left is not None:
        return child.owned == left
    body = child.body
    return body is not None and covers(desired, body) and _owns(desired, _fields(body["metadata"]))


def _owns(desired: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    """Whether the fields that we own are still all that is desired: a map can be another's as a whole."""
    return all(
        f"f:{name}" in fields
        and (not isinstance(value, Mapping) or not (own := fields[f"f:{name}"]) or _owns(value, own))
        for name, value in desired.items()
        if name not in _HEAD and value not in ({}, [])
    )


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
