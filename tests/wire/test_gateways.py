"""docs/gateways.md: its manifests are such as Kubernetes takes and lead to the operator's Service, its commands work."""

import asyncio
import os
import re

import pytest
import yaml
from tests.kit.mcpserver import context
from tests.kit.programs import ROOT
from tests.kit.schemas import refusals
from tests.kit.sidecars import Start

from mcpace_operator.children import children, service
from mcpace_operator.resource.models import parse_spec

PAGE = (ROOT / "docs/gateways.md").read_text()
MANIFESTS = {d["kind"]: d for d in map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))}
COMMANDS = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_shows_each_way_once():
    assert set(MANIFESTS) == {"McpServer", "Ingress", "HTTPRoute", "Service"}
    assert len(COMMANDS) == 2


@pytest.mark.parametrize("kind", ["Ingress", "Service"])
def test_every_supported_kubernetes_takes_the_manifest(kind: str):
    assert not refusals(MANIFESTS[kind])


def test_the_manifest_of_the_server_is_valid():
    parse_spec(MANIFESTS["McpServer"]["spec"])


def test_every_way_leads_to_the_port_that_the_operator_opens():
    made = [child for child in children(context()) if child["kind"] == "Service"]
    (own,) = [child for child in made if not child["metadata"]["name"].endswith("-metrics")]
    (port,) = own["spec"]["ports"]
    for rule in MANIFESTS["Ingress"]["spec"]["rules"]:
        for path in rule["http"]["paths"]:
            assert path["backend"]["service"] == {
                "name": own["metadata"]["name"],
                "port": {"name": port["name"]},
            }
    for rule in MANIFESTS["HTTPRoute"]["spec"]["rules"]:
        assert rule["backendRefs"] == [{"name": own["metadata"]["name"], "port": service.PORT}]
    ours = MANIFESTS["Service"]["spec"]
    assert ours["selector"] == own["spec"]["selector"]
    assert ours["ports"][0]["targetPort"] == port["targetPort"]
    assert MANIFESTS["Service"]["metadata"]["name"] not in {child["metadata"]["name"] for child in made}


@pytest.mark.parametrize("command", COMMANDS, ids=["2026-07-28", "handshake"])
async def test_the_command_calls_a_tool(command: str, weather: int, start: Start):
    sidecar = await start(weather)
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", command, env=os.environ | {"URL": sidecar.url},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert '"degrees":-3' in out.decode().replace(" ", ""), out.decode()
