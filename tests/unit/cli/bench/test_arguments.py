"""Arguments made from input schemas: typed, bounded, the same for the same seed, whatever the schema."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpace_cli.bench.arguments import UnmadeError, make


def an(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def test_every_type_is_made_within_its_bounds():
    schema = an(
        text={"type": "string", "minLength": 30, "maxLength": 40},
        short={"type": "string", "maxLength": 3},
        whole={"type": "integer", "minimum": 5, "maximum": 7},
        beyond={"type": "integer", "exclusiveMinimum": 5, "exclusiveMaximum": 7},
        below={"type": "integer", "maximum": -4},
        steps={"type": "number", "multipleOf": 0.25, "minimum": 0, "maximum": 1},
        truth={"type": "boolean"},
        nothing={"type": "null"},
        several={"type": "array", "items": {"type": "integer"}, "minItems": 3},
        pair={"type": "array", "prefixItems": [{"const": "a"}, {"const": 2}], "items": False},
        nested=an(inner={"type": "string"}),
        maybe={"type": ["null", "integer"]},
        day={"type": "string", "format": "date"},
        whatever={},
    )
    for seed in map(str, range(40)):
        made = make(schema, seed)
        assert set(made) == set(schema["properties"])
        assert 30 <= len(made["text"]) <= 40
        assert 0 < len(made["short"]) <= 3
        assert made["whole"] in (5, 6, 7)
        assert made["beyond"] == 6
        assert made["below"] <= -4
        assert made["steps"] in (0, 0.25, 0.5, 0.75, 1)
        assert made["truth"] in (True, False)
        assert made["nothing"] is None
        assert len(made["several"]) == 3
        assert made["pair"] == ["a", 2]
        assert isinstance(made["nested"]["inner"], str)
        assert isinstance(made["maybe"], int)
        assert made["day"].count("-") == 2
        assert isinstance(made["whatever"], str)


def test_the_same_seed_makes_the_same_and_others_make_others():
    schema = an(city={"type": "string"}, days={"type": "integer"})
    assert make(schema, "1") == make(schema, "1")
    assert len({json.dumps(make(schema, str(seed))) for seed in range(50)}) > 30


def test_what_the_schema_itself_proposes_is_taken():
    assert make(an(a={"enum": ["x"]}, b={"const": 3}, c={"type": "string", "default": "d"}), "1") == {
        "a": "x", "b": 3, "c": "d",
    }  # fmt: skip
    assert make(an(zone={"type": "string", "pattern": "^(a+)+$", "examples": ["Europe/Oslo"]}), "1") == {
        "zone": "Europe/Oslo"
    }


def test_only_what_is_required_is_made_unless_more_is_asked_for():
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "string"},
            "b": {"type": "integer"},
            "c": {"type": "string", "pattern": "x"},
        },
        "required": ["a"],
    }
    assert set(make(schema, "1")) == {"a"}
    assert set(make(schema, "1", optional=True)) == {"a", "b"}


def test_references_and_alternatives_lead_to_what_can_be_made():
    schema = {
        "$defs": {"City": an(name={"type": "string"}), "a/b": {"const": 7}},
        **an(
            city={"$ref": "#/$defs/City"},
            odd={"$ref": "#/$defs/a~1b"},
            either={"anyOf": [{"type": "null"}, {"type": "string", "pattern": "x"}, {"type": "integer"}]},
            both={"allOf": [an(a={"const": 1}), an(b={"const": 2})]},
        ),
    }
    made = make(schema, "1")
    assert isinstance(made["city"]["name"], str)
    assert made["odd"] == 7
    assert isinstance(made["either"], int)
    assert made["both"] == {"a": 1, "b": 2}


DEEP: dict[str, Any] = {"type": "string"}
for _ in range(200):
    DEEP = an(a=DEEP)
WIDE: dict[str, Any] = {"type": "string"}
for _ in range(12):
    WIDE = {
        "type": "object",
        "properties": {str(n): WIDE for n in range(8)},
        "required": [str(n) for n in range(8)],
    }
ALTERNATIVES: dict[str, Any] = {"type": "string", "pattern": "x"}
for _ in range(12):
    ALTERNATIVES = {"anyOf": [ALTERNATIVES] * 8}


@pytest.mark.parametrize(
    ("hostile", "words"),
    [
        ({"$ref": "#"}, "nested too deeply, or in itself"),
        ({"$ref": "#/properties/a"}, "nested too deeply, or in itself"),
        ({"allOf": [{"$ref": "#/properties/a"}]}, "nested too deeply, or in itself"),
        (an(b={"$ref": "#/properties/a"}), "nested too deeply, or in itself"),
        (DEEP, "nested too deeply"),
        (WIDE, "nested too deeply"),
        (ALTERNATIVES, "must match a pattern"),
        ({"$ref": "https://example.com/schema.json"}, "another document"),
        ({"$ref": "#/nowhere"}, "not there"),
        ({"type": "string", "pattern": "^(a+)+$"}, "must match a pattern"),
        ({"type": "string", "minLength": 10**9}, "characters or more"),
        ({"type": "string", "minLength": 10**400}, "characters or more"),
        ({"type": "string", "minLength": 5, "maxLength": 4}, "characters or more"),
        ({"type": "array", "items": {"type": "string"}, "minItems": 10**6}, "items or more"),
        ({"type": "array", "items": {"const": 1}, "minItems": 3, "uniqueItems": True}, "different items"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "a number that is not made"),
        ({"type": "integer", "minimum": 1e300}, "a number that is not made"),
        ({"type": "integer", "multipleOf": -1}, "a multiple of"),
        ({"type": "string", "default": "x" * 100_000}, "too large"),
        ({"const": 10**400}, "too large"),
        (False, "no value"),
    ],
)
def test_what_cannot_be_made_in_reason_is_refused_with_what_to_give_instead(hostile: Any, words: str):
    began = time.process_time()
    with pytest.raises(UnmadeError, match=words) as refused:
        make(an(a=hostile), "1")
    assert "--arguments" in str(refused.value)
    assert time.process_time() - began < 10


@pytest.mark.parametrize("schema", [None, [], "x", 3, {"type": "string"}, {"type": "array"}])
def test_a_schema_of_no_object_is_refused(schema: Any):
    with pytest.raises(UnmadeError):
        make(schema, "1")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from([
            "type", "properties", "required", "items", "prefixItems", "$ref", "anyOf", "allOf", "oneOf", "enum",
            "const", "default", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
            "minItems", "maxItems", "minLength", "maxLength", "format", "uniqueItems", "additionalProperties", "a",
        ]),
        inner | st.sampled_from(["object", "array", "integer", "number", "string", "null", "#", "#/a"]),
        max_size=6,
    ),
    max_leaves=30,
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(JSON)
def test_whatever_a_schema_is_arguments_are_made_or_refused(schema: Any):
    try:
        made = make(schema, "1", optional=True)
    except UnmadeError:
        return
    assert len(json.dumps(made)) < 1_000_000
