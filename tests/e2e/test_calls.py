"""Real pods, real calls: limits, keys, the cache, changes and losses, in this order."""

from __future__ import annotations

import base64
import json
import time

import pytest
from tests.e2e.cluster import SYSTEM, Cluster, readme, until
from tests.kit.wrong import WRONG
from tools.cluster.kubectl import manifest

from mcpace_operator.masterkey import MasterKey

IMAGE = "mcpace/example-weather:0.1.0"
OSLO = {"city": "Oslo"}


FORECASTS = 'mcp_tool_calls_total{status="success",tool="forecast"}'


def answered(outcomes: list[dict]) -> list[dict]:
    for outcome in outcomes:
        assert outcome["ok"] or outcome["code"] == 42900, outcome
    return [outcome for outcome in outcomes if outcome["ok"]]


def known(cluster: Cluster, urls: list[str], key: str) -> bool:
    """Whether every one of these sidecars knows the key."""
    try:
        outcomes = cluster.ask(urls=urls, calls=len(urls), tool="get-weather", arguments=OSLO, key=key)
    except AssertionError as error:  # 401 ends the conversation
        assert "The X-API-Key is not known" in str(error), error
        return False
    return all(outcome["ok"] for outcome in outcomes)


def test_the_manifest_becomes_a_server_that_an_official_client_calls(cluster: Cluster, weather: str):
    (outcome,) = cluster.ask(urls=[weather], calls=1, tool="get-weather", arguments=OSLO)
    assert outcome["result"] == {"city": "Oslo", "degrees": -3, "sky": "snow"}
    until(
        lambda: "serverInfo" in cluster.get("mcpserver/weather")["status"], "the server to introduce itself"
    )
    status = cluster.get("mcpserver/weather")["status"]
    assert status["serverInfo"]["name"] == "weather"
    assert status["tools"] == ["forecast", "get-weather", "report-storm"]
    assert cluster.ok(*readme("kubectl get")).split("\n")[1].split()[:3] == ["weather", "True", "2/2"]


def test_thirty_calls_over_both_pods_meet_one_limit_of_ten(cluster: Cluster):
    tiers = [{"name": "free", "requestsPerMinute": 10}]
    # The policy is made, and enforced where the cluster's network does: this one does not.
    cluster.apply("limited", image=IMAGE, replicas=2, rateLimits={"tiers": tiers}, networkPolicy={})
    cluster.ready("limited")
    urls = cluster.urls("limited")
    assert len(urls) == 2
    outcomes = cluster.ask(urls=urls, calls=30, tool="forecast", arguments=OSLO)
    span = max(o["at"] + o["ms"] / 1000 for o in outcomes) - min(o["at"] for o in outcomes)
    refill = span * 10 / 60
    assert 10 <= len(answered(outcomes)) <= 10 + refill
    refused = [o for o in outcomes if not o["ok"]]
    assert len(refused) == 30 - len(answered(outcomes))
    assert all(0 < o["data"]["retryAfterMs"] <= 6000 for o in refused)
    assert all(o["data"]["tier"] == "free" for o in refused)
    cluster.ok("delete", "mcpserver", "limited")


def test_the_same_client_is_pro_once_its_key_is_in_the_secret(cluster: Cluster, weather: str):
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "weather-pro"}}
    keys = {"anna": "a-key-of-annas", "bert": "an-old-key-of-berts"}
    cluster.ok("apply", "-f", "-", stdin=json.dumps(secret | {"stringData": keys}))
    urls = cluster.urls("weather")

    until(lambda: known(cluster, urls, "a-key-of-annas"), "the kubelet to renew the mount", 180)
    assert known(cluster, urls, "an-old-key-of-berts")
    keys["bert"] = "a-new-key-of-berts"  # what comes of it is seen below: the kubelet takes its time
    cluster.ok("apply", "-f", "-", stdin=json.dumps(secret | {"stringData": keys}))
    outcomes = cluster.ask(urls=urls, calls=30, tool="forecast", arguments=OSLO, key="a-key-of-annas")
    assert len(answered(outcomes)) == 30


def test_every_call_of_a_session_is_answered_whichever_pod_it_reaches(cluster: Cluster, weather: str):
    before = [cluster.metrics(pod).get(FORECASTS, 0) for pod in cluster.pods("weather")]
    outcomes = cluster.ask(
        urls=[weather], clients=8, calls=20, tool="forecast", arguments=OSLO, key="a-key-of-annas", mode="legacy",
        connections="each call",
    )  # fmt: skip
    failed = [outcome for outcome in outcomes if not outcome["ok"]]
    assert len(outcomes) == 160
    assert not failed, failed[:3]
    after = [cluster.metrics(pod).get(FORECASTS, 0) for pod in cluster.pods("weather")]
    counted = [now - then for now, then in zip(after, before, strict=True)]
    assert sum(counted) == 160
    assert min(counted) > 40, f"the calls were not spread over the pods: {counted}"


def test_a_result_cached_through_one_pod_is_a_hit_through_the_other(cluster: Cluster, weather: str):
    one, other = cluster.pods("weather")
    before = cluster.metrics(other)
    hit = 'mcpace_cache_requests_total{result="redis",tool="get-weather"}'
    miss = 'mcpace_cache_requests_total{result="miss",tool="get-weather"}'
    arguments = {"city": "Cairo"}
    for pod in (one, other):
        url = f"http://{pod['status']['podIP']}:18080/mcp"
        (outcome,) = cluster.ask(
            # Through the Service both would have this Host, which the server is told.
            urls=[url],
            calls=1,
            tool="get-weather",
            arguments=arguments,
            key="a-key-of-annas",
            host="weather",
        )
        assert outcome["ok"], outcome
    after = cluster.metrics(other)
    assert after.get(hit, 0) == before.get(hit, 0) + 1
    assert after.get(miss, 0) == before.get(miss, 0)
    assert cluster.metrics(one)[miss] >= 1


def test_an_edited_limit_is_in_running_pods_within_ten_seconds_without_a_restart(
    cluster: Cluster, weather: str
):
    before = {p["metadata"]["uid"] for p in cluster.pods("weather")}
    patch = '[{"op":"replace","path":"/spec/rateLimits/tiers/0","value":{"name":"free","requestsPerMinute":600}}]'
    edited = time.monotonic()
    cluster.ok("patch", "mcpserver", "weather", "--type=json", "-p", patch)

    def taken() -> bool:
        reloads = [
            cluster.metrics(p).get('mcpace_config_reloads_total{result="ok"}', 0)
            for p in cluster.pods("weather")
        ]
        return len(reloads) == 2 and min(reloads) >= 1

    until(taken, "both sidecars to take the new limit", 10)
    assert time.monotonic() - edited < 10
    outcomes = cluster.ask(urls=cluster.urls("weather"), calls=40, tool="forecast", arguments=OSLO)
    assert len(answered(outcomes)) > 20, "ten a minute was the limit before"
    pods = cluster.pods("weather")
    assert {p["metadata"]["uid"] for p in pods} == before
    for pod in pods:
        statuses = pod["status"]["containerStatuses"] + pod["status"]["initContainerStatuses"]
        assert all(s["restartCount"] == 0 for s in statuses)


def test_a_pod_deleted_under_calls_fails_no_call(cluster: Cluster):
    cluster.apply("steady", image=IMAGE, replicas=2)
    cluster.ready("steady")
    url = "http://steady.default.svc/mcp"
    asking = cluster.ask_meanwhile(
        urls=[url], clients=4, seconds=25, tool="forecast", arguments=OSLO, mode="2026-07-28"
    )
    until(
        lambda: sum(cluster.metrics(p).get(FORECASTS, 0) for p in cluster.pods("steady")) > 100,
        "the calls to flow",
        calls=asking,
    )
    victim = cluster.pods("steady")[0]["metadata"]["name"]
    cluster.ok("delete", "pod", victim, "--wait=true")
    outcomes = asking.result(120)
    failed = [o for o in outcomes if not o["ok"]]
    assert not failed, f"{len(failed)} of {len(outcomes)} calls failed: {failed[:3]}"
    assert len(outcomes) > 500
    cluster.ready("steady")


def test_a_deployment_deleted_by_hand_comes_back(cluster: Cluster):
    uid = cluster.get("deployment/steady")["metadata"]["uid"]
    cluster.ok("delete", "deployment", "steady")
    until(lambda: (d := cluster.get("deployment/steady")) and d["metadata"]["uid"] != uid, "the Deployment")
    cluster.ready("steady")
    cluster.ok("delete", "mcpserver", "steady")


@pytest.mark.parametrize(("spec", "words"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_manifest_is_refused_at_apply_in_words(cluster: Cluster, spec: dict, words: str):
    whole = {k: v for k, v in ({"image": IMAGE} | spec).items() if v is not None}
    done = cluster.run("apply", "-f", "-", stdin=manifest("wrong", "default", whole))
    assert done.returncode != 0
    assert words in done.stderr, done.stderr


def test_a_rotated_key_is_known_and_the_old_one_is_not_and_no_pod_restarts(cluster: Cluster, weather: str):
    urls = cluster.urls("weather")
    until(lambda: known(cluster, urls, "a-new-key-of-berts"), "the kubelet to renew the mount", 180)
    for url in urls:
        assert not known(cluster, [url], "an-old-key-of-berts")
    assert known(cluster, urls, "a-key-of-annas")
    statuses = [s for pod in cluster.pods("weather") for s in pod["status"]["initContainerStatuses"]]
    assert [s["restartCount"] for s in statuses] == [0, 0]


def test_a_server_of_the_older_transport_is_called_limited_and_counted(cluster: Cluster):
    script = "import sys; sys.path.insert(0, '/opt/weather'); from server import server; "
    script += "server.run('sse', host='0.0.0.0', port=8000)"
    tiers = [{"name": "free", "requestsPerMinute": 3}]
    cluster.apply("older", image=IMAGE, command=["/opt/weather/bin/python", "-c", script], transport="sse",
                  rateLimits={"tiers": tiers})  # fmt: skip
    cluster.ready("older")
    until(lambda: cluster.get("mcpserver/older")["status"].get("tools"), "the server to introduce itself")
    assert cluster.get("mcpserver/older")["status"]["url"] == "http://older.default.svc:80/sse"
    outcomes = cluster.ask(
        urls=["http://older.default.svc/sse"], calls=8, tool="get-weather", arguments=OSLO, mode="legacy"
    )
    assert 3 <= len(answered(outcomes)) < 8
    assert outcomes[0]["result"] == {"city": "Oslo", "degrees": -3, "sky": "snow"}
    (pod,) = cluster.pods("older")
    samples = cluster.metrics(pod)
    assert samples['mcp_tool_calls_total{status="success",tool="get-weather"}'] == len(answered(outcomes))
    cluster.ok("delete", "mcpserver", "older")


def test_a_server_of_the_same_name_elsewhere_shares_nothing(cluster: Cluster, weather: str):
    spec = cluster.get("mcpserver/weather")["spec"] | {"replicas": 1}
    cluster.apply("weather", "elsewhere", **spec)
    cluster.ready("weather", "elsewhere")
    (pod,) = cluster.pods("weather", "elsewhere")
    url = cluster.urls("weather", "elsewhere")[0]
    (outcome,) = cluster.ask(urls=[url], calls=1, tool="get-weather", arguments={"city": "Cairo"})
    assert outcome["ok"]
    samples = cluster.metrics(pod)
    assert samples['mcpace_cache_requests_total{result="miss",tool="get-weather"}'] == 1, (
        "the other's result"
    )
    tiers = [{"name": "free", "requestsPerMinute": 10}, {"name": "pro", "requestsPerMinute": 60}]
    cluster.apply("weather", "elsewhere", **spec | {"rateLimits": {"tiers": tiers}})
    until(
        lambda: cluster.metrics(pod).get('mcpace_config_reloads_total{result="ok"}', 0) >= 1,
        "the limit of ten",
    )
    here = cluster.ask(urls=[url], calls=20, tool="forecast", arguments=OSLO)
    assert 9 <= len(answered(here)) <= 12, "a bucket of its own, of ten, one of which was used"
    password = base64.b64decode(
        cluster.get("secret/weather-mcpace", "elsewhere")["data"]["cache-url"]
    ).decode()
    user, _, secret = password.removeprefix("redis://").rpartition("@")[0].partition(":")
    script = f'redis-cli --no-auth-warning --user "{user.replace("%3A", ":").replace("%2F", "/")}" --pass "{secret}"'
    inside = ("exec", "-n", SYSTEM, "mcpace-redis-cache-0", "--", "sh", "-c")
    key = MasterKey(base64.b64decode(cluster.get("secret/mcpace", SYSTEM)["data"]["current"]))
    admin = f"redis-cli --no-auth-warning -a {key.derive('redis-admin', 'cache')} KEYS '*'"
    keys = cluster.ok(*inside, admin).split()
    theirs = [key for key in keys if key.startswith("mcpace:{default/weather}:")]
    assert theirs
    for key in theirs:
        assert "NOPERM" in cluster.run(*inside, f"{script} GET '{key}' 2>&1").stdout
    assert "NOPERM" in cluster.run(*inside, f"{script} KEYS '*' 2>&1").stdout
    cluster.ok("delete", "mcpserver", "weather", "-n", "elsewhere")


def test_calls_go_on_without_redis_and_are_exact_again_afterwards(cluster: Cluster, weather: str):
    spec = cluster.get("mcpserver/weather")["spec"]
    tiers = [{"name": "free", "requestsPerMinute": 10}, {"name": "pro", "requestsPerMinute": 6000}]
    cluster.apply("weather", **spec | {"rateLimits": {"tiers": tiers}})
    asking = cluster.ask_meanwhile(
        urls=[weather], clients=2, seconds=30, tool="forecast", arguments=OSLO, key="a-key-of-annas"
    )
    until(
        lambda: sum(cluster.metrics(p).get(FORECASTS, 0) for p in cluster.pods("weather")) > 100,
        "the calls to flow",
        calls=asking,
    )
    stores = [f"statefulset/mcpace-redis-{store}" for store in ("cache", "limits")]
    for store in stores:
        cluster.ok("scale", "-n", SYSTEM, store, "--replicas=0")
    until(
        lambda: not cluster.items("pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=redis-limits"),
        "Redis to go",
    )
    lost = time.monotonic()
    until(
        lambda: cluster.conditions().get("LimitsEnforced") == ("False", "RedisDown"),
        "the loss to be said",
        15,
    )
    assert time.monotonic() - lost < 15
    outcomes = asking.result(120)
    failed = [o for o in outcomes if not o["ok"]]
    assert not failed, f"{len(failed)} of {len(outcomes)} calls failed: {failed[:3]}"
    without = [
        cluster.metrics(p)['mcpace_decided_without_redis_total{mode="local"}']
        for p in cluster.pods("weather")
    ]
    assert sum(without) > 0
    # Without Redis each pod gives its share of the free tier's ten.
    local = cluster.ask(urls=cluster.urls("weather"), calls=30, tool="forecast", arguments=OSLO)
    assert len(answered(local)) <= 12
    for store in stores:
        cluster.ok("scale", "-n", SYSTEM, store, "--replicas=1")
    until(
        lambda: cluster.conditions().get("LimitsEnforced") == ("True", "RedisAnswers"), "Redis to be back"
    )
    up = 'mcpace_redis_up{store="limits"}'
    until(
        lambda: all(cluster.metrics(p)[up] == 1 for p in cluster.pods("weather")), "the sidecars to find it"
    )
    began = time.time()
    fresh = cluster.ask(urls=cluster.urls("weather"), calls=30, tool="forecast", arguments=OSLO)
    again = cluster.ask(urls=cluster.urls("weather"), calls=30, tool="forecast", arguments=OSLO)
    assert len(answered(fresh)) + len(answered(again)) <= 10 + (time.time() - began) * 10 / 60
