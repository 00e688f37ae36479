"""The manifest's fields as they would stand once what failed is mended."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcpace_cli.cluster.checkup import Judged, mended, status_items
from mcpace_sidecar.contract.report import Item

SPEC: dict[str, Any] = {
    "image": "weather:1",
    "cache": {"tools": [{"name": "forecast", "ttl": "5m", "scope": "shared"}], "maxBytes": "16Mi"},
}


def test_what_mends_is_put_beside_what_stands_there():
    lines = mended(
        SPEC,
        [
            "cache: {tools: [{name: get-weather, ttl: 60s}]}",
            "cache: {tools: [{name: forecast, ttl: 60s}]}",
            "rateLimits: {}",
            "concurrency: {parallelTool: true}",
        ],
    )
    assert lines == {
        "cache": {
            "tools": [
                {"name": "forecast", "ttl": "60s", "scope": "shared"},
                {"name": "get-weather", "ttl": "60s"},
            ],
            "maxBytes": "16Mi",
        },
        "rateLimits": {},
        "concurrency": {"parallelTool": True},
    }
    assert SPEC["cache"]["tools"] == [{"name": "forecast", "ttl": "5m", "scope": "shared"}], "as it was"


def test_what_cannot_be_read_of_a_hostile_name_mends_nothing():
    for mend in ("cache: {tools: [{name: }], ttl: 60s}]}", "- a", "plain words", "&a [*a]", ""):
        assert mended(SPEC, [mend]) == {}


@pytest.mark.parametrize(
    "mend",
    [
        "a: &a [1, 2]\nb: &b [*a, *a]\nc: [*b, *b]",
        "a: 2026-11-29",
        "a: !!binary aGk=",
        "a: !!set {b}",
        "a: .nan",
        "a: !!bool maybe",
        "a: !!timestamp soon",
        "a: !!int ''",
    ],
)
def test_what_no_manifest_holds_mends_nothing(mend: str):
    judged = Judged("default/weather", [Item("A", "Failed", "", mend)], SPEC)
    assert json.dumps(judged.document["mended"]) == "{}"


def test_only_failed_items_fail_and_are_mended():
    items = [
        Item("A", "Passed", "", "rateLimits: {}"),
        Item("B", "Unknown", "", "monitoring: {serviceMonitor: true}"),
        Item("C", "Failed", "", "concurrency: {parallelTool: true}"),
    ]
    judged = Judged("default/weather", items, SPEC)
    assert [each.name for each in judged.failed] == ["C"]
    assert judged.document["passed"] is False
    assert judged.document["mended"] == {"concurrency": {"parallelTool": True}}


def test_a_status_of_anybodys_is_read_as_far_as_it_can_be():
    assert status_items({}) == []
    assert status_items({"checklist": "text"}) == []
    assert status_items({"checklist": [5, {"name": "A", "result": "Failed"}]}) == [
        Item("A", "Failed", "", "")
    ]
