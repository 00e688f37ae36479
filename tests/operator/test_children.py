"""What a server is made of: pure functions of its spec."""

import base64
from datetime import UTC, datetime

import yaml
from hypothesis import given
from hypothesis import strategies as st

from mcpace_operator.children import children
from mcpace_operator.children.meta import Context, Credentials
from mcpace_operator.models import parse_spec
from mcpace_operator.server import Key, Server
from mcpace_operator.settings import OperatorSettings
from mcpace_operator.status import REASONS, StoreState, invalid, status
from mcpace_sidecar.config import SidecarConfig, parse

SETTINGS = OperatorSettings(master_key=b"k" * 32)
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
UP, DOWN, NONE = StoreState(True), StoreState(False), StoreState(None)


def context(status=None, settings=SETTINGS, kinds=(), **spec):
    spec = {"image": "weather:1", **spec}
    server = Server(Key("ns", "weather"), "uid-1", 3, spec, status or {})
    credentials = Credentials("redis://u:p@limits:6379", "redis://u:p@cache:6379")
    return Context(server, parse_spec(spec), settings, credentials, frozenset(kinds))


def built(**spec):
    """The children by kind; of the two Services, the one for callers."""
    found = [
        child for child in children(context(**spec)) if not child["metadata"]["name"].endswith("-metrics")
    ]
    assert len({child["kind"] for child in found}) == len(found)
    return {child["kind"]: child for child in found}


def pod(**spec):
    return built(**spec)["Deployment"]["spec"]["template"]


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
    assert sidecar["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert sidecar["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert pod["automountServiceAccountToken"] is False


def test_the_configmap_holds_what_was_set_and_the_sidecar_reads_it_with_its_own_class():
    limits = {"tiers": [{"name": "free", "requestsPerMinute": 5}]}
    text = built(rateLimits=limits, path="/other", replicas=3)["ConfigMap"]["data"]["config.yaml"]
    assert yaml.safe_load(text) == {"path": "/other", "rateLimits": limits}
    config, ignored = parse(SidecarConfig, yaml.safe_load(text))
    assert ignored == ()
    assert config.rate_limits.tiers[0].requests_per_minute == 5


@given(minute=st.integers(1, 1_000_000))
def test_a_limit_is_nowhere_but_in_the_configmap(minute):
    one, other = built(), built(rateLimits={"tiers": [{"name": "free", "requestsPerMinute": minute}]})
    assert {kind for kind in one if one[kind] != other[kind]} == {"ConfigMap"}


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


def test_each_server_has_its_own_passwords():
    assert len({SETTINGS.derive(p, u) for p in ("redis", "admin") for u in ("a", "b")}) == 4


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


def conditions(document):
    return {c["type"]: (c["status"], c["reason"]) for c in document["conditions"]}


DONE = {
    "generation": 2,
    "observedGeneration": 2,
    "replicas": 2,
    "updatedReplicas": 2,
    "availableReplicas": 2,
    "readyReplicas": 2,
}


def test_ready_means_every_replica_is_current_and_answers():
    ctx = context(replicas=2)
    assert conditions(status(ctx, DONE, None, NONE, NONE, None, NOW))["Ready"] == (
        "True",
        "AllReplicasReady",
    )
    for change in ({"generation": 3}, {"updatedReplicas": 1}, {"availableReplicas": 1}, {"replicas": 3}):
        partial = status(ctx, DONE | change, None, NONE, NONE, None, NOW)
        assert conditions(partial)["Ready"] == ("False", "Progressing"), change
    assert conditions(status(ctx, {}, None, NONE, NONE, None, NOW))["Available"][0] == "False"


def test_a_store_that_is_down_is_said_with_what_happens_meanwhile():
    ctx = context(rateLimits={"whenRedisIsDown": "open"}, cache={"tools": []})
    said = status(ctx, DONE, None, DOWN, UP, None, NOW)
    assert conditions(said)["LimitsEnforced"] == ("False", "RedisDown")
    assert conditions(said)["CacheReady"] == ("True", "RedisAnswers")
    assert "not enforced" in next(c["message"] for c in said["conditions"] if c["type"] == "LimitsEnforced")


def test_a_transition_time_changes_with_the_status_alone():
    before = status(context(replicas=2), {}, None, NONE, NONE, None, NOW)
    later = NOW.replace(hour=13)
    again = status(context(status=before, replicas=2), {}, None, NONE, NONE, None, later)
    assert again == before
    done = status(context(status=before, replicas=2), DONE, None, NONE, NONE, None, later)
    assert all(c["lastTransitionTime"] == "2026-11-22T13:00:00Z" for c in done["conditions"])


def test_an_unusable_spec_keeps_the_address_and_says_what_to_write():
    server = Server(Key("ns", "weather"), "u", 4, {}, {"url": "http://x", "conditions": []})
    said = invalid(server, "image: Field required", NOW)
    assert said["url"] == "http://x"
    assert conditions(said)["Ready"] == ("False", "InvalidSpec")


def test_every_reason_is_documented():
    for reason in REASONS:
        assert reason[0].isupper()
        assert REASONS[reason].endswith(".")
