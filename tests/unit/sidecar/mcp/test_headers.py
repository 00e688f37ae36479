"""Headers that mirror the body of a call."""

from __future__ import annotations

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcpace_sidecar.mcp.headers import header_value, lines, mirrored

SCHEMA = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "deep": {"type": "object", "properties": {"rank": {"type": "integer", "x-mcp-header": "Rank"}}},
        "plain": {"type": "string"},
        "split": {"type": "string", "x-mcp-header": "No Token\r\nX-Evil: 1"},
        "number": {"type": "string", "x-mcp-header": 5},
    },
}


def test_the_arguments_that_a_schema_wants_mirrored_are_found_and_those_that_are_no_names_not() -> None:
    assert mirrored(SCHEMA) == {("region",): "Region", ("deep", "rank"): "Rank"}


@pytest.mark.parametrize("schema", [None, [], "x", {"x-mcp-header": "Top"}, {"properties": []}])
def test_a_schema_that_asks_for_nothing_mirrors_nothing(schema: object) -> None:
    assert mirrored(schema) == {}


def test_a_schema_without_end_is_read_to_a_depth() -> None:
    schema: dict[str, object] = {"x-mcp-header": "Deep"}
    schema["properties"] = {"a": schema}
    assert 0 < len(mirrored(schema)) < 100


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        ({"region": "eu", "deep": {"rank": 3}}, b"Mcp-Param-Region: eu\r\nMcp-Param-Rank: 3\r\n"),
        ({"region": True}, b"Mcp-Param-Region: true\r\n"),
        ({"region": ["eu"], "deep": "eu"}, b""),
        ({"region": 1.5}, b""),
        ({}, b""),
        (None, b""),
        ([1], b""),
    ],
)
def test_what_is_mirrored_are_texts_numbers_and_truths(arguments: object, written: bytes) -> None:
    assert lines(mirrored(SCHEMA), arguments) == written


@given(st.text())
@example(" a")
@example("=?base64?YQ==?=")
@example("ø")
def test_any_text_is_one_line_and_can_be_read_back(text: str) -> None:
    value = header_value(text)
    assert value.isascii()
    assert not set(value) & set(b"\r\n\0")
    assert value.strip() == value
    if value.startswith(b"=?base64?"):
        value = base64.b64decode(value[9:-2])
    assert value.decode() == text
