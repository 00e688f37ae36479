"""Upgrades of the chart on a real API server: what is refused is said before anything is changed."""

from __future__ import annotations

import pytest
from tests.cluster.helm import Helm
from tests.conftest import ROOT

CHART = str(ROOT / "charts/mcpace")
WITHOUT_CRD = "--set=crds.enabled=false"


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
