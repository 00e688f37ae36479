"""What the API server tells of Deployments, autoscalers and pods, as the operator reads it."""

from datetime import UTC, datetime

import pytest

from mcpace_operator.resource.workload import Deployment, Pod, Scaling


def deployment(status=None, generation=3, **spec):
    metadata = {"generation": generation, "annotations": {"mcpace.dev/secret-written": "abc"}}
    return {"metadata": metadata, "spec": {"template": {"metadata": {}}, **spec}, "status": status}


def test_a_deployment_is_complete_when_its_controller_has_seen_it_and_every_replica_answers():
    done = {"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
    read = Deployment.of(deployment(done, replicas=2))
    assert (read.wanted, read.secret, read.paused) == (2, "abc", False)
    assert read.is_complete(2)
    assert not read.is_complete(3)
    assert not Deployment.of(deployment(done | {"observedGeneration": 2}, replicas=2)).is_complete(2)


def test_a_deployment_of_which_nothing_is_told_yet_wants_one_replica_and_has_none():
    read = Deployment.of(deployment(None))
    assert (read.wanted, read.is_available, read.failure) == (1, False, None)
    assert not Deployment().is_complete(1)


def test_what_go_writes_as_null_is_nothing():
    assert Deployment.of(deployment({"conditions": None, "replicas": 1})).status.replicas == 1
    ended = {"exitCode": 1, "startedAt": None, "finishedAt": "2026-11-22T12:00:01Z"}
    status = {"containerStatuses": [{"name": "server", "state": {"terminated": ended}}], "conditions": None}
    (container,) = Pod.of({"metadata": {"name": "a"}, "status": status}).containers
    assert container.ended is not None
    assert container.ended.finished_at == datetime(2026, 11, 22, 12, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize(("phase", "address"), [("Running", "10.0.0.1"), ("Failed", ""), ("Succeeded", "")])
def test_a_pod_that_has_ended_has_no_address_that_a_secret_may_be_sent_to(phase, address):
    status = {"phase": phase, "podIP": "10.0.0.1"}
    assert Pod.of({"metadata": {"name": "a"}, "status": status}).address == address


@pytest.mark.parametrize(("status", "active"), [("True", True), ("False", False), ("Unknown", None)])
def test_an_autoscaler_says_whether_it_scales_or_does_not_know(status, active):
    said = {"type": "ScalingActive", "status": status, "message": "m"}
    assert Scaling.of({"status": {"conditions": [said]}}) == Scaling(active, "m")
    assert Scaling.of({"status": None}) == Scaling(None)


def test_a_status_that_no_kubelet_writes_is_refused():
    with pytest.raises(ValueError, match="Expected `int`"):
        Deployment.of(deployment({"replicas": "two"}))
