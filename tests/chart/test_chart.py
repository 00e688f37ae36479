"""The chart as it renders: what is there, what is not, and what is refused."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from syrupy.assertion import SnapshotAssertion
from tests.kit.helm import CHART
from tests.kit.programs import ROOT
from tests.kit.schemas import refusals
from tools.cluster.binaries import program
from tools.version import version

from mcpace_operator.cluster.kinds import KINDS
from mcpace_operator.resource.server import RELEASE, SERVER_LABEL
from mcpace_operator.settings import OperatorSettings

INSTALLED = [[], *([f"--values={file}"] for file in sorted((ROOT / "charts/mcpace/ci").iterdir()))]
NAMES = [arguments[0].rpartition("/")[2] if arguments else "default" for arguments in INSTALLED]
IN_A_CLUSTER = "--api-versions=v1/Pod"
"""What Helm knows of any cluster, and not when it only prints."""
THE_VERSION = rf"(?<![\d.]){re.escape(version())}(?![\d.])"
"""A snapshot says where the version stands, and not which it is."""
MONITORED = "--api-versions=monitoring.coreos.com/v1"


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program("helm")), *arguments], capture_output=True, text=True)


def render(*arguments: str) -> dict[tuple[str, str], dict]:
    done = helm("template", "mcpace", CHART, "-n", "sys", IN_A_CLUSTER, *arguments)
    assert done.returncode == 0, done.stderr
    documents = [d for d in yaml.safe_load_all(done.stdout) if d]
    return {(d["kind"], d["metadata"]["name"]): d for d in documents}


def test_the_chart_is_linted_without_complaint():
    done = helm("lint", "--strict", CHART)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("arguments", INSTALLED, ids=NAMES)
def test_the_oldest_and_the_newest_kubernetes_know_every_field(arguments):
    for document in render(*arguments, MONITORED).values():
        assert not refusals(document)


@pytest.mark.parametrize("arguments", INSTALLED, ids=NAMES)
def test_what_is_rendered_changes_on_purpose_alone(arguments, snapshot: SnapshotAssertion):
    """`pytest tests/chart --snapshot-update` takes a change as it is."""
    objects = render(*arguments, MONITORED)
    for name, document in objects.items():
        if name[0] == "CustomResourceDefinition":
            document["spec"] = "crds/mcpservers.yaml"
        for file in document.get("data") or {}:
            if file.endswith(".json"):
                document["data"][file] = "charts/mcpace/files/dashboards"
    text = yaml.safe_dump_all((objects[key] for key in sorted(objects)), sort_keys=True)
    assert re.sub(THE_VERSION, "VERSION", text) == snapshot


CHART_FILES = sorted((ROOT / "charts/mcpace").rglob("*.yaml"))


@pytest.mark.parametrize("path", CHART_FILES, ids=lambda path: path.name)
def test_the_chart_is_written_in_blocks_and_flow_is_for_what_is_empty(path: Path):
    """Templates within flow style cannot be read, and a difference of them neither."""
    text = re.sub(r"\{\{.*?\}\}", "", path.read_text(), flags=re.DOTALL)
    for number, line in enumerate(text.splitlines(), 1):
        bare = re.sub(r"#.*|\".*?\"|'.*?'", "", line).replace("{}", "").replace("[]", "")
        assert path.parent.name == "files" or not set("[]{}") & set(bare), f"{path}:{number}: {line}"


def test_a_file_of_the_chart_holds_one_kind():
    for path in CHART_FILES:
        if "templates" in path.parts and path.name not in ("validate.yaml", "crd.yaml"):
            assert len(re.findall(r"^kind: ", path.read_text(), re.MULTILINE)) == 1, path


def test_by_default_there_are_two_stores_of_different_character():
    objects = render()
    cache, limits = (
        objects["ConfigMap", f"mcpace-redis-{store}"]["data"]["redis.conf"] for store in ("cache", "limits")
    )
    assert "maxmemory-policy allkeys-lru" in cache
    assert "appendonly no" in cache
    assert "maxmemory-policy noeviction" in limits
    assert "appendonly yes" in limits
    assert "volumeClaimTemplates" in objects["StatefulSet", "mcpace-redis-limits"]["spec"]
    assert "volumeClaimTemplates" not in objects["StatefulSet", "mcpace-redis-cache"]["spec"]


@pytest.mark.parametrize("namespace", ["sys", "n" * 56, "n" * 62], ids=len)
def test_redis_is_open_to_servers_of_this_release_and_to_those_older_than_its_label(namespace: str):
    objects = render("--set=redis.networkPolicy.enabled=true", "-n", namespace)
    settings = OperatorSettings(instance=environment(objects)["MCPACE_INSTANCE"]["value"])
    for store in ("cache", "limits"):
        (rule,) = objects["NetworkPolicy", f"mcpace-redis-{store}"]["spec"]["ingress"]
        _, own, older = [peer["podSelector"].get("matchExpressions") for peer in rule["from"]]
        known = {"key": SERVER_LABEL, "operator": "Exists"}
        assert own == [known, {"key": RELEASE, "operator": "In", "values": [settings.release]}]
        assert older == [known, {"key": RELEASE, "operator": "DoesNotExist"}]


def test_stores_of_ones_own_replace_the_embedded_ones():
    objects = render(
        "--set=redis.cache.existingSecret.name=mine", "--set=redis.limits.existingSecret.name=mine"
    )
    assert not [name for kind, name in objects if kind == "StatefulSet"]
    sources = {n: e.get("valueFrom", {}).get("secretKeyRef") for n, e in environment(objects).items()}
    assert sources["MCPACE_LIMITS_URL"] == {"name": "mine", "key": "url"}
    assert sources["MCPACE_MASTER_KEY"] == {"name": "mcpace", "key": "current", "optional": True}
    assert environment(objects)["MCPACE_EMBEDDED_STORES"]["value"] == ""


def test_an_authority_of_ones_own_reaches_the_operator():
    settings = ("redis.cache.existingSecret.name=mine", "redis.ca.existingSecret.name=pki")
    objects = render(*(f"--set={setting}" for setting in settings))
    assert environment(objects)["MCPACE_REDIS_CA"]["valueFrom"]["secretKeyRef"] == {
        "name": "pki",
        "key": "ca.crt",
    }
    assert "MCPACE_REDIS_CA" not in environment(render())


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


def verbs(rules):
    return {resource: set(rule["verbs"]) for rule in rules for resource in rule["resources"]}


def test_the_operator_may_write_secrets_and_read_none():
    granted = verbs(render()["ClusterRole", "mcpace-sys"]["rules"])
    assert granted["secrets"] == {"create", "patch"}
    assert not [r for r, allowed in granted.items() if allowed & {"*", "escalate", "bind", "impersonate"}]


def test_the_operator_may_do_what_it_does_and_nothing_else():
    granted = {
        (group, resource): set(rule["verbs"])
        for rule in render()["ClusterRole", "mcpace-sys"]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    needed = {(kind.group, kind.plural): set(kind.verbs.split()) for kind in KINDS.values() if kind.verbs}
    beside = {
        ("mcpace.dev", "mcpservers/status"): {"patch"},
        ("mcpace.dev", "mcpservers/finalizers"): {"update"},
    }
    assert granted == needed | beside


def test_with_a_list_of_namespaces_roles_are_granted_there_alone():
    objects = render("--set=watchNamespaces={one,two}")
    roles = [d for (kind, name), d in objects.items() if kind == "Role" and name == "mcpace"]
    everywhere = render()
    assert len(roles) == 1, "the same name in each namespace"
    assert verbs(roles[0]["rules"]) == verbs(everywhere["ClusterRole", "mcpace-sys"]["rules"])
    clusterwide = [name for kind, name in objects if kind == "ClusterRole"]
    assert clusterwide == ["mcpace-sys-edit", "mcpace-sys-view"]
    assert environment(objects)["MCPACE_NAMESPACES"]["value"] == "one,two"


def test_the_clusters_own_roles_see_and_change_servers():
    objects = render()
    view, edit = objects["ClusterRole", "mcpace-sys-view"], objects["ClusterRole", "mcpace-sys-edit"]
    aggregated = "rbac.authorization.k8s.io/aggregate-to-"
    assert {name.removeprefix(aggregated) for name in view["metadata"]["labels"] if name.startswith(aggregated)} == {
        "view", "edit", "admin",
    }  # fmt: skip
    assert aggregated + "view" not in edit["metadata"]["labels"]
    assert verbs(view["rules"])["mcpservers"] == {"get", "list", "watch"}
    assert "create" in verbs(edit["rules"])["mcpservers/scale"]


def environment(objects):
    (container,) = objects["Deployment", "mcpace"]["spec"]["template"]["spec"]["containers"]
    return {e["name"]: e for e in container["env"]}


def test_everything_a_platform_team_places_and_labels_is_placed_and_labelled():
    objects = render(
        "--set=commonLabels.team=agents", "--set=imagePullSecrets[0].name=pull",
        "--set=operator.priorityClassName=high", "--set=operator.nodeSelector.disk=ssd",
        "--set=operator.tolerations[0].operator=Exists", "--set=operator.podLabels.a=b",
        "--set=redis.priorityClassName=low",
        "--set=operator.image.digest=sha256:" + "a" * 64,
    )  # fmt: skip
    for (kind, name), document in objects.items():
        assert document["metadata"]["labels"]["team"] == "agents", (kind, name)
    template = objects["Deployment", "mcpace"]["spec"]["template"]
    pod = template["spec"]
    assert pod["priorityClassName"] == "high"
    assert pod["nodeSelector"] == {"disk": "ssd"}
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    assert template["metadata"]["labels"]["a"] == "b"
    assert pod["containers"][0]["image"] == "mcpace/operator@sha256:" + "a" * 64
    store = objects["StatefulSet", "mcpace-redis-limits"]["spec"]["template"]["spec"]
    assert (store["priorityClassName"], store["imagePullSecrets"]) == ("low", [{"name": "pull"}])


def test_the_operator_itself_is_among_the_peers_that_reach_admin_ports():
    objects = render("--set=servers.monitoring[0].namespaceSelector.matchLabels.team=prometheus")
    own, monitoring = json.loads(environment(objects)["MCPACE_WATCHERS"]["value"])
    labels = objects["Deployment", "mcpace"]["spec"]["template"]["metadata"]["labels"]
    assert own["podSelector"]["matchLabels"].items() <= labels.items()
    assert own["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "sys"}
    assert monitoring == {"namespaceSelector": {"matchLabels": {"team": "prometheus"}}}


def test_monitors_are_skipped_where_the_kind_is_unknown():
    wanted = "--set=metrics.serviceMonitor.enabled=true"
    assert not [kind for kind, _ in render(wanted) if kind == "ServiceMonitor"]
    known = render(wanted, MONITORED)
    port = known["ServiceMonitor", "mcpace"]["spec"]["endpoints"][0]["port"]
    assert port in [p["name"] for p in known["Service", "mcpace-metrics"]["spec"]["ports"]]


def test_helm_test_calls_a_server_where_servers_are_looked_after():
    assert render()["McpServer", "mcpace-test"]["metadata"]["namespace"] == "sys"
    objects = render("--set=watchNamespaces={one,two}")
    assert objects["McpServer", "mcpace-test"]["metadata"]["namespace"] == "one"
    (container,) = objects["Pod", "mcpace-test"]["spec"]["containers"]
    assert "http://mcpace-test.one.svc/mcp" in container["args"]


def images(objects, kind):
    specs = [d["spec"]["template"]["spec"] for (each, _), d in objects.items() if each == kind]
    return {c["image"] for s in specs for c in (*s.get("initContainers", ()), *s["containers"])}


def test_an_upgrade_begins_with_every_image_that_an_embedded_redis_needs():
    mine = [f"--set=redis.{store}.existingSecret.name=mine" for store in ("cache", "limits")]
    tags = [f"--set={part}.image.tag=new" for part in ("operator", "redis")]
    for settings in ([], tags, mine[:1], mine[1:]):
        objects = render(*settings)
        annotations = objects["Job", "mcpace-redis-images"]["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "pre-upgrade"
        assert len(images(objects, "Job")) == 2
        assert images(objects, "Job") == images(objects, "StatefulSet")
    assert not images(render(*mine), "Job")


def test_a_part_has_as_much_of_a_long_name_as_fits_and_what_a_volume_is_found_by_what_it_had():
    name = "a-release-whose-name-has-as-many-characters-as-may-be"
    done = helm("template", name, CHART, IN_A_CLUSTER)
    names = {(d["kind"], d["metadata"]["name"]) for d in yaml.safe_load_all(done.stdout) if d}
    assert ("Job", f"{name[:50].rstrip('-')}-redis-images") in names
    assert ("StatefulSet", f"{name[:39].rstrip('-')}-redis-limits") in names
    assert max(len(each) for _, each in names) <= 63


def test_policies_and_budgets_are_there_when_asked_for():
    asked = ("networkPolicy", "podDisruptionBudget")
    settings = [f"--set={part}.{what}.enabled=true" for part in ("operator", "redis") for what in asked]
    objects = render("--set=operator.replicas=2", *settings)
    for kind in ("NetworkPolicy", "PodDisruptionBudget"):
        assert {name for k, name in objects if k == kind} == {
            "mcpace", "mcpace-redis-cache", "mcpace-redis-limits",
        }  # fmt: skip
    assert not [kind for kind, _ in render() if kind in ("NetworkPolicy", "PodDisruptionBudget")]


@pytest.mark.parametrize("arguments", INSTALLED, ids=NAMES)
def test_rendered_twice_it_is_the_same_bytes_and_holds_no_secret(arguments):
    once, again = (helm("template", "mcpace", CHART, *arguments).stdout for _ in range(2))
    assert once
    assert once == again
    assert "\nkind: Secret\n" not in once


def test_a_key_of_ones_own_is_used_and_none_is_made():
    objects = render("--set=masterKey.existingSecret.name=mine")
    given = environment(objects)
    assert given["MCPACE_MASTER_KEY"]["valueFrom"]["secretKeyRef"] == {
        "name": "mine", "key": "current", "optional": False,
    }  # fmt: skip
    assert "MCPACE_MASTER_KEY_SECRET" not in given
    assert "secrets" not in verbs(objects["Role", "mcpace-lease"]["rules"])
    for store in ("cache", "limits"):
        volumes = objects["StatefulSet", f"mcpace-redis-{store}"]["spec"]["template"]["spec"]["volumes"]
        assert {"name": "key", "secret": {"secretName": "mine"}} in volumes
    assert verbs(render()["Role", "mcpace-lease"]["rules"])["secrets"] == {"create"}


@pytest.mark.parametrize("arguments", INSTALLED, ids=NAMES)
def test_everything_says_its_namespace_and_names_that_are_numbers_are_texts(arguments):
    done = helm("template", "456", CHART, "-n", "123", IN_A_CLUSTER, MONITORED, *arguments)
    assert done.returncode == 0, done.stderr
    for document in filter(None, yaml.safe_load_all(done.stdout)):
        kind, metadata = document["kind"], document["metadata"]
        clusterwide = kind.startswith("Cluster") or kind == "CustomResourceDefinition"
        assert ("namespace" in metadata) != clusterwide, (kind, metadata["name"])
        texts = [metadata["name"], metadata.get("namespace", ""), *metadata["labels"].values()]
        assert all(isinstance(text, str) for text in texts), (kind, texts)
        assert not refusals(document)


def test_where_the_cluster_chooses_users_nothing_of_the_release_names_one():
    objects = render("--set=podSecurity.fixedUserIds=false")
    for word in ("runAsUser", "runAsGroup", "fsGroup"):
        assert word not in yaml.safe_dump_all(
            d for (kind, _), d in objects.items() if kind != "CustomResourceDefinition"
        )
        assert word in yaml.safe_dump_all(render().values())
    assert environment(objects)["MCPACE_FIXED_USER_IDS"]["value"] == "false"


def test_servers_are_given_the_names_of_the_releases_pull_secrets():
    objects = render("--set=imagePullSecrets[0].name=one", "--set=imagePullSecrets[1].name=two")
    assert environment(objects)["MCPACE_PULL_SECRETS"]["value"] == "one,two"


def test_what_is_printed_for_kubectl_holds_no_hook_that_would_stay():
    assert "helm.sh/hook" not in helm("template", "mcpace", CHART).stdout


def test_an_operator_that_cannot_start_takes_no_working_one_with_it():
    strategy = render()["Deployment", "mcpace"]["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("replicas=2", "additional properties 'replicas' not allowed"),
        ("redis.cache.maxMemory=lots", "maxMemory"),
        ("operator.imagePullPolicy=Sometimes", "imagePullPolicy"),
        ("operator.image.digest=latest", "digest"),
        ("metrics.grafanaUrl=grafana", "grafanaUrl"),
        ("metrics.dashboards.folder.a=b", "folder"),
        ("redis.limits.persistence.enable=true", "additional properties 'enable' not allowed"),
        ("rbac.create=false", "name the service account"),
        ("serviceAccount.create=false", "serviceAccount.name"),
        ("operator.podDisruptionBudget.enabled=true", "set operator.replicas to 2"),
        ("redis.ca.existingSecret.name=x", "redis.limits.existingSecret or redis.cache.existingSecret"),
        ("redis.cache.existingSecret.name=x,redis.cache.maxMemory=1gb", "set one of them"),
    ],
)
def test_a_wrong_value_is_refused(setting, words):
    done = helm("template", "mcpace", CHART, f"--set={setting}")
    assert done.returncode != 0
    assert words in done.stderr
