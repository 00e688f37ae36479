"""What a server is made of: pure functions of its spec."""

import base64

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.mcpserver import SETTINGS, built, context, everything
from tests.kit.schemas import refusals

from mcpace_operator.children import children
from mcpace_operator.comparison.drift import fingerprint
from mcpace_operator.masterkey import MasterKey
from mcpace_operator.resource.monitoring import ServerMonitoring
from mcpace_operator.resource.workload import GIVEN
from mcpace_operator.settings import OperatorSettings
from mcpace_sidecar.contract.config import SidecarConfig, parse
from mcpace_sidecar.contract.config.traffic import Monitoring


def test_a_bare_image_is_enough():
    kinds = built()
    assert set(kinds) == {
        "ServiceAccount",
        "Secret",
        "ConfigMap",
        "Service",
        "Deployment",
        "PodDisruptionBudget",
    }
    assert yaml.safe_load(kinds["ConfigMap"]["data"]["config.yaml"]) == {}
    pod = kinds["Deployment"]["spec"]["template"]["spec"]
    (sidecar,) = pod["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert sidecar["readinessProbe"]["httpGet"]["path"] == "/readyz?wait"
    assert pod["automountServiceAccountToken"] is False


def test_the_configmap_holds_what_was_set_and_the_sidecar_reads_it_with_its_own_class():
    limits = {"tiers": [{"name": "free", "requestsPerMinute": 5}]}
    text = built(rateLimits=limits, path="/other", replicas=3)["ConfigMap"]["data"]["config.yaml"]
    assert yaml.safe_load(text) == {"path": "/other", "rateLimits": limits}
    config, ignored = parse(SidecarConfig, yaml.safe_load(text))
    assert ignored == ()
    assert config.rate_limits.tiers[0].requests_per_minute == 5


def test_of_monitoring_the_sidecar_is_told_its_own_part_alone():
    traces = {"endpoint": "http://collector:4318"}
    written = ServerMonitoring.model_validate({"traces": traces}).model_dump(by_alias=True, mode="json")
    text = built(monitoring=written)["ConfigMap"]["data"]["config.yaml"]
    assert set(yaml.safe_load(text)["monitoring"]) == {
        each.alias for each in Monitoring.model_fields.values()
    }


@given(minute=st.integers(1, 1_000_000))
def test_a_limit_is_nowhere_but_in_the_configmap(minute):
    one, other = built(), built(rateLimits={"tiers": [{"name": "free", "requestsPerMinute": minute}]})
    assert {kind for kind in one if one[kind] != other[kind]} == {"ConfigMap"}


def test_the_oldest_and_the_newest_kubernetes_know_every_field_of_every_child():
    found = list(children(everything()))
    assert {"HorizontalPodAutoscaler", "NetworkPolicy"} <= {child["kind"] for child in found}
    for child in found:
        assert not refusals(child)


def test_children_are_the_same_every_time():
    assert built(env=[{"name": "A", "value": "1"}]) == built(env=[{"name": "A", "value": "1"}])


def test_passwords_stand_in_the_secret_alone():
    kinds = built()
    secrets = {k: base64.b64decode(v).decode() for k, v in kinds.pop("Secret")["data"].items()}
    assert secrets["limits-url"] == "redis://u:p@limits:6379"
    for value in secrets.values():
        assert value not in repr(kinds)
    assert "redis://" not in repr(context().credentials)
    assert repr(b"k" * 32) not in repr(SETTINGS)


def test_an_authority_for_redis_reaches_the_sidecar():
    with_authority = OperatorSettings(master_key=MasterKey(b"k" * 32), redis_authority="PEM")
    kinds = {child["kind"]: child for child in children(context(settings=with_authority))}
    assert base64.b64decode(kinds["Secret"]["data"]["redis-ca"]) == b"PEM"
    (sidecar,) = kinds["Deployment"]["spec"]["template"]["spec"]["initContainers"]
    (variable,) = [v for v in sidecar["env"] if v["name"] == "MCPACE_REDIS_CA"]
    assert variable["valueFrom"]["secretKeyRef"]["key"] == "redis-ca"


def test_each_server_has_its_own_passwords():
    purposes = ("redis", "admin", "session")
    assert len({SETTINGS.master_key.derive(p, u) for p in purposes for u in ("a", "b")}) == 6


def keyed(key):
    """(keys of sessions in the Secret, the environment they reach, what pods note of the Secret)."""
    made = {c["kind"]: c for c in children(context(settings=OperatorSettings(master_key=key)))}
    held = {k: base64.b64decode(v).decode() for k, v in made["Secret"]["data"].items() if "session" in k}
    template = made["Deployment"]["spec"]["template"]
    given = {v["valueFrom"]["secretKeyRef"]["key"]: v for v in template["spec"]["initContainers"][0]["env"]}
    reached = {given[key]["name"] for key in held}
    return held, reached, template["metadata"]["annotations"][GIVEN]


def test_the_keys_of_sessions_follow_the_master_key_and_the_one_before():
    one, other = b"1" * 32, b"2" * 32
    before, *_ = keyed(MasterKey(one))
    held, reached, _ = keyed(MasterKey(other, previous=one))
    assert held["session-key-previous"] == before["session-key"]
    assert held["session-key"] != before["session-key"]
    assert all(len(bytes.fromhex(value)) == 32 for value in held.values())
    assert reached == {"MCPACE_SESSION_KEY", "MCPACE_SESSION_KEY_PREVIOUS"}
    assert set(before) == {"session-key"}


def test_pods_are_made_anew_with_a_new_key_of_sessions_and_neither_for_their_first_nor_for_one_less():
    one, other = b"1" * 32, b"2" * 32
    made = {c["kind"]: c for c in children(context(settings=OperatorSettings(master_key=MasterKey(one))))}
    older = {k: v for k, v in made["Secret"]["data"].items() if not k.startswith("session")}
    *_, noted = keyed(MasterKey(one))
    assert noted == fingerprint(made["Secret"] | {"data": older})
    *_, changed = keyed(MasterKey(other, previous=one))
    assert noted != changed == keyed(MasterKey(other))[2]


def test_key_secrets_are_mounted_in_the_sidecar_alone_and_may_be_missing():
    keys = [{"tier": "pro", "secretRef": {"name": "weather-pro"}}]
    pod = built(clients={"apiKeys": keys})["Deployment"]["spec"]["template"]["spec"]
    assert {"name": "mcpace-keys-0", "secret": {"secretName": "weather-pro", "optional": True}} in pod[
        "volumes"
    ]
    mounts = [m["mountPath"] for m in pod["initContainers"][0]["volumeMounts"]]
    assert "/etc/mcpace/keys/weather-pro" in mounts
    assert "volumeMounts" not in pod["containers"][0]


def test_what_the_user_says_of_the_security_context_counts():
    containers = built(securityContext={"runAsUser": 0})["Deployment"]["spec"]["template"]["spec"][
        "containers"
    ]
    assert containers[0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "seccompProfile": {"type": "RuntimeDefault"},
        "runAsUser": 0,
    }


ODD = [
    None, "x", 5, True, [], {}, [None], ["x"], [[1]], {"name": []}, [{"name": []}], [{"name": {}}], [{"name": None}],
    [{"name": "mcpace", "env": "x"}], [{"name": "mcpace", "env": [{"name": []}]}], [{"name": "server", "ports": 5}],
    [{"name": "server", "volumeMounts": [{"mountPath": {}}]}], [{"mountPath": []}],
]  # fmt: skip
LISTS = ("env", "envFrom", "volumes", "volumeMounts", "imagePullSecrets")


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_what_is_written_as_in_a_pod_may_be_anything_and_is_left_to_the_api_server(odd):
    """Or else nobody would ever say what is wrong with it."""
    specs = [
        {"podTemplate": {"spec": {name: odd}}}
        for name in ("containers", "initContainers", "volumes", "imagePullSecrets", "nodeSelector")
    ]
    specs += [{name: [{"name": odd, "mountPath": odd}]} for name in LISTS]
    specs += [{"env": [{"name": "A", "value": odd}], "database": {"secretRef": {"name": "db"}}}]
    if isinstance(odd, dict):
        specs += [{"securityContext": odd}, {"autoscaling": {"maxReplicas": 2, "behavior": odd}}]
        specs += [{"networkPolicy": {"from": [odd], "egress": [odd]}}]
    settings = OperatorSettings(master_key=MasterKey(b"k" * 32), pull_secrets=("registry",))
    for spec in specs:
        made = children(context(settings=settings, **spec))
        assert made == children(context(settings=settings, **spec))
