"""Why pods do not answer, in their own words: each as a kubelet writes it."""

from datetime import UTC, datetime

import pytest

from mcpace_operator.resource.workload import Deployment, Pod
from mcpace_operator.status.diagnosis import diagnose, starting


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
    words = {n.replace("_", "-"): r for n, r in reasons.items()}
    spec = {"template": {"metadata": {}}}
    told = Deployment.of({"metadata": {}, "spec": spec, "status": deployment or {}})
    return diagnose("weather", told, [Pod.of(each) for each in pods], words, NOW)


NOW = datetime(2026, 11, 22, 12, 1, tzinfo=UTC)
RUNNING = {"state": {"running": {"startedAt": "2026-11-22T12:00:00Z"}}}


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
    assert trouble.reason.name == reason
    assert words in trouble.message


def test_what_the_sidecar_says_is_told_when_the_containers_run():
    running = pod(server=RUNNING, mcpace=RUNNING)
    trouble = said(running, weather_1="HTTP 404. It answers MCP otherwise: write `path: /`.")
    assert (trouble.reason.name, trouble.message) == (
        "ServerDoesNotAnswer",
        "HTTP 404. It answers MCP otherwise: write `path: /`.",
    )


def test_a_server_that_starts_for_the_first_time_is_no_trouble_yet():
    young = {"state": {"running": {"startedAt": "2026-11-22T12:00:45Z"}}}
    words = "The server does not accept connections on port 8000."
    assert said(pod(server=young, mcpace=RUNNING), weather_1=words) is None
    assert starting([Pod.of(pod(server=young, mcpace=RUNNING))], {"weather-1": words}) == words
    assert starting([Pod.of(pod(server=young, ready=True))], {"weather-1": words}) == ""
    again = young | {"restartCount": 2}
    assert said(pod(server=again, mcpace=RUNNING), weather_1=words).reason.name == "ServerDoesNotAnswer"


def test_a_server_that_ends_at_once_without_an_error_is_said_to_speak_stdio():
    times = {"startedAt": "2026-11-22T12:00:00Z", "finishedAt": "2026-11-22T12:00:01Z"}
    ended = waiting("CrashLoopBackOff", last={"exitCode": 0, **times})
    trouble = said(pod(server=ended))
    assert trouble.reason.name == "SpeaksStdio"
    assert "Streamable HTTP" in trouble.message
    later = times | {"finishedAt": "2026-11-22T12:10:00Z"}
    for last in ({"exitCode": 0, **later}, {"exitCode": 1, **times}):
        assert said(pod(server=waiting("CrashLoopBackOff", last=last))).reason.name == "Crashes"


def test_what_others_say_is_told_on_one_line_without_what_a_terminal_would_obey():
    trouble = said(pod(server=RUNNING), weather_1="HTTP 500\x1b[2J\nx\u202ey")
    assert trouble.message == "HTTP 500 [2J x y"


def test_pods_on_their_way_are_no_trouble():
    assert said() is None
    assert said(pod(server=waiting("ContainerCreating"), mcpace=waiting("PodInitializing"))) is None
    assert said(pod(ready=True, server=waiting("CrashLoopBackOff"))) is None
    assert said(pod(server=RUNNING, mcpace=RUNNING)) is None


def test_the_newest_pod_speaks_for_what_is_written_now():
    old = pod("weather-old", created="2026-11-22T11:00:00Z", server=waiting("ImagePullBackOff"))
    new = pod("weather-new", server=waiting("CrashLoopBackOff", last={"exitCode": 1}))
    assert said(old, new).reason.name == "Crashes"
    leaving = new | {"metadata": new["metadata"] | {"deletionTimestamp": "2026-11-22T12:01:00Z"}}
    assert said(old, leaving).reason.name == "ImageNotPulled"


def test_pods_that_are_refused_are_told_by_the_deployment():
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: small"}
    trouble = said(deployment={"conditions": [failure]})
    assert trouble.reason.name == "PodsNotCreated"
    assert "exceeded quota" in trouble.message


def test_a_credential_in_last_words_is_left_out_and_long_ones_are_cut():
    last = {"exitCode": 1, "message": "cannot reach postgresql://me:hush@db/app " + "x" * 5000}
    trouble = said(pod(server=waiting("CrashLoopBackOff", last=last)))
    assert "hush" not in trouble.message
    assert len(trouble.message) < 600
