"""The chart upgraded, and everything taken away again; the last file, because nothing is left then."""

from __future__ import annotations

import json

import pytest
from tests.e2e.cluster import NARROW, ROOT, SYSTEM, Cluster, until
from tools.cluster.node import Node

CHILDREN = (
    "deployments.apps", "services", "configmaps", "serviceaccounts", "horizontalpodautoscalers.autoscaling",
    "poddisruptionbudgets.policy", "networkpolicies.networking.k8s.io", "servicemonitors.monitoring.coreos.com",
    "prometheusrules.monitoring.coreos.com",
)  # fmt: skip
UNUSED = {
    # Removed only where another version wanted them, or an immutable field changes.
    *((kind, "delete") for kind in CHILDREN),
    # Asked for by server-side apply of what is not there, which needs the right and is written down as a patch.
    *((kind, "create") for kind in (*CHILDREN, "secrets")),
    # Asked for by OwnerReferencesPermissionEnforcement, in clusters that have it.
    ("mcpservers.mcpace.dev/finalizers", "update"),
    # Taken from metrics-server, which only some clusters have.
    ("pods.metrics.k8s.io", "list"),
}  # fmt: skip


def of(group: str, resource: str) -> str:
    """As kubectl names it: `deployments.apps`, `mcpservers.mcpace.dev/status`."""
    name, _, sub = resource.partition("/")
    return (f"{name}.{group}" if group else name) + (f"/{sub}" if sub else "")


def test_the_operator_asked_for_what_its_roles_grant_and_nothing_else(cluster: Cluster):
    if cluster.foreign:
        pytest.skip("what a cluster of somebody else's was asked is not written down here")
    granted = {
        (of(group, resource), verb)
        for role in ("role/mcpace", "role/mcpace-lease")
        for rule in cluster.get(role, "default" if role == "role/mcpace" else SYSTEM)["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    used, refused = set(), set()
    for line in (Node().folder / "audit.log").read_text().splitlines():
        entry = json.loads(line)
        if (where := entry.get("objectRef")) is None:
            continue  # what kinds there are, which everybody may ask
        sub = f"/{where['subresource']}" if "subresource" in where else ""
        asked = (of(where.get("apiGroup", ""), where["resource"] + sub), entry["verb"])
        used.add(asked)
        if entry["responseStatus"]["code"] == 403:
            refused.add(asked)
    assert not refused
    assert used <= granted, used - granted
    assert granted - used <= UNUSED, granted - used - UNUSED


def test_helm_test_makes_a_real_call(cluster: Cluster):
    said = cluster.helm("test", "mcpace", "-n", SYSTEM, "--timeout=150s")
    assert "Phase:          Succeeded" in said
    assert cluster.get("mcpserver/mcpace-test") is None, "nothing is left of it"


def test_an_upgrade_of_the_chart_restarts_no_server(cluster: Cluster, weather: str):
    before = {p["metadata"]["uid"] for p in cluster.pods("weather")}
    master = cluster.get("secret/mcpace", SYSTEM)["data"]
    chart = str(ROOT / "charts/mcpace")
    cluster.helm("upgrade", "mcpace", "-n", SYSTEM, chart, *cluster.values(), NARROW, "--set=operator.resources.requests.cpu=60m",
                 "--wait", "--timeout=120s")  # fmt: skip
    assert cluster.get("secret/mcpace", SYSTEM)["data"] == master
    cluster.ready("weather")
    assert {p["metadata"]["uid"] for p in cluster.pods("weather")} == before


def test_deleting_the_server_and_the_release_leaves_nothing_but_the_kept_crd_and_key(
    cluster: Cluster, weather: str
):
    cluster.ok("delete", "mcpserver", "weather")
    for what in ("deployment/weather", "service/weather", "configmap/weather", "secret/weather-mcpace"):
        until(lambda what=what: cluster.get(what) is None, f"{what} to go")
    cluster.helm("uninstall", "mcpace", "-n", SYSTEM, "--wait", "--timeout=60s")
    kinds = "all,secrets,configmaps,serviceaccounts,persistentvolumeclaims"

    def gone() -> bool:
        left = cluster.ok("get", kinds, "-n", SYSTEM, "-o", "name").split()
        return [name for name in left if "mcpace" in name] == ["secret/mcpace"]

    until(gone, "everything of the release to go, but the key")
    assert "mcpace" not in cluster.ok("get", "clusterroles,clusterrolebindings", "-o", "name")
    assert "mcpservers.mcpace.dev" in cluster.ok("get", "crds", "-o", "name")
    cluster.ok("delete", "crd", "mcpservers.mcpace.dev")
    cluster.ok("delete", "secret", "mcpace", "-n", SYSTEM)
    cluster.run("delete", "secret", "weather-pro")
