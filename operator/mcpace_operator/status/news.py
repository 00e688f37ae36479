"""Events of Kubernetes for what a person would ask about, each told once in a while and never in a loop."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from mcpace_operator.cluster.client import ApiError, Cluster
from mcpace_operator.resource.models import API_VERSION, KIND
from mcpace_operator.resource.server import Server
from mcpace_operator.status.reasons import Reason, Type
from mcpace_operator.status.stored import Stored, stored
from mcpace_sidecar.contract import environment

log = logging.getLogger(__name__)

QUIET: Final = 600.0
"""Seconds for which a reason is not told again of the same server and object."""
_USUAL: Final = (Reason.Progressing.name, Reason.ScaledToZero.name)
"""Reasons for not being ready that nobody must mend."""
_UNSAID: Final = Stored("", "")
_LONGEST: Final = 1024  # bytes of a note, by the API


class News(NamedTuple):
    """Something to tell."""

    reason: Reason
    note: str
    bad: bool


def news(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[News]:
    """What of a new status a person would ask about: what to mend, and that calls are answered. Pure."""
    old, new = stored(before), stored(after)
    for kind in (kind.name for kind in Type if kind.value.told):
        condition, known = new.get(kind, _UNSAID), old.get(kind, _UNSAID)
        bad = condition.status == "False" and condition.reason not in _USUAL
        if bad and condition.reason != known.reason:
            yield News(Reason[condition.reason], condition.message, bad=True)
    condition, known = (each.get(Type.Available.name, _UNSAID) for each in (new, old))
    if condition.status == "True" != known.status:
        yield News(Reason[condition.reason], condition.message, bad=False)


class Events:
    """What is told of servers, as events.k8s.io/v1."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._told: dict[tuple[str, str, str], float] = {}
        self._instance = environment.IDENTITY.read() or os.uname().nodename

    async def tell(self, server: Server, told: News, about: str = "") -> None:
        """Write an Event, unless its like was told lately. One that fails is lost: nothing needs it."""
        now = time.monotonic()
        this = (server.uid, told.reason.name, about)
        if now - self._told.get(this, -QUIET) < QUIET:
            return
        self._told = {one: at for one, at in self._told.items() if now - at < QUIET}
        self._told[this] = now
        try:
            await self._cluster.tell(server.key.namespace, event(server, told, self._instance))
        except ApiError as error:
            log.warning("%s: the event %s was not written: %s", server.key, told.reason.name, error)


def event(server: Server, told: News, instance: str) -> dict[str, Any]:
    """The Event that tells it, within what the API takes. Pure."""
    return {
        "metadata": {"generateName": f"{server.key.name}-", "namespace": server.key.namespace},
        "eventTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "type": "Warning" if told.bad else "Normal",
        "reason": told.reason.name,
        "action": "Reconcile",
        "note": told.note.encode()[:_LONGEST].decode(errors="ignore"),
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": server.key.name,
            "namespace": server.key.namespace,
            "uid": server.uid,
        },
        "reportingController": "mcpace.dev/operator",
        "reportingInstance": instance[:128],
    }
