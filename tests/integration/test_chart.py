"""The chart as it renders: what is there, what is not, and what is refused."""

import subprocess

import pytest
import yaml
from tests.cluster.binaries import program
from tests.conftest import ROOT

CHART = str(ROOT / "charts/mcpace")


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program("helm")), *arguments], capture_output=True, text=True)


def render(*arguments: str) -> dict[tuple[str, str], dict]:
    done = helm("template", "mcpace", CHART, "-n", "sys", *arguments)
    assert done.returncode == 0, done.stderr
    documents = [d for d in yaml.safe_load_all(done.stdout) if d]
    return {(d["kind"], d["metadata"]["name"]): d for d in documents}


def test_the_chart_is_linted_without_complaint():
    done = helm("lint", "--strict", CHART)
    assert done.returncode == 0, done.stdout


def test_by_default_there_are_two_stores_of_different_character():
    objects = render()
    config = objects["Secret", "mcpace"]["stringData"]
    assert "maxmemory-policy allkeys-lru" in config["cache.conf"]
    assert "appendonly no" in config["cache.conf"]
    assert "maxmemory-policy noeviction" in config["limits.conf"]
    assert "appendonly yes" in config["limits.conf"]
    assert "volumeClaimTemplates" in objects["StatefulSet", "mcpace-redis-limits"]["spec"]
    assert "volumeClaimTemplates" not in objects["StatefulSet", "mcpace-redis-cache"]["spec"]


def test_stores_of_ones_own_replace_the_embedded_ones():
    objects = render(
        "--set=redis.cache.existingSecret.name=mine", "--set=redis.limits.existingSecret.name=mine"
    )
    assert not [name for kind, name in objects if kind == "StatefulSet"]
    (container,) = objects["Deployment", "mcpace"]["spec"]["template"]["spec"]["containers"]
    sources = {e["name"]: e["valueFrom"]["secretKeyRef"] for e in container["env"] if "valueFrom" in e}
    assert sources["MCPACE_LIMITS_URL"] == {"name": "mine", "key": "url"}
    assert sources["MCPACE_MASTER_KEY"]["name"] == "mcpace"


def test_the_crd_is_the_generated_one_kept_and_optional():
    crd = render()["CustomResourceDefinition", "mcpservers.mcpace.dev"]
    generated = yaml.safe_load((ROOT / "crds/mcpservers.yaml").read_text())
    assert crd["spec"] == generated["spec"]
    assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert (
        "annotations"
        not in render("--set=crds.keep=false")["CustomResourceDefinition", "mcpservers.mcpace.dev"][
            "metadata"
        ]
    )
    assert not [
        kind for kind, _ in render("--set=crds.enabled=false") if kind == "CustomResourceDefinition"
    ]


def test_the_operator_may_write_secrets_and_read_none():
    rules = render()["ClusterRole", "mcpace-sys"]["rules"]
    verbs = {resource: set(rule["verbs"]) for rule in rules for resource in rule["resources"]}
    assert verbs["secrets"] == {"create", "patch"}
    assert not [
        resource for resource, granted in verbs.items() if granted & {"*", "delete", "escalate", "bind"}
    ]


def test_no_password_stands_in_a_command_line_or_a_configmap():
    objects = render()
    password = objects["Secret", "mcpace"]["stringData"]["redisPassword"]
    for (kind, name), document in objects.items():
        if kind != "Secret":
            assert password not in yaml.safe_dump(document), (kind, name)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("replicas=2", "additional properties 'replicas' not allowed"),
        ("redis.cache.maxMemory=lots", "maxMemory"),
        ("operator.imagePullPolicy=Sometimes", "imagePullPolicy"),
    ],
)
def test_a_wrong_value_is_refused(setting, words):
    done = helm("template", "mcpace", CHART, f"--set={setting}")
    assert done.returncode != 0
    assert words in done.stderr
