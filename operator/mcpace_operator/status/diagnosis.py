"""Why a server's pods do not answer, in their own words. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from mcpace_operator.status.conditions import cut
from mcpace_operator.status.reasons import Reason
from mcpace_operator.status.seen import Trouble

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

START: Final = timedelta(seconds=20)
"""How long a server may take to start until it is a trouble that it does not answer."""
AT_ONCE: Final = timedelta(seconds=10)

FIELDS: Final = {
    "server": "image",
    "pgbouncer": "database.image",
    "mcpace": "sidecar.image of the chart",
    "pgbouncer-config": "sidecar.image of the chart",
}
"""Container -> where its image is written."""


def diagnose(
    name: str,
    deployment: Mapping[str, Any],
    pods: Sequence[Mapping[str, Any]],
    said: Mapping[str, str],
    now: datetime,
) -> Trouble | None:
    """The first thing that a person must mend, or None where pods are merely on their way.

    `said` is what sidecars gave as reasons for not being ready, by pod. A server that has just started
    for the first time is on its way: `starting` says what its sidecar waits for.
    """
    for pod in sorted(pods, key=_created, reverse=True):  # the newest tell of what is written now
        if pod["metadata"].get("deletionTimestamp") or is_ready(pod):
            continue
        trouble = _of_pod(name, pod, said.get(pod["metadata"]["name"], ""), now)
        if trouble is not None:
            return trouble
    for condition in deployment.get("conditions") or []:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return Trouble(Reason.PodsNotCreated, cut(str(condition.get("message", ""))))
    return None


def starting(pods: Sequence[Mapping[str, Any]], said: Mapping[str, str]) -> str:
    """What the newest pod's sidecar waits for; "" where nothing is known."""
    for pod in sorted(pods, key=_created, reverse=True):
        if not is_ready(pod) and (words := said.get(pod["metadata"]["name"])):
            return cut(words)
    return ""


def _of_pod(name: str, pod: Mapping[str, Any], said: str, now: datetime) -> Trouble | None:
    status = pod.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            words = f"No node takes the pod: {condition.get('message', '')}"
            return Trouble(Reason.Unschedulable, cut(words))
    for container in _containers(status):
        trouble = _of_container(name, container)
        if trouble is not None:
            return trouble
    if not said or _is_starting(status, now):
        return None
    return Trouble(Reason.ServerDoesNotAnswer, cut(said))


def _is_starting(status: Mapping[str, Any], now: datetime) -> bool:
    """Whether the server's container runs for the first time, and has not for long."""
    for container in status.get("containerStatuses") or []:
        if container.get("name") == "server":
            running = (container.get("state") or {}).get("running") or {}
            began = _time(running.get("startedAt"))
            return not container.get("restartCount") and (began is None or now - began < START)
    return False


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def _of_container(name: str, container: Mapping[str, Any]) -> Trouble | None:
    state = container.get("state") or {}
    which, waiting = container.get("name", ""), state.get("waiting") or {}
    reason, message = waiting.get("reason", ""), str(waiting.get("message") or "")
    if reason in _NOT_PULLED:
        words = f"The image {container.get('image')} of the container {which} is not to be had"
        detail = f" ({message})" if message else ""
        place = FIELDS.get(which, "podTemplate")
        return Trouble(
            Reason.ImageNotPulled, f"{cut(words + detail)}. Mend `{place}` or `imagePullSecrets`."
        )
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
    if ended.get("reason") in _NOT_STARTED:
        reason, message = "RunContainerError", str(ended.get("message") or message)
    if reason in _NOT_CREATED:
        return Trouble(Reason.ContainerNotStarted, cut(f"The container {which} cannot start: {message}."))
    if ended and (reason == "CrashLoopBackOff" or ended.get("exitCode")):
        return _crashed(name, which, ended)
    return None


def _crashed(name: str, which: str, ended: Mapping[str, Any]) -> Trouble:
    if ended.get("reason") == "OOMKilled":
        words = f"The container {which} was killed for its memory. Raise `resources.limits.memory`."
        return Trouble(Reason.OutOfMemory, words)
    if which == "server" and not ended.get("exitCode") and _lasted(ended) < AT_ONCE:
        words = "The server ends at once with exit code 0, as one that speaks stdio does."
        words += " Let it speak Streamable HTTP (often an argument: `args`), on the port of `port`."
        return Trouble(Reason.SpeaksStdio, words)
    lines = [line.strip() for line in str(ended.get("message") or "").splitlines() if line.strip()]
    last = f": {_CREDENTIAL.sub('://…@', lines[-1])}" if lines else ""
    words = f"The container {which} ends with exit code {ended.get('exitCode', 0)}{cut(last)}"
    return Trouble(Reason.Crashes, f"{words}. See kubectl logs deployment/{name} -c {which} --previous.")


def _lasted(ended: Mapping[str, Any]) -> timedelta:
    began, until = _time(ended.get("startedAt")), _time(ended.get("finishedAt"))
    return until - began if began is not None and until is not None else timedelta.max


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
