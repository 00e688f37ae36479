"""Upgrades of the chart on a real API server: what is refused is said before anything is changed."""

from __future__ import annotations

import copy
import os
import sys
from pathlib import Path

import pytest
from tests.kit.helm import CHART, WITHOUT_CRD, Helm
from tests.kit.programs import serving
from tests.kit.redis import RedisServer
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Scripted, json_answer
from tools.ports import free_port


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("size=2Gi", "persistence.size is 2Gi, and mcpace-redis-limits was made with 1Gi."),
        ("enabled=false", "persistence.enabled is not what mcpace-redis-limits was made with."),
        (
            "storageClassName=fast",
            "storageClassName is fast, and mcpace-redis-limits was made with the default.",
        ),
    ],
)
def test_a_claim_that_cannot_be_changed_is_said_with_the_way_to_change_it(
    helm: Helm, setting: str, words: str
):
    helm("install", "mcpace", CHART, WITHOUT_CRD)
    upgrade = ("upgrade", "mcpace", CHART, WITHOUT_CRD, "--set=operator.replicas=2")
    done = helm.run(*upgrade, f"--set=redis.limits.persistence.{setting}")
    assert done.returncode != 0
    assert words in done.stderr
    assert (
        f"kubectl delete statefulset mcpace-redis-limits -n {helm.namespace} --cascade=orphan"
        in done.stderr
    )
    assert helm.api.get("deployment/mcpace", helm.namespace)["spec"]["replicas"] == 1, "nothing was changed"
    helm("upgrade", "mcpace", CHART, WITHOUT_CRD, "--set=redis.limits.persistence.size=1024Mi")
    helm.api.ok("delete", "statefulset", "mcpace-redis-limits", "-n", helm.namespace, "--cascade=orphan")
    helm(*upgrade, f"--set=redis.limits.persistence.{setting}")


def test_an_upgrade_from_the_first_chart_makes_nothing_anew(helm: Helm, first: Path):
    """Of the same name, and the same object: a claim and the quotas on it stay, and so does each address."""
    helm("install", "mcpace", str(first / "charts/mcpace"), WITHOUT_CRD)
    before = uids(helm)
    assert {"StatefulSet/mcpace-redis-limits", "Service/mcpace-redis-limits", "Secret/mcpace"} <= set(
        before
    )
    helm("upgrade", "mcpace", CHART, WITHOUT_CRD)
    after = uids(helm)
    assert {name: after.get(name) for name in before} == before


def uids(helm: Helm) -> dict[str, str]:
    """The objects of the release, and the claims, by what they are."""
    kinds = "deployments,statefulsets,services,serviceaccounts,secrets,persistentvolumeclaims"
    found = [
        each for each in helm.api.items(kinds, "-n", helm.namespace) if "mcpace" in each["metadata"]["name"]
    ]
    ours = [each for each in found if not each["metadata"]["name"].startswith("sh.helm.")]
    return {f"{each['kind']}/{each['metadata']['name']}": each["metadata"]["uid"] for each in ours}


async def test_what_the_first_version_counted_of_a_day_is_known_to_this_one(
    scripted: Scripted, start: Start, redis_server: RedisServer, tmp_path: Path, first: Path
):
    scripted.answer = lambda _: json_answer(b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}')
    tier = {"name": "free", "requestsPerMinute": 1000, "requestsPerDay": 10}
    config = {"rateLimits": {"tiers": [tier]}}
    (tmp_path / "config.yaml").write_text(str(config))
    data, admin = free_port(), free_port()
    command = [
        sys.executable, "-m", "mcpace_cli", "sidecar", "--config", tmp_path / "config.yaml", "--name", "default/weather",
        "--listen", f"127.0.0.1:{data}", "--admin-listen", f"127.0.0.1:{admin}",
        "--upstream", f"http://127.0.0.1:{scripted.port}",
    ]  # fmt: skip
    sources = os.pathsep.join(str(first / part) for part in ("sidecar", "cli", "operator"))
    now = await start(scripted.port, config, name="default/weather", limits_url=redis_server.url)
    async with serving(data, *command, PYTHONPATH=sources, MCPACE_LIMITS_URL=redis_server.url):
        before = copy.copy(now)
        before.data = data
        assert await answered(before, 6) == 6
    assert await answered(now, 6) == 4, "ten a day, six of which the first version has counted"


async def answered(sidecar: Running, calls: int) -> int:
    return sum(["result" in (await sidecar.call("t"))[2] for _ in range(calls)])
