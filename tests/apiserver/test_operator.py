"""The operator on a real API server: what it makes, mends, says and leaves alone."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.kit.operator import Operator
from tests.kit.programs import ROOT
from tests.kit.redis import RedisServer
from tests.kit.waiting import until
from tests.kit.wrong import WRONG
from tools.cluster.kubectl import Kubectl, manifest

SPEC: dict[str, Any] = {
    "image": "weather:1",
    "replicas": 2,
    "rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 10}]},
    "cache": {"tools": [{"name": "get-weather", "ttl": "5m"}]},
}


async def test_a_manifest_becomes_its_children_and_says_where_it_is(api: Kubectl, operator: Operator):
    api.apply("weather", **SPEC)
    status = await until(lambda: (api.get("mcpserver/weather") or {}).get("status"), "a status")
    assert status["url"] == "http://weather.default.svc:80/mcp"
    assert status["observedGeneration"] == 1
    deployment = await until(lambda: api.get("deployment/weather"), "the Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert [c["name"] for c in pod["initContainers"]] == ["mcpace"]
    assert pod["initContainers"][0]["restartPolicy"] == "Always"
    assert deployment["spec"]["replicas"] == 2
    for kind in ("service", "configmap", "serviceaccount", "deployment"):
        owner = api.get(f"{kind}/weather")["metadata"]["ownerReferences"][0]
        assert (owner["kind"], owner["controller"]) == ("McpServer", True), kind
    secret = api.get("secret/weather-mcpace")["data"]
    assert base64.b64decode(secret["limits-url"]).startswith(b"redis://mcpace%3Adefault%2Fweather:")
    columns = api.ok("get", "mcps").split("\n")
    assert columns[0].split() == [
        "NAME",
        "READY",
        "REPLICAS",
        "P95",
        "CALLS/S",
        "HITS",
        "ERRORS",
        "LIMITED",
        "URL",
        "AGE",
    ]
    assert api.ok("get", "mcpace").startswith("NAME"), "the category"


async def test_a_second_reconcile_and_a_restart_change_nothing(api: Kubectl, operator: Operator):
    api.apply("weather", **SPEC)
    await until(lambda: api.get("deployment/weather"), "the Deployment")
    before = await operator.settled(api)
    api.ok("annotate", "configmap", "weather", "by-hand=1")
    api.ok("label", "mcpserver", "weather", "touched=1")
    touched = await operator.settled(api)
    assert {k for k in before if before[k] != touched[k]} == {"ConfigMap/weather", "McpServer/weather"}
    operator.stop()
    operator.start()
    await until(
        lambda: operator.log.read_text().count("Watching 1 servers") == 1, "the operator to be back"
    )
    assert await operator.settled(api) == touched


async def test_a_child_changed_or_deleted_by_hand_is_put_back(api: Kubectl, operator: Operator):
    api.apply("weather", **SPEC)
    await until(lambda: api.get("deployment/weather"), "the Deployment")
    await operator.settled(api)
    api.ok("scale", "deployment", "weather", "--replicas=7")
    await until(
        lambda: api.get("deployment/weather")["spec"]["replicas"] == 2, "the replicas to be 2 again"
    )
    api.ok("patch", "service", "weather", "--type=json", "-p",
           '[{"op":"replace","path":"/spec/ports/0/targetPort","value":9999}]')  # fmt: skip
    await until(
        lambda: api.get("service/weather")["spec"]["ports"][0]["targetPort"] == "mcp", "the target port"
    )
    api.ok("patch", "configmap", "weather", "-p", '{"data":{"config.yaml":"{}"}}')
    await until(lambda: "free" in api.get("configmap/weather")["data"]["config.yaml"], "the configuration")
    for kind in ("deployment", "service", "configmap", "serviceaccount"):
        uid = api.get(f"{kind}/weather")["metadata"]["uid"]
        api.ok("delete", kind, "weather")
        await until(
            lambda kind=kind, uid=uid: (api.get(f"{kind}/weather") or {}).get("metadata", {}).get("uid") not in (uid, None),
            f"the {kind} to be there again",
        )  # fmt: skip


def told(api: Kubectl, name: str = "weather") -> list[tuple[str, str]]:
    """The events of the server that there is: reason and note, as `kubectl describe` shows them."""
    uid = api.get(f"mcpserver/{name}")["metadata"]["uid"]
    events = api.items("events.events.k8s.io", f"--field-selector=regarding.uid={uid}")
    return [(event["reason"], event["note"]) for event in events]


async def test_what_was_put_back_is_told_and_what_is_fought_over_is_fought_slowly(
    api: Kubectl, operator: Operator
):
    api.apply("weather", **SPEC)
    await until(lambda: api.get("deployment/weather"), "the Deployment")
    await operator.settled(api)

    def edit(value: int) -> None:
        patch = f'[{{"op":"replace","path":"/spec/ports/0/targetPort","value":{value}}}]'
        api.ok("patch", "service", "weather", "--type=json", "--field-manager=somebody", "-p", patch)

    def put_back() -> bool:
        return api.get("service/weather")["spec"]["ports"][0]["targetPort"] == "mcp"

    for number in range(6):
        edit(9000 + number)
        await until(put_back, "the target port")
    await until(
        lambda: api.conditions().get("ChildrenInSync") == ("False", "ChildContested"),
        "the contest to be said",
    )
    (condition,) = [
        c for c in api.get("mcpserver/weather")["status"]["conditions"] if c["type"] == "ChildrenInSync"
    ]
    assert "Service weather (by somebody)" in condition["message"]
    edit(9999)
    await until(
        lambda: "somebody else keeps changing Service weather" in operator.log.read_text(), "the pause"
    )
    assert not put_back()
    await until(lambda: "ChildContested" in dict(told(api)), "the contest to be told")
    reasons = [reason for reason, _ in told(api)]
    assert reasons.count("PutBack") == reasons.count("ChildContested") == 1, "told, and told once"
    assert (
        "PutBack",
        "Service weather was changed by somebody, and put back: write what is wanted in the McpServer",
    ) in told(api)
    api.apply("weather", **SPEC | {"rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 78}]}})
    await until(lambda: "78" in api.get("configmap/weather")["data"]["config.yaml"], "the rest to go on")


async def test_a_changed_limit_changes_the_configmap_and_no_pod(api: Kubectl, operator: Operator):
    api.apply("weather", **SPEC)
    await until(lambda: api.get("deployment/weather"), "the Deployment")
    before = await operator.settled(api)
    api.apply("weather", **SPEC | {"rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 77}]}})
    await until(lambda: "77" in api.get("configmap/weather")["data"]["config.yaml"], "the new limit")
    after = await operator.settled(api)
    assert {k for k in before if before[k] != after[k]} == {"ConfigMap/weather", "McpServer/weather"}
    assert api.get("mcpserver/weather")["status"]["observedGeneration"] == 2


async def test_deleting_a_server_deletes_its_children_and_its_redis_user(
    api: Kubectl, operator: Operator, redis_server: RedisServer
):
    api.apply("weather", **SPEC)
    await until(lambda: api.get("deployment/weather"), "the Deployment")
    with redis_server.client() as client:
        assert "mcpace:default/weather" in client.acl_users()
        api.ok("delete", "mcpserver", "weather")
        for what in ("deployment", "service", "configmap"):
            await until(lambda what=what: api.get(f"{what}/weather") is None, f"the {what} to go")
        await until(lambda: api.get("secret/weather-mcpace") is None, "the secret to go")
        await until(lambda: "mcpace:default/weather" not in client.acl_users(), "the Redis user to go")


async def test_a_server_that_waits_for_its_deletion_is_left_to_the_garbage_collector(
    api: Kubectl, operator: Operator
):
    api.apply("weather", **SPEC)
    await until(lambda: api.get("deployment/weather"), "the Deployment")
    held = {"metadata": {"finalizers": ["example.com/held"]}}
    api.ok("patch", "mcpserver", "weather", "--type=merge", "-p", json.dumps(held))
    try:
        api.ok("delete", "mcpserver", "weather", "--cascade=foreground", "--wait=false")
        for what in ("deployment", "service", "configmap"):
            await until(lambda what=what: api.get(f"{what}/weather") is None, f"the {what} to go")
        left = [what for what in await operator.settled(api) if what.endswith("/weather")]
        assert left == ["McpServer/weather"], "nothing was put back"
    finally:
        api.ok("patch", "mcpserver", "weather", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    await until(lambda: api.get("mcpserver/weather") is None, "the server to go")


async def test_kubectl_scale_works(api: Kubectl, operator: Operator):
    api.apply("weather", **SPEC)
    await until(lambda: api.get("deployment/weather"), "the Deployment")
    api.ok("scale", "mcpserver", "weather", "--replicas=3")
    await until(lambda: api.get("deployment/weather")["spec"]["replicas"] == 3, "three replicas")


async def test_ready_follows_the_pods(api: Kubectl, operator: Operator):
    api.apply("weather", **SPEC | {"replicas": 1})
    pods = await until(
        lambda: api.items("pods", "-l", "mcpace.dev/server=weather"),
        "a pod",
    )
    assert api.conditions()["Ready"] == ("False", "Progressing")
    # There is no kubelet on this control plane, so the test says what one would.
    ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    api.ok("patch", "pod", pods[0]["metadata"]["name"], "--subresource=status", "-p", json.dumps(ready))
    await until(lambda: api.conditions().get("Ready") == ("True", "AllReplicasReady"), "Ready")
    assert api.conditions()["Available"] == ("True", "ReplicasAvailable")
    assert api.ok("get", "mcps").split("\n")[1].split()[1:3] == ["True", "1/1"]


async def test_redis_users_are_apart_and_made_again_after_a_loss(
    api: Kubectl, operator: Operator, redis_server: RedisServer
):
    api.run("create", "namespace", "other")
    api.apply("weather", **SPEC)
    api.apply("weather", "other", **SPEC)

    def url(namespace: str) -> str | None:
        secret = api.get("secret/weather-mcpace", namespace)
        return base64.b64decode(secret["data"]["limits-url"]).decode() if secret else None

    one, other = [await until(lambda n=n: url(n), f"the secret in {n}") for n in ("default", "other")]
    with redis.Redis.from_url(one) as mine, redis.Redis.from_url(other) as theirs:
        mine.set("mcpace:{default/weather}:result:aa", "mine")
        for command in (
            ("GET", "mcpace:{default/weather}:result:aa"),
            ("KEYS", "*"),
            ("FLUSHALL",),
            ("CONFIG", "GET", "*"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                theirs.execute_command(*command)
    await until(
        lambda: api.conditions().get("LimitsEnforced") == ("True", "RedisAnswers"), "the stores to be known"
    )
    redis_server.stop()
    await until(
        lambda: api.conditions().get("LimitsEnforced") == ("False", "RedisDown"), "the loss to be said"
    )
    assert api.conditions()["CacheReady"] == ("False", "RedisDown")
    redis_server.start()

    def answers() -> bool:
        try:
            with redis.Redis.from_url(one) as client:
                return bool(client.ping())
        except redis.exceptions.AuthenticationError:
            return False

    await until(answers, "the server's user to be made again")
    await until(
        lambda: api.conditions().get("LimitsEnforced") == ("True", "RedisAnswers"), "the return to be said"
    )


async def test_a_redis_that_refuses_us_is_not_called_down(
    api: Kubectl, tmp_path: Path, redis_server: RedisServer
):
    url = redis_server.url.replace("//", "//default:an-old-password@")
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "resetpass", ">a-new-password")
    operator = Operator(api, tmp_path / "operator.log", MCPACE_LIMITS_URL=url, MCPACE_CACHE_URL=url)
    operator.start()
    try:
        api.apply("refused", **SPEC)
        await until(
            lambda: api.conditions("refused").get("LimitsEnforced") == ("False", "RedisUnusable"),
            "the refusal to be said",
        )
        assert api.conditions("refused")["CacheReady"] == ("False", "RedisUnusable")
        assert "a-new-password" not in operator.log.read_text()
        assert "an-old-password" not in operator.log.read_text()
        api.ok("delete", "mcpserver", "refused")
        await until(lambda: api.get("deployment/refused") is None, "the server to go")
    finally:
        operator.stop()


async def test_a_redis_that_lets_us_make_no_users_is_shared(
    api: Kubectl, tmp_path: Path, redis_server: RedisServer
):
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", "given", "on", ">pw", "~*", "+@all", "-acl", "-info")
    url = redis_server.url.replace("//", "//given:pw@")
    operator = Operator(api, tmp_path / "operator.log", MCPACE_LIMITS_URL=url, MCPACE_CACHE_URL=url)
    operator.start()
    try:
        api.apply("shared", **SPEC)
        secret = await until(lambda: api.get("secret/shared-mcpace"), "the secret")
        assert base64.b64decode(secret["data"]["limits-url"]).decode() == url
        await until(
            lambda: api.conditions("shared").get("LimitsEnforced") == ("True", "RedisAnswers"), "the store"
        )
        api.ok("delete", "mcpserver", "shared")
        await until(lambda: api.get("deployment/shared") is None, "the server to go")
    finally:
        operator.stop()


async def test_an_object_of_somebody_elses_is_not_touched(api: Kubectl, operator: Operator):
    api.ok("create", "configmap", "taken", "--from-literal=unrelated=theirs")  # no field of it is ours
    version = api.get("configmap/taken")["metadata"]["resourceVersion"]
    api.apply("taken", **SPEC)
    await until(
        lambda: api.conditions("taken").get("Ready") == ("False", "ChildConflict"),
        "the conflict to be said",
    )
    assert api.get("configmap/taken")["metadata"]["resourceVersion"] == version
    api.ok("delete", "configmap", "taken")
    await until(lambda: api.get("deployment/taken"), "the server to be made after all")


async def test_a_secret_of_somebody_elses_is_not_touched(api: Kubectl, operator: Operator):
    api.ok("create", "secret", "generic", "guarded-mcpace", "--from-literal=admin-token=theirs")
    version = api.get("secret/guarded-mcpace")["metadata"]["resourceVersion"]
    api.apply("guarded", **SPEC)
    await until(
        lambda: api.conditions("guarded").get("Ready") == ("False", "ChildConflict"), "the conflict"
    )
    assert api.get("secret/guarded-mcpace")["metadata"]["resourceVersion"] == version
    api.ok("delete", "secret", "guarded-mcpace")


async def test_everything_that_is_in_a_servers_way_is_named_at_once(api: Kubectl, operator: Operator):
    api.ok("create", "secret", "generic", "blocked-mcpace", "--from-literal=x=theirs")
    api.ok("create", "configmap", "blocked", "--from-literal=x=theirs")
    api.ok("create", "service", "clusterip", "blocked-metrics", "--tcp=1")
    try:
        api.apply("blocked", **SPEC)
        await until(
            lambda: api.conditions("blocked").get("Ready") == ("False", "ChildConflict"), "the conflict"
        )
        (ready,) = [c for c in api.get("mcpserver/blocked")["status"]["conditions"] if c["type"] == "Ready"]
        assert ready["message"] == (
            "Secret blocked-mcpace, ConfigMap blocked, Service blocked-metrics exist and are not this server's:"
            " rename them, or the server."
        )
        assert api.get("deployment/blocked") is None
    finally:
        for what in ("secret/blocked-mcpace", "configmap/blocked", "service/blocked-metrics"):
            api.ok("delete", what)


async def test_the_log_holds_no_secret(api: Kubectl, operator: Operator):
    api.apply("weather", **SPEC)
    secret = await until(lambda: api.get("secret/weather-mcpace"), "the secret")
    log = operator.log.read_text()
    for value in secret["data"].values():
        password = base64.b64decode(value).decode().rpartition("@")[0].rpartition(":")[2]
        assert not password or password not in log
    assert "a-master-key" not in log


@pytest.mark.parametrize(("spec", "words"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_manifest_is_refused_at_apply_in_words(api: Kubectl, spec: dict[str, Any], words: str):
    base: dict[str, Any] = {"image": "weather:1"}
    whole = {k: v for k, v in (base | spec).items() if v is not None}
    done = api.run("apply", "-f", "-", stdin=manifest("wrong", "default", whole))
    assert done.returncode != 0
    assert words in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["UPPER", "9lives", "n" * 53])
def test_a_name_that_makes_no_service_is_refused(api: Kubectl, name: str):
    done = api.run("apply", "-f", "-", stdin=manifest(name, "default", SPEC))
    assert done.returncode != 0
    assert "metadata.name" in done.stderr


def test_the_manifests_of_the_examples_are_accepted(api: Kubectl):
    for path in sorted((ROOT / "examples").rglob("*.yaml")):
        if "kind: McpServer" in path.read_text():
            api.ok("apply", "--dry-run=server", "-f", str(path))
