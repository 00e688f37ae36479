"""An McpServer as the operator has it: its manifest, its children, what is seen and told of it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from mcpace_operator.children import children
from mcpace_operator.children.context import Context, Credentials
from mcpace_operator.cluster.kinds import OPTIONAL
from mcpace_operator.masterkey import MasterKey
from mcpace_operator.resource.models import parse_spec
from mcpace_operator.resource.server import Key, Server
from mcpace_operator.resource.workload import Deployment
from mcpace_operator.settings import OperatorSettings
from mcpace_operator.status.seen import StoreState
from mcpace_sidecar.contract.report import Report
from mcpace_sidecar.telemetry.statistics import summary
from mcpace_sidecar.telemetry.tally import Tallies

SETTINGS = OperatorSettings(master_key=MasterKey(b"k" * 32))


def context(
    status: dict[str, Any] | None = None,
    settings: OperatorSettings = SETTINGS,
    kinds: Iterable[str] = (),
    **spec: Any,
) -> Context:
    """What the children of a server are made from."""
    spec = {"image": "weather:1", **spec}
    server = Server(Key("ns", "weather"), "uid-1", 3, spec, status or {})
    credentials = Credentials("redis://u:p@limits:6379", "redis://u:p@cache:6379")
    return Context(server, parse_spec(spec), settings, credentials, frozenset(kinds))


def everything(kinds: Iterable[str] = OPTIONAL) -> Context:
    """A server whose manifest asks for every child."""
    return context(
        kinds=kinds,
        autoscaling={"minReplicas": 2, "maxReplicas": 5, "targetMemoryUtilization": 80},
        networkPolicy={"enabled": True, "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]},
        podDisruptionBudget={"maxUnavailable": 1},
        database={"secretRef": {"name": "db"}},
        clients={"apiKeys": [{"tier": "pro", "secretRef": {"name": "keys"}}]},
        rateLimits={},
        resources={"requests": {"cpu": "100m", "memory": "64Mi"}},
        podTemplate={"spec": {"priorityClassName": "high", "tolerations": [{"operator": "Exists"}]}},
    )


def built(**spec: Any) -> dict[str, Any]:
    """The children by kind; of the two Services, the one for callers."""
    found = [
        child for child in children(context(**spec)) if not child["metadata"]["name"].endswith("-metrics")
    ]
    assert len({child["kind"] for child in found}) == len(found)
    return {child["kind"]: child for child in found}


def pod(**spec: Any) -> Any:
    """The template of its pods."""
    return built(**spec)["Deployment"]["spec"]["template"]


def ended(**more: Any) -> dict[str, Any]:
    """A call that a sidecar counts."""
    usual: dict[str, Any] = {
        "tool": "get",
        "status": "success",
        "seconds": 0.01,
        "cache": "",
        "received": 10,
        "sent": 100,
    }
    return usual | more


def told(*calls: dict[str, Any]) -> Report:
    """What a sidecar says in `/stats` after these calls."""
    now = 1000.0
    tallies = Tallies(lambda: now)
    for call in calls:
        tallies.count(**call)
    return msgspec.json.decode(msgspec.json.encode(Report(summary(tallies))), type=Report)


def deployment(told: dict[str, Any]) -> Deployment:
    """A Deployment of which this is told: what stands in its status, and elsewhere."""
    spec = {
        "replicas": told.get("wanted", 1),
        "paused": told.get("paused", False),
        "template": {"metadata": {}},
    }
    metadata = {"generation": told.get("generation", 1)}
    return Deployment.of({"metadata": metadata, "spec": spec, "status": told})


NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
UP, DOWN, NONE = StoreState(True), StoreState(False), StoreState(None)
DONE = {
    "generation": 2,
    "observedGeneration": 2,
    "replicas": 2,
    "updatedReplicas": 2,
    "availableReplicas": 2,
    "readyReplicas": 2,
}
