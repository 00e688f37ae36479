"""What the operator makes of the manifests of `examples/`: objects as every supported Kubernetes takes them."""

from typing import Any

import pytest
import yaml
from tests.kit.mcpserver import context
from tests.kit.programs import ROOT
from tests.kit.schemas import refusals

from mcpace_operator.children import children
from mcpace_operator.cluster.kinds import OPTIONAL

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def made_of(name: str) -> dict[str, Any]:
    """Its children, by kind; of two Services, one."""
    document = next(yaml.safe_load_all((ROOT / f"examples/{name}.yaml").read_text()))
    return {child["kind"]: child for child in children(context(kinds=OPTIONAL, **document["spec"]))}


@pytest.mark.parametrize("name", [path.stem for path in EXAMPLES])
def test_every_supported_kubernetes_takes_what_is_made_of_it(name: str) -> None:
    for child in made_of(name).values():
        assert not refusals(child)


def test_autoscaling_makes_an_autoscaler_from_two_to_twenty_and_writes_no_replicas() -> None:
    made = made_of("autoscaling")
    bounds = made["HorizontalPodAutoscaler"]["spec"]
    assert (bounds["minReplicas"], bounds["maxReplicas"]) == (2, 20)
    assert "replicas" not in made["Deployment"]["spec"]
    assert made["PodDisruptionBudget"]["spec"]["minAvailable"] == "50%"


def test_database_puts_pgbouncer_beside_the_server_which_finds_it() -> None:
    pod = made_of("database")["Deployment"]["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    assert "127.0.0.1" in {each["name"]: each.get("value", "") for each in server["env"]}["DATABASE_URL"]
    assert any("pgbouncer" in each["image"] for each in pod["initContainers"])


def test_browser_lets_only_the_gateway_call_and_the_servers_own_pods() -> None:
    (rule, *_) = made_of("browser")["NetworkPolicy"]["spec"]["ingress"]
    assert rule["from"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gateways"}}},
        {"podSelector": {"matchLabels": {"mcpace.dev/server": "weather"}}},
    ]
