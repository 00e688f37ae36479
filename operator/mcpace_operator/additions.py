"""What others added to a child: fields that neither we nor the manifest have. Pure.

Told by the child's managedFields. What we wrote is put back when somebody changes it; an addition stays,
because it may be meant well, and is said. Only one that can lead calls past the sidecar, or into it, is
taken away.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

MANAGER: Final = "mcpace"
"""Our field manager; all others of ours begin with it."""

_KINDS: Final = ("Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy")
_POD: Final = ("f:template", "f:spec")
_OTHERS: Final = (("f:replicas",), ("f:template", "f:metadata"))
"""What others may write: whoever scales, and `kubectl rollout restart`."""
_DEFAULTS: Final = frozenset(
    f"f:{name}"
    for name in (
        "imagePullPolicy",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "protocol",
        "scheme",
        "defaultMode",
        "apiVersion",
        "successThreshold",
        "failureThreshold",
        "periodSeconds",
        "timeoutSeconds",
    )
)
"""What the API server fills in for whoever adds an item, who owns it from then on."""
_HOST: Final = ("f:hostNetwork", "f:hostPID", "f:shareProcessNamespace")
_SIDECAR: Final = "mcpace"
_PORT_NAMES: Final = ("mcp", "admin", "server")
_LISTS: Final = ("f:containers", "f:initContainers")
_SERVICE: Final = ("f:selector", "f:ports", "f:externalName")


class Addition(NamedTuple):
    """One field or list item that somebody added."""

    path: tuple[str, ...]
    """Below `spec`, as in managedFields: `f:NAME`, or `k:{…}` for the item of a list."""
    by: str
    undoes: bool
    """Whether it can lead calls past the sidecar, or change the sidecar itself."""

    def __str__(self) -> str:
        steps = []
        for step in self.path:
            kind, _, name = step.partition(":")
            steps.append(f"[{', '.join(map(str, _keys(step).values()))}]" if kind == "k" else f".{name}")
        return f"spec{''.join(steps)} (by {self.by})"


def additions(kind: str, body: Mapping[str, Any]) -> tuple[Addition, ...]:
    """All that others added to this object, in order."""
    if kind not in _KINDS:
        return ()
    entries = body["metadata"].get("managedFields") or []
    ours: dict[str, Any] = {}
    theirs: list[tuple[str, Mapping[str, Any]]] = []
    for entry in entries:
        fields = (entry.get("fieldsV1") or {}).get("f:spec") or {}
        manager = str(entry.get("manager", ""))
        if manager.startswith(MANAGER):
            _merge(ours, fields)
        elif entry.get("subresource") != "status":
            theirs.append((manager, fields))
    found = {}
    for manager, fields in theirs:
        for path in _beyond(fields, ours):
            others = path[-1] in _DEFAULTS or any(path[: len(each)] == each for each in _OTHERS)
            if not others and _is_there(body, path):
                found[path] = Addition(path, manager, _undoes(kind, path, body))
    return tuple(found[path] for path in sorted(found))


def without(addition: Addition) -> dict[str, Any]:
    """The strategic merge patch that takes it away."""
    *steps, last = addition.path
    patch: Any = [_keys(last) | {"$patch": "delete"}] if last.startswith("k:") else {last[2:]: None}
    for step in reversed(steps):
        patch = [_keys(step) | patch] if step.startswith("k:") else {step[2:]: patch}
    return {"spec": patch}


def _beyond(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The paths in one set of fields at which the other has nothing."""
    for step, below in theirs.items():
        if step[:2] not in ("f:", "k:"):
            continue
        if step not in ours:
            yield (step,)
        elif below and ours[step]:
            yield from ((step, *path) for path in _beyond(below, ours[step]))


def _undoes(kind: str, path: tuple[str, ...], body: Mapping[str, Any]) -> bool:
    if kind == "Service":
        return path[0] in _SERVICE or (path[0] == "f:type" and body["spec"].get("type") == "ExternalName")
    if kind == "NetworkPolicy":
        return path[0] == "f:podSelector"
    if kind != "Deployment" or path[:2] != _POD:
        return False
    field, *rest = path[2:]
    if field in _HOST:
        return True
    if field not in _LISTS or not rest:
        return False
    name = _keys(rest[0]).get("name")
    return name == _SIDECAR or ((len(rest) == 1 or rest[1] == "f:ports") and _takes_a_port(name, body))


def _takes_a_port(name: Any, body: Mapping[str, Any]) -> bool:
    """Whether a container claims a port, or a port's name, that another has."""
    pod = body["spec"]["template"]["spec"]
    taken: set[Any] = set()
    own: list[Any] = []
    for container in (*(pod.get("initContainers") or []), *(pod.get("containers") or [])):
        for port in container.get("ports") or []:
            words = [
                port.get("containerPort"),
                *([port["name"]] if port.get("name") in _PORT_NAMES else []),
            ]
            if container.get("name") == name:
                own += words
            else:
                taken.update(words)
    return len(set(own)) < len(own) or not taken.isdisjoint(own)


def _is_there(body: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    """Whether the object has it: an owner of a field may have set it to nothing."""
    place: Any = body.get("spec")
    for step in path:
        if step.startswith("k:"):
            keys = _keys(step)
            items = place if isinstance(place, list) else []
            place = next((item for item in items if all(item.get(k) == v for k, v in keys.items())), None)
        else:
            place = place.get(step[2:]) if isinstance(place, Mapping) else None
        if place in (None, False, {}, []):
            return False
    return True


def _keys(step: str) -> dict[str, Any]:
    return dict(json.loads(step[2:]))


def _merge(into: dict[str, Any], fields: Mapping[str, Any]) -> None:
    for step, below in fields.items():
        _merge(into.setdefault(step, {}), below)
