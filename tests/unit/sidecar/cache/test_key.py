"""The key of a manifest's own: which arguments tell results apart, in which spellings."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.cache.policy import LONGEST_FOLDED, Keys, Private, of_tool
from mcpace_sidecar.contract.config.cache import CachedTool
from mcpace_sidecar.identity.client import Client
from mcpace_sidecar.mcp.request import classify
from mcpace_sidecar.mcp.strictness import MessageError

VERSION = b"2026-07-28"
FOLDING: dict[str, Any] = {"arguments": ["city"], "ignoreCase": True}
SPELLINGS = st.sampled_from(["", "a", "A", " a", "b", "1", "ä"])
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | SPELLINGS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2), max_leaves=3)
ARGUMENTS = st.dictionaries(st.sampled_from(["city", "days", "unit", "lang"]), VALUES, max_size=4)
TEMPLATE = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":%b}}'


def call(arguments: Any, **params: Any) -> bytes:
    spelled = {"name": "t", "arguments": arguments, **params}
    return msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": spelled})


def key_of(
    body: bytes, key: dict[str, Any] | None, version: bytes = VERSION, private: Private | None = None
) -> bytes | None:
    """What a call's result is kept under, where the manifest gives its tool this `key`; None: it is not."""
    written = {"name": "t", "ttl": "1m", "scope": "client" if private else "shared"}
    rule = of_tool(CachedTool.model_validate(written | ({"key": key} if key is not None else {})))
    assert rule is not None
    places = Keys(None).places(rule, version, classify(body), private)
    return places[0].key if places else None


def spelled(arguments: dict[str, Any], names: list[str], *, folds: bool) -> bytes:
    """The named arguments in one spelling. What these tests write folds as `lower` does."""
    said = {name: arguments[name] for name in names if name in arguments}
    if folds:
        said = {name: v.strip().lower() if isinstance(v, str) else v for name, v in said.items()}
    return msgspec.json.encode(said, order="sorted")


@given(
    one=ARGUMENTS,
    other=ARGUMENTS,
    folds=st.booleans(),
    names=st.sampled_from([["city"], ["days", "city"]]),
)
def test_two_calls_share_a_key_exactly_when_their_named_arguments_are_one(one, other, folds, names) -> None:
    key = {"arguments": names, "ignoreCase": folds}
    first, second = key_of(call(one), key), key_of(call(other), key)
    for arguments, found in ((one, first), (other, second)):
        assert (found is None) == (bool(arguments) and not set(names) & set(arguments)), arguments
    if first is not None and second is not None:
        same = spelled(one, names, folds=folds) == spelled(other, names, folds=folds)
        assert (first == second) == same


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Oslo", "OSLO", True),
        ("Oslo", "\t oslo\u00a0\n", True),
        ("Tromsø", "TROMSØ", True),
        ("\u00c5lesund", "A\u030alesund", True),
        ("\u212blesund", "a\u030aLESUND", True),
        ("a\u0323\u0307", "a\u0307\u0323", True),
        ("Straße", "STRASSE", True),
        ("\u212a", "k", True),
        ("\u039f\u0394\u039f\u03a3", "\u03bf\u03b4\u03bf\u03c2", True),
        ("Oslo", "Os lo", False),
        ("New York", "New  York", False),
        ("I\u011fd\u0131r", "I\u011fdir", False),
        ("Ålesund", "Alesund", False),
        ("\u00bd", "1/2", False),
        ("\uff21", "A", False),
        ("", " ", True),
    ],
)
def test_texts_are_one_that_differ_in_case_composition_and_white_space_around_them(
    one: str, other: str, same: bool
) -> None:
    first, second = key_of(call({"city": one}), FOLDING), key_of(call({"city": other}), FOLDING)
    assert first is not None
    assert (first == second) == same
    exact = {"arguments": ["city"]}
    assert key_of(call({"city": one}), exact) != key_of(call({"city": other}), exact)


@pytest.mark.parametrize(
    "values",
    [
        [b"1", b'"1"', b"1.0", b"true", b'"true"', b"null", b'"null"', b'""', b"[]", b"{}"],
        [b'["Oslo"]', b'["oslo"]', b'{"Oslo":1}', b'{"oslo":1}', b'{"a":"A"}', b'{"a":"a"}'],
        [b"0.1", b"0.10000000000000000001", b"1e400", b"1e401", b"9" * 30, b"9" * 31],
    ],
    ids=["kinds", "depths", "numbers"],
)
def test_what_is_no_text_counts_as_it_is_spelled(values: list[bytes]) -> None:
    keys = [key_of(TEMPLATE % b'{"city":%b}' % value, FOLDING) for value in values]
    assert None not in keys
    assert len(set(keys)) == len(values)


def test_a_missing_argument_is_a_value_of_its_own() -> None:
    key = {"arguments": ["city", "days"]}
    said = [{"city": "a"}, {"city": "a", "days": None}, {"city": "a", "days": 1}, {"days": 1}, {}]
    keys = [key_of(call(arguments), key) for arguments in said]
    assert None not in keys
    assert len(set(keys)) == len(keys)
    nothing = TEMPLATE.replace(b',"arguments":%b', b"")
    assert key_of(nothing, key) == key_of(call({}), key)


@pytest.mark.parametrize(
    "arguments",
    [
        b'{"City":"Bergen"}',
        b'{"city":"Oslo","CITY":"Bergen"}',
        b'{"city":"Oslo","ci\\u0074Y":"Bergen"}',
        b'{"citY":"Bergen","city":"Oslo","lang":"no"}',
        b'{"lang":"no"}',
        b'{"":1}',
        b"[]",
        b'["city"]',
        b'"city"',
        b"null",
        b"5",
        b'{"city":"Oslo","n":-0}',
        b'{"city":%b}' % (b"9" * 5000),
        b'{"city":"Oslo","text":"%b"}' % (b"x" * (256 * 1024)),
    ],
)
@pytest.mark.parametrize("folds", [False, True])
def test_what_may_be_read_otherwise_is_not_kept(arguments: bytes, folds: bool) -> None:
    key = {"arguments": ["city"], "ignoreCase": folds}
    assert key_of(TEMPLATE % b'{"city":"Oslo"}', key) is not None
    assert key_of(TEMPLATE % arguments, key) is None


@pytest.mark.parametrize(
    ("named", "written"),
    [("kind", "\u212aind"), ("size", "\u017fize"), ("straße", "STRASSE"), ("\u00e9tat", "E\u0301TAT")],
)
def test_a_name_that_some_readers_take_for_a_named_one_is_found_in_any_script(
    named: str, written: str
) -> None:
    key = {"arguments": [named]}
    assert key_of(call({named: 1}), key) is not None
    assert key_of(call({named: 1, written: 2}), key) is None


def test_two_named_arguments_may_differ_in_case_alone() -> None:
    key = {"arguments": ["city", "City"]}
    keys = {key_of(call(each), key) for each in ({"city": "a"}, {"City": "a"}, {"city": "a", "City": "a"})}
    assert None not in keys
    assert len(keys) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        b'{"city":"Oslo","city":"Bergen"}',
        b'{"city":"Oslo","city":"oslo"}',
        b'{"city":"Oslo","c\\u0069ty":"Bergen"}',
        b'{"city":"Oslo","other":{"a":1,"a":2}}',
        b'{"city":{"a":1,"a":2}}',
    ],
)
def test_a_name_that_stands_twice_is_refused(arguments: bytes) -> None:
    with pytest.raises(MessageError, match="twice"):
        key_of(TEMPLATE % arguments, FOLDING)


def test_longer_texts_count_as_they_are_spelled() -> None:
    short, long = "x" * LONGEST_FOLDED, "x" * (LONGEST_FOLDED + 1)
    assert key_of(call({"city": short}), FOLDING) == key_of(call({"city": short.upper()}), FOLDING)
    assert key_of(call({"city": long}), FOLDING) != key_of(call({"city": long.upper()}), FOLDING)


def test_all_but_the_arguments_tells_apart_as_ever() -> None:
    oslo, capable = {"city": "Oslo"}, {"io.modelcontextprotocol/clientCapabilities": {"sampling": {}}}
    keys = [
        key_of(call(oslo), FOLDING),
        key_of(call(oslo, name="u"), FOLDING),
        key_of(call(oslo, _meta=capable), FOLDING),
        key_of(call(oslo, task={"ttl": 1}), FOLDING),
        key_of(call(oslo), FOLDING, version=b"2025-11-25"),
        key_of(call(oslo), FOLDING, private=Private(Client("anna"), (), (), b"/", b"")),
        key_of(call(oslo), FOLDING, private=Private(Client("bert"), (), (), b"/", b"")),
    ]
    assert None not in keys
    assert len(set(keys)) == len(keys)
    assert key_of(call(oslo, _meta={"progressToken": 7}), FOLDING) == keys[0]
    assert key_of(call(oslo, requestState="x"), FOLDING) is None


def test_calls_under_two_rules_share_nothing() -> None:
    rules: list[dict[str, Any] | None] = [
        None,
        {"arguments": ["city"]},
        {"arguments": ["city"], "ignoreCase": True},
        {"arguments": ["city", "days"]},
        {"arguments": ["city", "days"], "ignoreCase": True},
    ]
    keys = [key_of(call({"city": "oslo"}), rule) for rule in rules]
    assert None not in keys
    assert len(set(keys)) == len(rules)
    turned = {"arguments": ["days", "city"]}
    assert key_of(call({"city": "oslo"}), turned) == keys[3], "in what order names are written is nothing"
