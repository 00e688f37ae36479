"""Where the sidecars of one server reach each other: open to them alone."""

import pytest
from tests.kit.mcpserver import built

from mcpace_sidecar.contract.surface import RELAY_PORT

OWN = {"podSelector": {"matchLabels": {"mcpace.dev/server": "weather"}}}
DOOR = {"name": "a", "url": "https://a.example", "port": RELAY_PORT}


def sidecar(**spec):
    return built(**spec)["Deployment"]["spec"]["template"]["spec"]["initContainers"][0]


def told(**spec):
    """What the sidecar is told of it, and whether its container names the port."""
    given = sidecar(**spec)
    arguments = [a for a in given["args"] if a.startswith(("--relay-listen", "--peers"))]
    return arguments, [p["containerPort"] for p in given["ports"] if p["name"] == "relay"]


def test_sidecars_of_a_server_find_each_other_by_the_service_of_all_its_pods():
    arguments, ports = told()
    assert arguments == ["--relay-listen=*:18081", "--peers=weather-metrics.ns.svc:18081"]
    assert ports == [RELAY_PORT]
    assert str(RELAY_PORT) not in str(built()["Service"]), "no client comes in there"


@pytest.mark.parametrize(
    "spec", [{"port": RELAY_PORT}, {"sidecar": {"port": RELAY_PORT}}, {"egress": [DOOR]}]
)
def test_the_relay_gives_way_to_what_else_listens_there(spec):
    assert told(**spec)[1] == [RELAY_PORT + 1]


def test_without_continuity_nobody_listens():
    assert told(sessions={"continuity": False}) == ([], [])
    policy = built(sessions={"continuity": False}, networkPolicy={"egress": []})["NetworkPolicy"]
    assert str(RELAY_PORT) not in str(policy)


def test_the_network_lets_only_the_servers_own_pods_in_and_out_there():
    policy = built(networkPolicy={"from": [{"namespaceSelector": {}}], "egress": []})["NetworkPolicy"][
        "spec"
    ]
    (rule,) = [
        each for each in policy["ingress"] if {"protocol": "TCP", "port": RELAY_PORT} in each["ports"]
    ]
    assert rule == {"ports": [{"protocol": "TCP", "port": RELAY_PORT}], "from": [OWN]}
    (out,) = [each for each in policy["egress"] if {"protocol": "TCP", "port": RELAY_PORT} in each["ports"]]
    assert out["to"] == [OWN]


def test_a_mesh_takes_no_part_in_what_has_certificates_already():
    annotations = built()["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["traffic.sidecar.istio.io/excludeInboundPorts"] == "18090,18081"
    assert annotations["config.linkerd.io/skip-outbound-ports"] == "18081"
