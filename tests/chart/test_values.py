"""Values that nobody meant: each is refused in words, before anything is changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.kit.helm import CHART, WITHOUT_CRD, Helm
from tests.kit.waiting import until

LONG = "a-release-whose-name-has-as-many-characters-as-may-be"


def test_the_values_of_an_older_chart_are_refused_and_taken_with_the_new_defaults(
    helm: Helm, first: Path
) -> None:
    helm("install", "mcpace", str(first / "charts/mcpace"), WITHOUT_CRD)
    refused = helm.run("upgrade", "mcpace", CHART, "--reuse-values")
    assert refused.returncode != 0
    assert "is missing" in refused.stderr
    assert "--reset-then-reuse-values" in refused.stderr
    helm("upgrade", "mcpace", CHART, "--reset-then-reuse-values")


@pytest.mark.parametrize("part", ["operator", "redis", "redis.limits", "podSecurity", "servers", "test"])
def test_a_part_that_is_null_is_named(helm: Helm, part: str) -> None:
    refused = helm.run("template", "mcpace", CHART, f"--set={part}=null")
    assert refused.returncode != 0
    assert f"the value {part}." in refused.stderr
    assert "nil pointer" not in refused.stderr


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (r"commonLabels.app\.kubernetes\.io/instance=other", "app.kubernetes.io/instance"),
        (r"operator.podLabels.app\.kubernetes\.io/component=other", "app.kubernetes.io/component"),
        ("fullnameOverride=My_Name", "fullnameOverride"),
    ],
)
def test_what_would_name_or_select_nothing_is_refused(helm: Helm, setting: str, words: str) -> None:
    refused = helm.run("template", "mcpace", CHART, f"--set-string={setting}")
    assert refused.returncode != 0
    assert words in refused.stderr


async def test_a_release_with_the_longest_name_has_pods(helm: Helm) -> None:
    assert len(LONG) == 53
    helm("install", LONG, CHART, WITHOUT_CRD, "--set=rbac.aggregateRoles=false")
    try:

        def made() -> bool:
            names = [pod["metadata"]["name"] for pod in helm.api.items("pods", "-n", helm.namespace)]
            return all(
                any(name.endswith(f"-redis-{store}-0") for name in names) for store in ("cache", "limits")
            )

        await until(made, "the pods of both stores", 30)
    finally:
        helm("uninstall", LONG)
