"""How the operator starts a sidecar, and what of it it asks."""

import re

import pytest
from click import Context
from tests.kit.mcpserver import built

from mcpace_cli.__main__ import sidecar
from mcpace_sidecar.contract.surface import Flag, Path


def test_the_command_takes_every_option_that_the_operator_gives():
    (container,) = [
        each
        for each in built()["Deployment"]["spec"]["template"]["spec"]["initContainers"]
        if each["name"] == "mcpace"
    ]
    command, *arguments = container["args"]
    assert command == "sidecar"
    assert {argument.partition("=")[0] for argument in arguments} <= set(Flag)
    given = sidecar.make_context("sidecar", list(arguments), parent=Context(sidecar)).params
    assert (given["listen"], given["admin_listen"], given["name"]) == ("*:18080", "*:18090", "ns/weather")


@pytest.mark.parametrize(
    ("spec", "grace"), [({}, 90), ({"drainTimeout": "5m"}, 330), ({"drainTimeout": "1500ms"}, 32)]
)
def test_a_pod_gets_the_time_to_drain_and_its_server_that_to_end(spec, grace):
    pod = built(sidecar={"adminPort": 19000}, **spec)["Deployment"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == grace
    asked = {"path": Path.DRAINED, "port": 19000, "scheme": "HTTP"}
    assert pod["containers"][0]["lifecycle"] == {"preStop": {"httpGet": asked}}


def test_a_mesh_lets_the_kubelet_reach_the_admin_port_and_the_manifest_has_the_last_word():
    mesh, other = "traffic.sidecar.istio.io/excludeInboundPorts", "config.linkerd.io/skip-inbound-ports"
    written = {"metadata": {"annotations": {mesh: "18090,9000"}}}
    annotations = built(podTemplate=written)["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert (annotations[mesh], annotations[other]) == ("18090,9000", "18090,18081")


def test_probes_ask_what_the_admin_port_answers():
    pod = built(egress=[{"name": "a", "url": "https://a.example", "port": 9101}])["Deployment"]["spec"][
        "template"
    ]
    paths = re.findall(
        r"'path': '([^'?]*)", str([c for k in ("initContainers", "containers") for c in pod["spec"][k]])
    )
    assert {path for path in paths if path.startswith("/")} == {
        Path.HEALTHZ,
        Path.READYZ,
        Path.SERVERZ,
        Path.DRAINED,
    }
