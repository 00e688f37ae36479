"""Operators behind a proxy that fails, and the server that they look after."""

from __future__ import annotations

from typing import Any

from tests.kit.operator import Operator
from tests.kit.waiting import STARTING, until
from tools.cluster.kubectl import Kubectl

SPEC: dict[str, Any] = {"image": "weather:1", "rateLimits": {}, "replicas": 2}
CHILDREN = (
    "serviceaccount/weather",
    "secret/weather-mcpace",
    "configmap/weather",
    "service/weather",
    "service/weather-metrics",
    "deployment/weather",
    "poddisruptionbudget/weather",
)


def state(api: Kubectl) -> dict[str, Any]:
    """Everything that was made, without what differs from one object to the next."""
    made = {}
    for what in CHILDREN:
        body = api.get(what)
        if body is None:
            continue
        metadata = body["metadata"]
        annotations = {
            k: v for k, v in metadata.get("annotations", {}).items() if k.startswith("mcpace.dev/")
        }
        made[what] = {
            "labels": metadata["labels"],
            "annotations": sorted(annotations),
            "spec": body.get("spec"),
        }
        for name in ("clusterIP", "clusterIPs"):
            (made[what]["spec"] or {}).pop(name, None)
        if what == "deployment/weather":
            made[what]["spec"]["template"]["metadata"].pop("annotations")
    return made


async def whole(api: Kubectl) -> dict[str, Any]:
    await until(lambda: len(state(api)) == len(CHILDREN), "every child", STARTING)
    await until(lambda: api.get("deployment/weather")["spec"]["replicas"] == 2, "two replicas", STARTING)

    def told() -> int | None:
        return (api.get("mcpserver/weather").get("status") or {}).get("replicas")

    await until(lambda: told() == 2, "them to be told", STARTING)
    return state(api)


async def at_rest(api: Kubectl, operator: Operator) -> Operator:
    """The operator, with a server that is as it should be."""
    api.apply("weather", **SPEC)
    await whole(api)
    await operator.settled(api)
    return operator
