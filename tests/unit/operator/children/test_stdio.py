"""A server of stdio in a pod: its processes are started by what the sidecar's image brings along."""

import pytest
from tests.kit.mcpserver import built, context
from tests.kit.schemas import refusals

from mcpace_operator.children import children, stdio
from mcpace_operator.resource.models import parse_spec
from mcpace_sidecar.errors import ConfigError

SPEC = {"transport": "stdio", "command": ["mcp-server-git", "--repository"], "args": ["/data"]}


def rendered(**spec):
    """(the pod's spec, the server's container) of a server of stdio."""
    pod = built(**SPEC, **spec)["Deployment"]["spec"]["template"]["spec"]
    return pod, pod["containers"][0]


def test_a_connection_is_a_process_of_the_manifests_command_and_arguments():
    _, server = rendered()
    command = server["command"]
    assert command[0] == "/mcpace/tini"
    assert command[-5:] == ["127.0.0.1", "18070", "mcp-server-git", "--repository", "/data"]
    assert "args" not in server, "they would come after ours"
    assert "ports" not in server
    (upstream,) = [a for a in rendered()[0]["initContainers"][0]["args"] if a.startswith("--upstream")]
    assert upstream == "--upstream=http://127.0.0.1:18070"


def test_what_starts_processes_is_copied_before_the_server_starts_and_cannot_be_changed_by_it():
    pod, server = rendered(volumeMounts=[{"name": "data", "mountPath": "/data"}])
    sidecar, brings = pod["initContainers"]
    assert (brings["name"], brings["image"]) == (stdio.NAME, sidecar["image"])
    assert brings["securityContext"] == sidecar["securityContext"]
    assert "restartPolicy" not in brings, "it is awaited"
    assert {"name": stdio.NAME, "mountPath": "/mcpace", "readOnly": True} in server["volumeMounts"]
    assert {"name": "data", "mountPath": "/data"} in server["volumeMounts"]
    assert {"name": stdio.NAME, "emptyDir": {"sizeLimit": "8Mi"}} in pod["volumes"]


def test_a_server_that_speaks_http_is_left_as_it_is():
    pod = built(command=["a"], args=["b"])["Deployment"]["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    assert (server["command"], server["args"]) == (["a"], ["b"])
    assert server["ports"] == [{"name": "server", "containerPort": 8000, "protocol": "TCP"}]
    assert "volumeMounts" not in server
    assert [each["name"] for each in pod["initContainers"]] == ["mcpace"]
    assert [each["name"] for each in pod["volumes"]] == ["mcpace-config"]


@pytest.mark.parametrize(
    ("spec", "requested"),
    [
        ({}, {"memory": "320Mi"}),
        ({"stdio": {"warm": 3}}, {"memory": "448Mi"}),
        ({"stdio": {"maxProcesses": 2}}, {"memory": "128Mi"}),
        ({"stdio": {"processes": "shared"}}, {"memory": "64Mi"}),
        ({"resources": {"requests": {"memory": "1Gi", "cpu": "1"}}}, {"memory": "1Gi", "cpu": "1"}),
        ({"resources": {"limits": {"memory": "1Gi"}}}, None),
        ({"autoscaling": {"maxReplicas": 3}}, {"memory": "320Mi", "cpu": "100m"}),
    ],
)
def test_memory_is_requested_for_the_warm_processes_and_some_more(spec, requested):
    assert rendered(**spec)[1]["resources"].get("requests") == requested


def test_kubernetes_knows_every_field_of_such_a_pod():
    for child in children(context(**SPEC)):
        assert refusals(child) == [], child["kind"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"transport": "stdio"}, "transport stdio needs `command`"),
        ({**SPEC, "port": 8000}, "a server of transport stdio listens on no port"),
        ({**SPEC, "sidecar": {"port": 18070}}, "must differ"),
    ],
)
def test_a_manifest_that_no_process_can_be_started_from_is_refused(spec, words):
    with pytest.raises(ConfigError, match=words):
        parse_spec({"image": "a", **spec})
