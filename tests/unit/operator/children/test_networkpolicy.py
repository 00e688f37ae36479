"""Who may reach the pods, and whom they may reach."""

from dataclasses import replace

from tests.kit.mcpserver import SETTINGS, built, context

from mcpace_operator.children import children

OPERATOR = {"podSelector": {"matchLabels": {"app.kubernetes.io/component": "operator"}}}
CALLER = {"namespaceSelector": {"matchLabels": {"team": "agents"}}}
OWN = {"podSelector": {"matchLabels": {"mcpace.dev/server": "weather"}}}


def policy(callers=(), watchers=(OPERATOR,), **written):
    settings = replace(SETTINGS, callers=tuple(callers), watchers=tuple(watchers))
    made = children(context(settings=settings, networkPolicy=written))
    (found,) = [child for child in made if child["kind"] == "NetworkPolicy"]
    return found["spec"]


def ports(rule):
    return [p["port"] for p in rule["ports"]]


def test_there_is_none_unless_it_is_asked_for():
    assert "NetworkPolicy" not in built()
    assert "NetworkPolicy" not in built(networkPolicy={"enabled": False})


def test_the_servers_own_port_is_open_to_nobody():
    opened = [port for rule in policy()["ingress"] for port in ports(rule)]
    assert opened == [18080, 18090, 18081]


def test_callers_are_those_of_the_manifest_or_else_of_the_chart_or_else_everybody():
    assert "from" not in policy()["ingress"][0]
    assert policy(callers=[CALLER])["ingress"][0]["from"] == [CALLER, OWN]
    other = {"ipBlock": {"cidr": "10.0.0.0/8"}}
    assert policy(callers=[CALLER], **{"from": [other]})["ingress"][0]["from"] == [other, OWN]


def test_the_admin_port_is_for_the_operator_and_for_monitoring():
    assert policy()["ingress"][1] == {"ports": [{"protocol": "TCP", "port": 18090}], "from": [OPERATOR]}
    assert [ports(rule) for rule in policy(watchers=())["ingress"]] == [[18080], [18081]], (
        "no peer is not every peer"
    )


def test_the_way_out_is_open_until_it_is_listed():
    assert policy()["policyTypes"] == ["Ingress"]
    listed = policy(egress=[{"to": [CALLER]}])
    assert listed["policyTypes"] == ["Ingress", "Egress"]
    names, stores, replicas, users = listed["egress"]
    assert ports(names) == [53, 53]
    assert ports(stores) == [6379]
    assert replicas["to"] == [OWN]
    assert users == {"to": [CALLER]}
