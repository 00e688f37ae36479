"""Namespaces and clusters that take restricted pods alone, judged by a real API server's admission."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.kit.operator import Operator
from tests.kit.waiting import until
from tools.cluster.kubectl import Kubectl

ENFORCE = "pod-security.kubernetes.io/enforce"


@pytest.fixture
def strict(api: Kubectl) -> Iterator[str]:
    """A namespace that takes restricted pods alone."""
    api.ok("create", "namespace", "strict")
    api.ok("label", "namespace", "strict", f"{ENFORCE}=restricted")
    yield "strict"
    api.ok("delete", "namespace", "strict", "--wait=false")


def server(pod: Any) -> Any:
    (container,) = [c for c in pod["spec"]["containers"] if c["name"] == "server"]
    return container["securityContext"]


async def test_a_namespace_that_enforces_restricted_takes_the_pods_of_a_bare_manifest(
    api: Kubectl, operator: Operator, strict: str
):
    api.apply("weather", strict, image="weather:1", database={"secretRef": {"name": "db"}})
    api.apply("weather", image="weather:1")
    (pod,) = await until(lambda: api.items("pods", "-n", strict), "the pod to be admitted")
    assert server(pod) == {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    (elsewhere,) = await until(
        lambda: api.items("pods", "-l", "mcpace.dev/server=weather"), "the other pod"
    )
    assert server(elsewhere) == {
        "allowPrivilegeEscalation": False,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
