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
"""Our field manager."""
SCALER: Final = f"{MANAGER}-scale"
"""The one under which replicas are written, and nothing else."""
LOOKER: Final = f"{MANAGER}-look"
"""The one that applies nothing, as a dry run."""
ELSEWHERE: Final = f"{MANAGER}-elsewhere"
"""The one of what is said of a server that another mcpace looks after."""
OURS: Final = (MANAGER, SCALER, LOOKER, ELSEWHERE)

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
_KEYS: Final = 3
"""Sets of keys by which the items of one list are looked for."""
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
        # Anybody may call themselves anything: what we applied is put back where it is changed.
        if manager == MANAGER and entry.get("operation") == "Apply":
            ours = fields
        elif entry.get("subresource") != "status" and (manager != SCALER or fields.keys() - {"f:replicas"}):
            theirs.append((manager, fields))
    found: dict[tuple[str, ...], str] = {}
    for manager, fields in theirs:
        for path in _beyond(fields, ours, body.get("spec")):
            if path[-1] not in _DEFAULTS and not any(path[: len(each)] == each for each in _OTHERS):
                found[path] = manager
    takers = _takers(body) if kind == "Deployment" and found else frozenset()
    return tuple(Addition(path, found[path], _undoes(kind, path, body, takers)) for path in sorted(found))


def without(addition: Addition) -> dict[str, Any]:
    """The strategic merge patch that takes it away."""
    *steps, last = addition.path
    patch: Any = [_keys(last) | {"$patch": "delete"}] if last.startswith("k:") else {last[2:]: None}
    for step in reversed(steps):
        patch = [_keys(step) | patch] if step.startswith("k:") else {step[2:]: patch}
    return {"spec": patch}


def _beyond(theirs: Mapping[str, Any], ours: Mapping[str, Any], place: Any) -> Iterator[tuple[str, ...]]:
    """The paths at which one set of fields has something, and the other has nothing.

    `place` is what is there: an owner of a field may have set it to nothing.
    """
    items: dict[tuple[str, ...], dict[str, Any]] = {}
    for step, below in theirs.items():
        if step[:2] not in ("f:", "k:"):
            continue
        inner = _inside(place, step, items)
        if inner in (None, False, {}, []):
            continue
        if step not in ours:
            yield (step,)
        elif below and ours[step]:
            yield from ((step, *path) for path in _beyond(below, ours[step], inner))


def _inside(place: Any, step: str, items: dict[tuple[str, ...], dict[str, Any]]) -> Any:
    """What a step leads to; `items` remembers a list by its keys, of which a schema has one set."""
    if not step.startswith("k:"):
        return place.get(step[2:]) if isinstance(place, Mapping) else None
    keys = _keys(step)
    names = tuple(sorted(keys))
    if names not in items:
        if len(items) == _KEYS or not isinstance(place, list):
            return None
        items[names] = {
            json.dumps([item.get(name) for name in names]): item
            for item in place
            if isinstance(item, Mapping)
        }
    return items[names].get(json.dumps([keys[name] for name in names]))


def _undoes(kind: str, path: tuple[str, ...], body: Mapping[str, Any], takers: frozenset[str]) -> bool:
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
    return name == _SIDECAR or ((len(rest) == 1 or rest[1] == "f:ports") and name in takers)


def _takers(body: Mapping[str, Any]) -> frozenset[str]:
    """The containers that claim a port, or a port's name, that is claimed twice."""
    pod = body["spec"]["template"]["spec"]
    claims: dict[Any, list[str]] = {}
    for container in (*(pod.get("initContainers") or []), *(pod.get("containers") or [])):
        for port in container.get("ports") or []:
            words = [
                port.get("containerPort"),
                *([port["name"]] if port.get("name") in _PORT_NAMES else []),
            ]
            for word in words:
                claims.setdefault(word, []).append(container["name"])
    return frozenset(name for names in claims.values() if len(names) > 1 for name in names)


def _keys(step: str) -> dict[str, Any]:
    try:
        keys = json.loads(step[2:])
    except ValueError:
        keys = None
    return keys if isinstance(keys, dict) else {}
