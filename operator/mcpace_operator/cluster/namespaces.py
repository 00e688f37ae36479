"""What servers' namespaces ask of their pods: their labels, asked for when a server is looked at."""

from __future__ import annotations

import logging
import time
from typing import Final

from mcpace_operator.cluster.client import ApiError, Cluster

log = logging.getLogger(__name__)

ENFORCED: Final = "pod-security.kubernetes.io/enforce"
"""Source: Kubernetes, "Pod Security Admission"."""
REMEMBERED: Final = 60.0
"""Seconds for which a namespace's answer counts."""


class Namespaces:
    """Remembers which of them take restricted pods alone."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: dict[str, tuple[bool, float]] = {}

    async def restricted(self, namespace: str) -> bool:
        """Whether only restricted pods are taken there; as last known where nobody says."""
        restricted, until = self._known.get(namespace, (False, 0.0))
        if time.monotonic() < until:
            return restricted
        try:
            labels = await self._cluster.labels(namespace)
        except ApiError as error:
            log.info("The namespace %s cannot be looked at: %s", namespace, error)
        else:
            restricted = labels.get(ENFORCED) == "restricted"
        self._known[namespace] = (restricted, time.monotonic() + REMEMBERED)
        return restricted
