"""People's commands on a cluster that runs pods: through the API server to real sidecars, and their logs."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from tests.e2e.cluster import Cluster, until
from tests.kit.laptop import mcpace


def run(cluster: Cluster, *arguments: object) -> subprocess.CompletedProcess[str]:
    return mcpace(*arguments, KUBECONFIG=str(cluster.kubeconfig))


def read(cluster: Cluster, *arguments: object) -> Any:
    done = run(cluster, *arguments, "-o", "json")
    assert done.returncode == 0, f"{done.stderr}\n{cluster.explain()}"
    return json.loads(done.stdout)


def test_top_tells_of_servers_and_of_the_tools_and_clients_of_one(cluster: Cluster, weather: str):
    servers = read(cluster, "top", "-A")["servers"]
    assert ("default", "weather") in [(each["namespace"], each["name"]) for each in servers]
    cluster.ask(urls=[weather], calls=1, tool="get-weather", arguments={"city": "Oslo"})

    def called() -> Any:
        told = read(cluster, "top", "weather")
        return told if told["tools"] and told["clients"] else None

    told = until(called, "the call to be counted")
    assert "get-weather" in [each["name"] for each in told["tools"]]
    assert all(each["limits"] for each in told["clients"])


def test_a_client_has_its_limits_again_and_results_are_fetched_anew(cluster: Cluster, weather: str):
    cluster.ask(urls=[weather], calls=1, tool="get-weather", arguments={"city": "Oslo"})
    told = until(lambda: read(cluster, "limits", "show", "weather")["clients"], "a client")
    name = told[0]["client"]
    assert run(cluster, "limits", "reset", "weather", name).returncode == 0
    (again,) = read(cluster, "limits", "show", "weather", name)["clients"]
    assert again["client"] == name
    assert run(cluster, "cache", "purge", "weather", "--all").returncode == 0
    kept = read(cluster, "cache", "show", "weather")["replicas"]
    assert {each["replica"] for each in kept} == {
        pod["metadata"]["name"] for pod in cluster.pods("weather")
    }


def test_logs_of_all_replicas_come_with_whose_they_are(cluster: Cluster, weather: str):
    done = run(cluster, "logs", "weather", "-c", "mcpace")
    assert done.returncode == 0, done.stderr
    begun = {line.partition(" | ")[0] for line in done.stdout.splitlines()}
    assert begun == {f"{pod['metadata']['name']}/mcpace" for pod in cluster.pods("weather")}
    wrong = run(cluster, "logs", "weather", "-c", "sidecar")
    assert (wrong.returncode, "it has mcpace, server" in wrong.stderr) == (2, True), wrong.stderr


def test_a_bundle_holds_the_logs_of_sidecars_and_of_the_operator(
    cluster: Cluster, weather: str, tmp_path: Path
):
    path = tmp_path / "bundle.tar.gz"
    done = run(cluster, "support-bundle", "weather", "--out", path)
    assert done.returncode == 0, done.stderr
    with tarfile.open(path) as tar:
        names = [name.partition("/")[2] for name in tar.getnames()]
    for pod in cluster.pods("weather"):
        assert f"logs/{pod['metadata']['name']}.log" in names
        assert f"stats/{pod['metadata']['name']}.json" in names
    assert [name for name in names if name.startswith("logs/operator/")]
    assert "children/deployment-weather.yaml" in names


def test_the_checklist_is_told_of_a_server_that_runs(cluster: Cluster, weather: str):
    done = until(
        lambda: (ended := run(cluster, "check", "weather", "-o", "json")).returncode in (0, 1) and ended,
        "the operator to judge it",
        120,
    )
    assert len(json.loads(done.stdout)["items"]) == 10
