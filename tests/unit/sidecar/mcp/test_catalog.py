"""What is known of a server's tools: bounded, and heeded where it says that a tool changes something."""

from __future__ import annotations

import msgspec
import pytest

from mcpace_sidecar.mcp.catalog import MAX_LABELS, MAX_TOOLS, OTHER, Catalog, ServerInfo, gist

INFO = ServerInfo("weather", "1", "2026-07-28")


def knowing(*tools: dict[str, object]) -> Catalog:
    catalog = Catalog()
    catalog.learn(INFO, tools)
    return catalog


@pytest.mark.parametrize(
    ("hints", "forbids"),
    [
        ({}, False),
        ({"readOnlyHint": True}, False),
        ({"readOnlyHint": False}, True),
        ({"destructiveHint": True}, True),
        ({"destructiveHint": False}, False),
        ({"readOnlyHint": True, "destructiveHint": True}, True),
        ({"readOnlyHint": "false"}, False),
        (["readOnlyHint"], False),
    ],
)
def test_a_tool_that_says_it_changes_something_is_not_cached(hints: object, forbids: bool) -> None:
    catalog = knowing({"name": "t", "annotations": hints})
    assert catalog.forbids_caching("t") == forbids
    assert not catalog.forbids_caching("unlisted")


def test_a_label_is_the_name_of_a_tool_that_is_listed_or_configured_and_of_no_other() -> None:
    catalog = knowing({"name": "t"})
    catalog.configured = frozenset({"mine"})
    assert [catalog.label(name) for name in ("t", "mine", "made up")] == ["t", "mine", OTHER]


def test_a_server_of_very_many_tools_has_a_bounded_number_of_labels_that_stay() -> None:
    catalog = knowing(*({"name": f"t{number}"} for number in range(MAX_TOOLS + 5)))
    assert len(catalog.tools) == MAX_TOOLS
    labels = {catalog.label(f"t{number}") for number in range(MAX_TOOLS)}
    assert len(labels) == MAX_LABELS + 1
    assert OTHER in labels
    catalog.learn(INFO, [{"name": "new"}])
    assert catalog.label("t0") == "t0", "what is counted under a label is not forgotten"
    assert catalog.label("new") == OTHER


def test_a_configured_tool_is_known_however_many_there_are() -> None:
    catalog = Catalog(configured=frozenset({"last"}))
    catalog.learn(INFO, [{"name": f"t{number}"} for number in range(MAX_TOOLS)] + [{"name": "last"}])
    assert "last" in catalog.tools


def test_lists_that_clients_are_given_are_heeded_only_of_a_server_that_tells_us_none() -> None:
    listed = msgspec.json.encode({"tools": [{"name": "t", "annotations": {"readOnlyHint": False}}]})
    catalog = Catalog()
    catalog.overhear(listed)
    assert not catalog.tools
    catalog.locked = True
    for odd in (b"", b"[]", b"{}", b'{"tools":5}', b'{"tools":[5]}', b"[" * 5000):
        catalog.overhear(odd)
    assert not catalog.tools
    catalog.overhear(listed)
    assert catalog.forbids_caching("t")


@pytest.mark.parametrize("listed", [{}, {"name": 5}, {"name": "x" * 1001}])
def test_what_has_no_name_that_can_be_known_is_nothing(listed: dict[str, object]) -> None:
    assert gist(listed) == {}


def test_of_a_large_schema_is_held_what_headers_mirror_alone() -> None:
    plain = {"properties": {"a": {"description": "x" * 9999}}}
    assert gist({"name": "t", "inputSchema": plain})["inputSchema"] is None
    mirrors = {"properties": {"a": {"x-mcp-header": "A"}}}
    assert knowing({"name": "t", "inputSchema": mirrors}).mirrored == {"t": {("a",): "A"}}


@pytest.mark.parametrize(
    ("schema", "known"),
    [
        ({"type": "object", "properties": {"city": {}, "days": {"type": "integer"}}}, {"city", "days"}),
        ({"properties": {"city": {}}, "additionalProperties": False}, {"city"}),
        ({"properties": {}}, set()),
        ({"properties": {"city": {"x-mcp-header": "City"}}}, {"city"}),
        ({"properties": {"city": {}}, "additionalProperties": {"type": "string"}}, None),
        ({"properties": {"city": {}}, "$ref": "#/$defs/more"}, None),
        ({"type": "object"}, None),
        ({"properties": ["city"]}, None),
        (["properties"], None),
        (None, None),
    ],
)
def test_names_of_arguments_are_known_where_a_schema_lists_them_all(schema: object, known: object) -> None:
    listed = {"name": "t", "inputSchema": schema}
    assert knowing(listed).arguments("t") == known
    assert knowing(gist(listed)).arguments("t") == known
    assert knowing(listed).arguments("unlisted") is None


def test_arguments_of_a_server_that_tells_us_no_tools_are_not_held() -> None:
    catalog = Catalog(locked=True)
    catalog.overhear(b'{"tools":[{"name":"t","inputSchema":{"properties":{"city":{}}}}]}')
    assert "t" in catalog.tools
    assert catalog.arguments("t") is None
