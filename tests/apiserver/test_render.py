"""What `mcpace render` prints is what the operator applies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from tests.kit.laptop import mcpace
from tests.kit.operator import Operator
from tests.kit.redis import RedisServer
from tests.kit.waiting import until
from tools.cluster.kubectl import Kubectl, manifest

from mcpace_operator.comparison.drift import HASH, fingerprint

SPEC: dict[str, Any] = {
    "image": "weather:1",
    "rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 10}]},
    "clients": {"apiKeys": [{"tier": "free", "secretRef": {"name": "keys"}}]},
    "cache": {"tools": [{"name": "get-weather", "ttl": "5m"}]},
    "networkPolicy": {},
    "autoscaling": {"minReplicas": 2, "maxReplicas": 5},
    "podDisruptionBudget": {"maxUnavailable": 1},
    "env": [{"name": "A", "value": "1"}],
    "podTemplate": {"spec": {"priorityClassName": "high"}},
}


async def test_what_is_printed_is_to_the_byte_what_is_applied(
    api: Kubectl, operator: Operator, redis_server: RedisServer, tmp_path: Path
):
    path = tmp_path / "manifest.yaml"
    path.write_text(manifest("weather", "default", SPEC))
    api.ok("apply", "-f", str(path))
    await until(lambda: api.get("deployment/weather"), "the Deployment")
    await operator.settled(api)
    uid = api.get("mcpserver/weather")["metadata"]["uid"]
    known = api.get("crd/servicemonitors.monitoring.coreos.com") is not None
    done = mcpace(
        "render", path, "--uid", uid, "--prometheus" if known else "--no-prometheus",
        MCPACE_MASTER_KEY="a-master-key-of-more-than-32-characters",
        MCPACE_LIMITS_URL=redis_server.url, MCPACE_CACHE_URL=redis_server.url,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(done.stdout)}
    assert len(printed) >= 9
    for (kind, name), body in printed.items():
        applied = api.get(f"{kind.lower()}/{name}")
        assert applied is not None, f"{kind} {name} is printed, and not applied"
        stamp = body["metadata"]["annotations"][HASH]
        assert applied["metadata"]["annotations"][HASH] == stamp, f"{kind} {name}"
        if kind != "Secret":  # whose hash is of what is not printed
            annotations = {k: v for k, v in body["metadata"]["annotations"].items() if k != HASH}
            bare = {k: v for k, v in body["metadata"].items() if k != "annotations"}
            desired = body | {"metadata": bare | ({"annotations": annotations} if annotations else {})}
            assert fingerprint(desired) == stamp, "the hash is of what is printed"
    owned = [
        (item["kind"], item["metadata"]["name"])
        for kind in {kind.lower() for kind, _ in printed}
        for item in api.items(kind, "-l", "mcpace.dev/server=weather")
    ]
    assert sorted(owned) == sorted(printed)


def test_the_printed_secret_can_be_applied_by_nobody(api: Kubectl, tmp_path: Path):
    path = tmp_path / "manifest.yaml"
    path.write_text(manifest("weather", "default", {"image": "x"}))
    items = json.loads(mcpace("render", path, "--no-prometheus", "-o", "json").stdout)["items"]
    for item in items:
        done = api.run("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(item))
        assert (done.returncode == 0) == (item["kind"] != "Secret"), done.stderr
