"""Why a server's pods do not answer, in their own words. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from mcpace_operator.conditions import Trouble

_NOT_PULLED: Final = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "RegistryUnavailable",
)
_NOT_CREATED: Final = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_NOT_STARTED: Final = (
    "StartError",
    "ContainerCannotRun",
)  # how the same is remembered once it is tried again
_CREDENTIAL: Final = re.compile(r"://[^/@\s]*@")
_LONGEST: Final = 400

FIELDS: Final = {
    "server": "image",
    "pgbouncer": "database.image",
    "mcpace": "sidecar.image of the chart",
    "pgbouncer-config": "sidecar.image of the chart",
}
"""Container -> where its image is written."""


def diagnose(
    name: str, deployment: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], said: Mapping[str, str]
) -> Trouble | None:
    """The first thing that a person must mend, or None where pods are merely on their way.

    `said` is what sidecars gave as reasons for not being ready, by pod.
    """
    for pod in sorted(pods, key=_created, reverse=True):  # the newest tell of what is written now
        if pod["metadata"].get("deletionTimestamp") or is_ready(pod):
            continue
        trouble = _of_pod(name, pod, said.get(pod["metadata"]["name"], ""))
        if trouble is not None:
            return trouble
    for condition in deployment.get("conditions") or []:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return Trouble("PodsNotCreated", _cut(str(condition.get("message", ""))))
    return None


def _of_pod(name: str, pod: Mapping[str, Any], said: str) -> Trouble | None:
    status = pod.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            words = f"No node takes the pod: {condition.get('message', '')}"
            return Trouble("Unschedulable", _cut(words))
    for container in _containers(status):
        trouble = _of_container(name, container)
        if trouble is not None:
            return trouble
    return Trouble("ServerDoesNotAnswer", _cut(said)) if said else None


def _of_container(name: str, container: Mapping[str, Any]) -> Trouble | None:
    state = container.get("state") or {}
    which, waiting = container.get("name", ""), state.get("waiting") or {}
    reason, message = waiting.get("reason", ""), str(waiting.get("message") or "")
    if reason in _NOT_PULLED:
        words = f"The image {container.get('image')} of the container {which} is not to be had"
        detail = f" ({message})" if message else ""
        place = FIELDS.get(which, "podTemplate")
        return Trouble("ImageNotPulled", f"{_cut(words + detail)}. Mend `{place}` or `imagePullSecrets`.")
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
    if ended.get("reason") in _NOT_STARTED:
        reason, message = "RunContainerError", str(ended.get("message") or message)
    if reason in _NOT_CREATED:
        return Trouble("ContainerNotStarted", _cut(f"The container {which} cannot start: {message}."))
    if ended and (reason == "CrashLoopBackOff" or ended.get("exitCode")):
        return _crashed(name, which, ended)
    return None


def _crashed(name: str, which: str, ended: Mapping[str, Any]) -> Trouble:
    if ended.get("reason") == "OOMKilled":
        words = f"The container {which} was killed for its memory. Raise `resources.limits.memory`."
        return Trouble("OutOfMemory", words)
    lines = [line.strip() for line in str(ended.get("message") or "").splitlines() if line.strip()]
    last = f": {_CREDENTIAL.sub('://…@', lines[-1])}" if lines else ""
    words = f"The container {which} ends with exit code {ended.get('exitCode', 0)}{_cut(last)}"
    return Trouble("Crashes", f"{words}. See kubectl logs deployment/{name} -c {which} --previous.")


def _containers(status: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether the kubelet says that it is."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _created(pod: Mapping[str, Any]) -> str:
    return str(pod["metadata"].get("creationTimestamp") or "")


def out_of_memory(pods: Sequence[Mapping[str, Any]]) -> str | None:
    """The container that was last killed for its memory, if any was."""
    for pod in pods:
        for container in _containers(pod.get("status") or {}):
            for state in (container.get("state") or {}, container.get("lastState") or {}):
                if (state.get("terminated") or {}).get("reason") == "OOMKilled":
                    return str(container.get("name"))
    return None


def _cut(words: str) -> str:
    return words if len(words) <= _LONGEST else words[: _LONGEST - 1] + "…"
