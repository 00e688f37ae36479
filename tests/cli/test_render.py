"""`mcpace render`: the operator's children without a cluster, and without a secret."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kit.laptop import mcpace
from tests.kit.mcpserver import everything

from mcpace_operator.children import children
from mcpace_operator.cluster.kinds import OPTIONAL
from mcpace_operator.comparison.drift import stamped
from mcpace_operator.masterkey import MasterKey

KEY = "a-master-key-of-more-than-32-characters"
UID = "4ad4d7b8-6b1c-4b8e-9a59-58f6a43f1a0b"


def manifest(tmp_path: Path, *specs: dict[str, Any]) -> Path:
    path = tmp_path / "manifest.yaml"
    servers = [
        {
            "apiVersion": "mcpace.dev/v1alpha1",
            "kind": "McpServer",
            "metadata": {"name": f"weather{number or ''}"},
            "spec": {"image": "weather:1"} | spec,
        }
        for number, spec in enumerate(specs)
    ]
    path.write_text(yaml.safe_dump_all(servers))
    return path


def test_every_child_is_printed_and_nothing_else(tmp_path: Path):
    path = manifest(tmp_path, {"networkPolicy": {}})
    done = mcpace("render", path)
    assert done.returncode == 0, done.stderr
    printed = list(yaml.safe_load_all(done.stdout))
    assert {each["kind"] for each in printed} == {
        "ServiceAccount", "Secret", "ConfigMap", "NetworkPolicy", "Service", "Deployment", "PodDisruptionBudget",
        *OPTIONAL,
    }  # fmt: skip
    assert "&id" not in done.stdout
    listed = json.loads(mcpace("render", path, "-o", "json", "--no-prometheus").stdout)
    assert listed["kind"] == "List"
    assert listed["items"] == [each for each in printed if each["kind"] not in OPTIONAL]
    head, *rows = mcpace("render", path, "-o", "table").stdout.splitlines()
    assert head.split() == ["KIND", "NAMESPACE", "NAME"]
    assert [tuple(row.split()) for row in rows] == [
        (each["kind"], "default", each["metadata"]["name"]) for each in printed
    ]


def test_it_is_what_the_operators_own_code_makes(tmp_path: Path):
    context = everything()
    spec = dict(context.server.spec)
    path = manifest(tmp_path, spec)
    done = mcpace(
        "render", path, "-n", "ns", "--uid", "uid-1", "-o", "json",
        MCPACE_MASTER_KEY="k" * 32, MCPACE_LIMITS_URL="redis://limits:6379", MCPACE_CACHE_URL="redis://cache:6379",
    )  # fmt: skip
    printed = {(each["kind"], each["metadata"]["name"]): each for each in json.loads(done.stdout)["items"]}
    # Its URLs have other passwords than those of the kit, so whatever bears the Secret's hash differs.
    made = {(each["kind"], each["metadata"]["name"]): stamped(each) for each in children(context)}
    assert printed.keys() == made.keys()
    for name, child in made.items():
        if name[0] not in ("Secret", "Deployment"):
            assert printed[name] == child, name


def test_nothing_secret_is_printed_however_it_is_shown(tmp_path: Path):
    path = manifest(tmp_path, {"clients": {"apiKeys": [{"tier": "pro", "secretRef": {"name": "keys"}}]}})
    master = MasterKey(KEY.encode())
    secrets = [KEY, "hunter2", *(master.derive(purpose, UID) for purpose in ("redis", "admin", "session"))]
    for form in ("yaml", "json", "table"):
        done = mcpace(
            "render", path, "--uid", UID, "-o", form, MCPACE_MASTER_KEY=KEY,
            MCPACE_LIMITS_URL="redis://:hunter2@limits:6379", MCPACE_CACHE_URL="redis://:hunter2@cache:6379",
            MCPACE_REDIS_CA="-----BEGIN CERTIFICATE-----",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said = done.stdout + done.stderr
        for secret in secrets:
            assert secret not in said
            assert base64.b64encode(secret.encode()).decode().rstrip("=")[:-2] not in said
        if form == "yaml":
            (secret,) = [each for each in yaml.safe_load_all(done.stdout) if each["kind"] == "Secret"]
            assert {"admin-token", "session-key", "limits-url", "cache-url", "redis-ca"} == set(
                secret["data"]
            )
            with pytest.raises(ValueError, match="Only base64"):
                base64.b64decode(secret["data"]["admin-token"], validate=True)
        assert "not printed" in done.stderr


def test_what_is_as_of_no_cluster_is_said(tmp_path: Path):
    path = manifest(tmp_path, {})
    said = mcpace("render", path).stderr
    assert "--uid" in said
    assert "Without MCPACE_MASTER_KEY" in said
    whole = mcpace("render", path, "--uid", UID, MCPACE_MASTER_KEY=KEY).stderr
    assert "--uid" not in whole
    assert "Without" not in whole


def test_of_several_servers_all_are_rendered_or_the_one_that_is_named(tmp_path: Path):
    path = manifest(tmp_path, {}, {"transport": "stdio", "command": ["x"]})
    both = list(yaml.safe_load_all(mcpace("render", path).stdout))
    one = list(yaml.safe_load_all(mcpace("render", path, "--name", "weather1").stdout))
    assert [
        each for each in both if each["metadata"]["labels"]["app.kubernetes.io/name"] == "weather1"
    ] == one
    assert len(both) > len(one) > 5


def test_a_manifest_that_no_cluster_takes_is_not_rendered(tmp_path: Path):
    path = manifest(tmp_path, {"port": "x"})
    done = mcpace("render", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "spec.port: write a whole number" in done.stderr
    path.write_text(path.read_text().replace("  image: weather:1\n", "").replace("port: x", "port: 8000"))
    assert "spec.image: is required, and missing" in mcpace("render", path).stderr


def test_the_plain_install_renders(tmp_path: Path):
    """The interpreter is told that there is neither kopf nor a Kubernetes client."""
    code = (
        "import sys\n"
        "for name in ('kopf', 'kubernetes', 'aiohttp'): sys.modules[name] = None\n"
        f"from mcpace_cli.__main__ import main; sys.argv = ['mcpace', 'render', {str(manifest(tmp_path, {}))!r}]; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "kind: Deployment" in done.stdout
