"""How many replicas there are, who says so, and how many may go at once."""

import pytest
from tests.kit.mcpserver import built, pod

from mcpace_operator.resource.models import parse_spec
from mcpace_sidecar.errors import ConfigError

SCALED = {"minReplicas": 2, "maxReplicas": 20}


def targets(**autoscaling):
    spec = {"autoscaling": SCALED | autoscaling, "resources": {"requests": {"memory": "64Mi"}}}
    autoscaler = built(**spec)["HorizontalPodAutoscaler"]["spec"]
    assert autoscaler["scaleTargetRef"]["name"] == "weather"
    return [
        (m["containerResource"]["name"], m["containerResource"]["target"]["averageUtilization"])
        for m in autoscaler["metrics"]
        if m["type"] == "ContainerResource"
    ]


def test_the_servers_own_container_is_what_is_measured():
    assert targets() == [("cpu", 70)]
    assert targets(targetCPUUtilization=50, targetMemoryUtilization=80) == [("cpu", 50), ("memory", 80)]
    assert targets(targetMemoryUtilization=80) == [("memory", 80)]
    own = {"type": "Pods", "pods": {"metric": {"name": "queued"}}}
    assert targets(metrics=[own]) == []
    assert built(autoscaling=SCALED | {"metrics": [own]})["HorizontalPodAutoscaler"]["spec"]["metrics"] == [
        own
    ]


def test_no_deployment_ever_says_how_many_replicas_there_are():
    for spec in ({}, {"replicas": 3}, {"autoscaling": SCALED}):
        assert "replicas" not in built(**spec)["Deployment"]["spec"]


def test_a_server_scaled_by_cpu_requests_some():
    def requests(**spec):
        return pod(**spec)["spec"]["containers"][0].get("resources", {}).get("requests")

    assert requests() is None
    assert requests(autoscaling=SCALED) == {"cpu": "100m"}
    assert requests(autoscaling=SCALED, resources={"requests": {"memory": "1Gi"}}) == {
        "cpu": "100m",
        "memory": "1Gi",
    }
    assert requests(autoscaling=SCALED, resources={"requests": {"cpu": 2}}) == {"cpu": 2}
    assert requests(autoscaling=SCALED, resources={"limits": {"cpu": "1"}}) is None


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"replicas": 2, "autoscaling": SCALED}, "write replicas or autoscaling, not both"),
        ({"autoscaling": {"minReplicas": 5, "maxReplicas": 2}}, "must not be below"),
        ({"autoscaling": SCALED | {"targetMemoryUtilization": 80}}, "resources.requests.memory"),
        ({"podDisruptionBudget": {"maxUnavailable": 1, "minAvailable": 1}}, "not both"),
        ({"podDisruptionBudget": {"maxUnavailable": "half"}}, "maxUnavailable"),
        ({"resources": {"requests": {"cpu": "lots"}}}, "resources.requests.cpu"),
    ],
)
def test_what_cannot_be_is_refused_in_words(spec, words):
    with pytest.raises(ConfigError, match=words):
        parse_spec({"image": "weather:1"} | spec)


def test_a_drained_node_takes_one_replica_at_a_time_unless_told_otherwise():
    def budget(**written):
        spec = built(podDisruptionBudget=written)["PodDisruptionBudget"]["spec"]
        return {name: value for name, value in spec.items() if name.endswith("vailable")}

    assert budget() == {"maxUnavailable": 1}
    assert budget(maxUnavailable="50%") == {"maxUnavailable": "50%"}
    assert budget(maxUnavailable=0) == {"maxUnavailable": 0}
    assert budget(minAvailable=1) == {"minAvailable": 1}
    assert "PodDisruptionBudget" not in built(podDisruptionBudget={"enabled": False})


@pytest.mark.parametrize(
    ("written", "strategy"),
    [
        ({}, {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}}),
        (
            {"maxSurge": 0, "maxUnavailable": 1},
            {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
        ),
        ({"type": "Recreate"}, {"type": "Recreate"}),
    ],
)
def test_pods_are_replaced_as_the_manifest_says(written, strategy):
    assert built(strategy=written)["Deployment"]["spec"]["strategy"] == strategy


def test_a_changed_strategy_is_applied_and_rolls_no_pods():
    before, after = built()["Deployment"], built(strategy={"type": "Recreate"})["Deployment"]
    assert before["spec"]["template"] == after["spec"]["template"]
    assert before["metadata"]["annotations"] != after["metadata"]["annotations"], (
        "or else it is taken for an upgrade"
    )
