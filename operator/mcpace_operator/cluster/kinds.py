"""The kinds of objects that the operator speaks of to the API server: one row each.

What it may do with them is what the chart's roles grant: a test compares both.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from mcpace_operator.resource.models import API_VERSION, KIND, PLURAL


class Kind(NamedTuple):
    """One kind."""

    api: str
    """Its apiVersion."""
    plural: str
    verbs: str
    """What the operator does with it, in the cluster."""
    child: bool = False
    """Whether a server owns objects of it."""
    watched: bool = False
    """Whether a change of one by somebody else is heard of at once."""
    optional: bool = False
    """Whether a cluster may not know it, now or ever."""

    @property
    def group(self) -> str:
        """Its API group; empty for the core."""
        return self.api.rpartition("/")[0]


_TENDED: Final = "list watch create patch delete"

KINDS: Final = {
    KIND: Kind(API_VERSION, PLURAL, "list watch"),
    "Deployment": Kind("apps/v1", "deployments", _TENDED, child=True, watched=True),
    "Service": Kind("v1", "services", _TENDED, child=True, watched=True),
    "ConfigMap": Kind("v1", "configmaps", _TENDED, child=True, watched=True),
    "ServiceAccount": Kind("v1", "serviceaccounts", _TENDED, child=True, watched=True),
    # The operator reads no Secret, not even its own.
    "Secret": Kind("v1", "secrets", "create patch", child=True),
    "HorizontalPodAutoscaler": Kind(
        "autoscaling/v2", "horizontalpodautoscalers", _TENDED, child=True, watched=True
    ),
    "PodDisruptionBudget": Kind("policy/v1", "poddisruptionbudgets", _TENDED, child=True, watched=True),
    "NetworkPolicy": Kind("networking.k8s.io/v1", "networkpolicies", _TENDED, child=True, watched=True),
    # A watch of what a cluster does not know would be tried for ever.
    "ServiceMonitor": Kind(
        "monitoring.coreos.com/v1", "servicemonitors", "list create patch delete", child=True, optional=True
    ),
    "PrometheusRule": Kind(
        "monitoring.coreos.com/v1", "prometheusrules", "list create patch delete", child=True, optional=True
    ),
    "Pod": Kind("v1", "pods", "list patch"),
    "PodMetrics": Kind("metrics.k8s.io/v1beta1", "pods", "list"),
    "Namespace": Kind("v1", "namespaces", "get"),
    "Event": Kind("events.k8s.io/v1", "events", "create"),
    "Lease": Kind("coordination.k8s.io/v1", "leases", ""),  # by a role of its own namespace
}

WATCHED: Final = tuple(name for name, kind in KINDS.items() if kind.watched)
OPTIONAL: Final = tuple(name for name, kind in KINDS.items() if kind.optional)
