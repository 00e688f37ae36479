"""How the operator starts a sidecar, and what of it it asks."""

import re

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


def test_probes_ask_what_the_admin_port_answers():
    pod = built(egress=[{"name": "a", "url": "https://a.example", "port": 9101}])["Deployment"]["spec"][
        "template"
    ]
    paths = re.findall(
        r"'path': '([^'?]*)", str([c for k in ("initContainers", "containers") for c in pod["spec"][k]])
    )
    assert {path for path in paths if path.startswith("/")} == {Path.HEALTHZ, Path.READYZ, Path.SERVERZ}
