"""Why pods do not answer, in their own words: each as a kubelet writes it."""

import pytest

from mcpace_operator.conditions import REASONS
from mcpace_operator.diagnosis import diagnose


def pod(name="weather-1", created="2026-11-22T12:00:00Z", ready=False, conditions=(), **containers):
    """A pod; a container's argument is its status without the name."""
    statuses = [{"name": n, "image": "weather:1"} | status for n, status in containers.items()]
    own = [s for s in statuses if s["name"] == "server"]
    return {
        "metadata": {"name": name, "creationTimestamp": created},
        "status": {
            "conditions": [{"type": "Ready", "status": str(ready)}, *conditions],
            "containerStatuses": own,
            "initContainerStatuses": [s for s in statuses if s not in own],
        },
    }


def waiting(reason, message="", last=None):
    status = {"state": {"waiting": {"reason": reason, "message": message}}}
    return status | ({"lastState": {"terminated": last}} if last else {})


def said(*pods, deployment=None, **reasons):
    return diagnose("weather", deployment or {}, pods, {n.replace("_", "-"): r for n, r in reasons.items()})


RUNNING = {"state": {"running": {}}}


@pytest.mark.parametrize(
    ("pods", "reason", "words"),
    [
        (
            pod(server=waiting("ImagePullBackOff", "not found"), mcpace=RUNNING),
            "ImageNotPulled",
            "weather:1 of the container server is not to be had (not found). Mend `image`",
        ),
        (pod(mcpace=waiting("ErrImagePull")), "ImageNotPulled", "sidecar.image of the chart"),
        (pod(server=waiting("InvalidImageName", "bad")), "ImageNotPulled", "Mend `image`"),
        (
            pod(server=waiting("CreateContainerConfigError", 'secret "weather-db" not found')),
            "ContainerNotStarted",
            'secret "weather-db" not found',
        ),
        (
            pod(
                server=waiting(
                    "CrashLoopBackOff", "back-off 10s", last={"exitCode": 128, "reason": "StartError", "message": "no /go"}
                )
            ),
            "ContainerNotStarted",
            "The container server cannot start: no /go.",
        ),
        (
            pod(server=waiting("CrashLoopBackOff", last={"exitCode": 1, "message": "Traceback\nKeyError: 'KEY'\n"})),
            "Crashes",
            "exit code 1: KeyError: 'KEY'. See kubectl logs deployment/weather -c server --previous",
        ),
        (pod(server={"state": {"terminated": {"exitCode": 2}}}), "Crashes", "exit code 2"),
        (pod(server=waiting("CrashLoopBackOff", last={"exitCode": 0})), "Crashes", "exit code 0"),
        (
            pod(server=waiting("CrashLoopBackOff", last={"exitCode": 137, "reason": "OOMKilled"})),
            "OutOfMemory",
            "Raise `resources.limits.memory`",
        ),
        (
            pod(conditions=[{"type": "PodScheduled", "reason": "Unschedulable", "message": "0/3 nodes: cpu"}]),
            "Unschedulable",
            "0/3 nodes: cpu",
        ),
    ],
)  # fmt: skip
def test_what_a_kubelet_says_becomes_what_to_do(pods, reason, words):
    trouble = said(pods)
    assert trouble.reason == reason
    assert words in trouble.message
    assert reason in REASONS


def test_what_the_sidecar_says_is_told_when_the_containers_run():
    running = pod(server=RUNNING, mcpace=RUNNING)
    trouble = said(running, weather_1="HTTP 404. It answers MCP otherwise: write `path: /`.")
    assert (trouble.reason, trouble.message) == (
        "ServerDoesNotAnswer",
        "HTTP 404. It answers MCP otherwise: write `path: /`.",
    )


def test_pods_on_their_way_are_no_trouble():
    assert said() is None
    assert said(pod(server=waiting("ContainerCreating"), mcpace=waiting("PodInitializing"))) is None
    assert said(pod(ready=True, server=waiting("CrashLoopBackOff"))) is None
    assert said(pod(server=RUNNING, mcpace=RUNNING)) is None


def test_the_newest_pod_speaks_for_what_is_written_now():
    old = pod("weather-old", created="2026-11-22T11:00:00Z", server=waiting("ImagePullBackOff"))
    new = pod("weather-new", server=waiting("CrashLoopBackOff", last={"exitCode": 1}))
    assert said(old, new).reason == "Crashes"
    leaving = new | {"metadata": new["metadata"] | {"deletionTimestamp": "2026-11-22T12:01:00Z"}}
    assert said(old, leaving).reason == "ImageNotPulled"


def test_pods_that_are_refused_are_told_by_the_deployment():
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: small"}
    trouble = said(deployment={"conditions": [failure]})
    assert trouble.reason == "PodsNotCreated"
    assert "exceeded quota" in trouble.message


def test_a_credential_in_last_words_is_left_out_and_long_ones_are_cut():
    last = {"exitCode": 1, "message": "cannot reach postgresql://me:hush@db/app " + "x" * 5000}
    trouble = said(pod(server=waiting("CrashLoopBackOff", last=last)))
    assert "hush" not in trouble.message
    assert len(trouble.message) < 600
