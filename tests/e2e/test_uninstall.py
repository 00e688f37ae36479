"""The chart upgraded, and everything taken away again; the last file, because nothing is left then."""

from __future__ import annotations

from tests.e2e.conftest import ROOT, SYSTEM, Cluster, until


def test_helm_test_makes_a_real_call(cluster: Cluster):
    said = cluster.helm("test", "mcpace", "-n", SYSTEM, "--timeout=150s")
    assert "Phase:          Succeeded" in said
    assert cluster.get("mcpserver/mcpace-test", SYSTEM) is None, "nothing is left of it"


def test_an_upgrade_of_the_chart_restarts_no_server(cluster: Cluster, weather: str):
    before = {p["metadata"]["uid"] for p in cluster.pods("weather")}
    master = cluster.get("secret/mcpace", SYSTEM)["data"]["masterKey"]
    chart = str(ROOT / "charts/mcpace")
    cluster.helm("upgrade", "mcpace", "-n", SYSTEM, chart, *cluster.values(), "--set=operator.resources.requests.cpu=60m",
                 "--wait", "--timeout=120s")  # fmt: skip
    assert cluster.get("secret/mcpace", SYSTEM)["data"]["masterKey"] == master
    cluster.ready("weather")
    assert {p["metadata"]["uid"] for p in cluster.pods("weather")} == before


def test_deleting_the_server_and_the_release_leaves_nothing_but_the_kept_crd(
    cluster: Cluster, weather: str
):
    cluster.ok("delete", "mcpserver", "weather")
    for what in ("deployment/weather", "service/weather", "configmap/weather", "secret/weather-mcpace"):
        until(lambda what=what: cluster.get(what) is None, f"{what} to go")
    cluster.helm("uninstall", "mcpace", "-n", SYSTEM, "--wait", "--timeout=60s")
    kinds = "all,secrets,configmaps,serviceaccounts,persistentvolumeclaims"

    def gone() -> bool:
        left = cluster.ok("get", kinds, "-n", SYSTEM, "-o", "name").split()
        return not [name for name in left if "mcpace" in name]

    until(gone, "everything of the release to go")
    assert "mcpace" not in cluster.ok("get", "clusterroles,clusterrolebindings", "-o", "name")
    assert "mcpservers.mcpace.dev" in cluster.ok("get", "crds", "-o", "name")
    cluster.ok("delete", "crd", "mcpservers.mcpace.dev")
    cluster.run("delete", "secret", "weather-pro")
