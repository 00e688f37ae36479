"""Why a server's pods do not answer, in their own words. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from mcpace_operator.resource.workload import Container, Deployment, Pod, Terminated
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
_KILLED_FOR_MEMORY: Final = "OOMKilled"
_CREDENTIAL: Final = re.compile(r"://[^/@\s]*@")

START: Final = timedelta(seconds=20)
"""How long a server may take to start until it is a trouble that it does not answer."""
AT_ONCE: Final = timedelta(seconds=10)

FIELDS: Final = {
    "server": "image",
    "pgbouncer": "database.image",
    "mcpace": "sidecar.image of the chart",
    "mcpace-stdio": "sidecar.image of the chart",
    "pgbouncer-config": "sidecar.image of the chart",
}
"""Container -> where its image is written."""


def diagnose(
    name: str,
    deployment: Deployment,
    pods: Iterable[Pod],
    said: Mapping[str, str],
    now: datetime,
) -> Trouble | None:
    """The first thing that a person must mend, or None where pods are merely on their way.

    `said` is what sidecars gave as reasons for not being ready, by pod. A server that has just started
    for the first time is on its way: `starting` says what its sidecar waits for.
    """
    for pod in _newest_first(pods):  # the newest tell of what is written now
        if pod.deleting or pod.is_ready:
            continue
        trouble = _of_pod(name, pod, said.get(pod.name, ""), now)
        if trouble is not None:
            return trouble
    if deployment.failure is not None:
        return Trouble(Reason.PodsNotCreated, cut(deployment.failure))
    return None


def starting(pods: Iterable[Pod], said: Mapping[str, str]) -> str:
    """What the newest pod's sidecar waits for; "" where nothing is known."""
    waits = (said.get(pod.name) for pod in _newest_first(pods) if not pod.is_ready)
    return cut(next(filter(None, waits), ""))


def out_of_memory(pods: Iterable[Pod]) -> str | None:
    """The container that was last killed for its memory, if any was."""
    for container in (container for pod in pods for container in pod.containers):
        for state in (container.state, container.last_state):
            if state.terminated is not None and state.terminated.reason == _KILLED_FOR_MEMORY:
                return container.name
    return None


def _newest_first(pods: Iterable[Pod]) -> Iterator[Pod]:
    yield from sorted(pods, key=lambda pod: pod.created, reverse=True)


def _of_pod(name: str, pod: Pod, said: str, now: datetime) -> Trouble | None:
    if pod.unschedulable is not None:
        return Trouble(Reason.Unschedulable, cut(f"No node takes the pod: {pod.unschedulable}"))
    for container in pod.containers:
        trouble = _of_container(name, container)
        if trouble is not None:
            return trouble
    if not said or any(_is_starting(each, now) for each in pod.containers if each.name == "server"):
        return None
    return Trouble(Reason.ServerDoesNotAnswer, cut(said))


def _is_starting(server: Container, now: datetime) -> bool:
    """Whether the server's container runs for the first time, and has not for long."""
    began = server.state.running.started_at if server.state.running is not None else None
    return not server.restart_count and (began is None or now - began < START)


def _of_container(name: str, container: Container) -> Trouble | None:
    which, waiting = container.name, container.state.waiting
    reason, message = (waiting.reason, waiting.message) if waiting is not None else ("", "")
    if reason in _NOT_PULLED:
        words = f"The image {container.image} of the container {which} is not to be had"
        detail = f" ({message})" if message else ""
        place = FIELDS.get(which, "podTemplate")
        return Trouble(
            Reason.ImageNotPulled, f"{cut(words + detail)}. Mend `{place}` or `imagePullSecrets`."
        )
    ended = container.ended
    if ended is not None and ended.reason in _NOT_STARTED:
        reason, message = "RunContainerError", ended.message or message
    if reason in _NOT_CREATED:
        return Trouble(Reason.ContainerNotStarted, cut(f"The container {which} cannot start: {message}."))
    if ended is not None and (reason == "CrashLoopBackOff" or ended.exit_code):
        return _crashed(name, which, ended)
    return None


def _crashed(name: str, which: str, ended: Terminated) -> Trouble:
    if ended.reason == _KILLED_FOR_MEMORY:
        words = f"The container {which} was killed for its memory. Raise `resources.limits.memory`."
        return Trouble(Reason.OutOfMemory, words)
    if which == "server" and not ended.exit_code and _lasted(ended) < AT_ONCE:
        words = "The server ends at once with exit code 0, as one that speaks stdio does."
        words += " Write `transport: stdio` and its `command`; or let it speak Streamable HTTP (often an"
        words += " argument: `args`), on the port of `port`."
        return Trouble(Reason.SpeaksStdio, words)
    lines = [line.strip() for line in ended.message.splitlines() if line.strip()]
    last = f": {_CREDENTIAL.sub('://…@', lines[-1])}" if lines else ""
    words = f"The container {which} ends with exit code {ended.exit_code}{cut(last)}"
    return Trouble(Reason.Crashes, f"{words}. See kubectl logs deployment/{name} -c {which} --previous.")


def _lasted(ended: Terminated) -> timedelta:
    began, until = ended.started_at, ended.finished_at
    return until - began if began is not None and until is not None else timedelta.max
