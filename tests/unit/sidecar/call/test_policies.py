"""What a configuration says of one kind of call."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.cache.policy import tool_tag
from mcpace_sidecar.call.policies import Policies, Policy
from mcpace_sidecar.contract.config import SidecarConfig, parse
from mcpace_sidecar.mcp.methods import HINTED
from mcpace_sidecar.mcp.request import Message, classify
from mcpace_sidecar.mcp.strictness import MessageError

TOOLS = ["a", "b", "c"]


def message(method: str, **params: Any) -> Message:
    return classify(msgspec.json.encode({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}))


def policies(**document: Any) -> Policies:
    return Policies(parse(SidecarConfig, document)[0])


def of_tool(of: Policies, name: str) -> Policy:
    return of.of(message("tools/call", name=name))


def price(policy: Policy) -> tuple[str, str] | None:
    return (policy.price.kind, policy.price.name) if policy.price is not None else None


NAMES = st.sets(st.sampled_from(TOOLS), min_size=1)


@given(NAMES, NAMES, NAMES, st.sets(st.tuples(st.sampled_from(TOOLS), st.sampled_from(TOOLS))))
def test_each_tool_has_what_is_said_of_it_and_nothing_of_the_others(priced, cached, paged, writes) -> None:
    tools: dict[str, Any] = {name: {"name": name, "ttl": "1m"} for name in cached}
    for one, other in writes:
        tools.setdefault(one, {"name": one}).setdefault("invalidates", []).append(other)
    of = policies(
        rateLimits={"tools": [{"name": name, "cost": 2} for name in priced]},
        cache={"tools": list(tools.values())},
        responses={"page": {"tools": [{"name": name, "items": 5} for name in paged]}},
    )
    for name in TOOLS:
        policy = of_tool(of, name)
        assert price(policy) == (("tool", name) if name in priced else None)
        assert (policy.cache is not None) == (name in cached)
        assert (policy.page is not None) == (name in paged)
        assert set(policy.invalidates) == {tool_tag(other) for one, other in writes if one == name}
    assert of.paged == paged


def test_what_nothing_is_said_of_is_treated_plainly() -> None:
    of = policies(rateLimits={"tools": [{"name": "t", "cost": 2}]})
    plain = of_tool(of, "other")
    assert (plain.price, plain.cache, plain.invalidates, plain.page) == (None, None, (), None)
    assert of.of(message("prompts/get", name="t")) is plain, "a prompt is no tool of the same name"
    assert of.of(message("ping")) is plain
    assert of.of(message("anything/else", name="t")) is plain


@pytest.mark.parametrize("method", sorted(HINTED))
def test_what_the_server_may_say_how_long_to_keep_is_looked_at(method: str) -> None:
    uri = {"uri": "a://b"} if method == "resources/read" else {}
    assert policies().of(message(method, **uri)).cache is not None


def test_a_prompt_is_limited_by_its_name() -> None:
    of = policies(rateLimits={"prompts": [{"name": "p", "cost": 2}]})
    assert price(of.of(message("prompts/get", name="p"))) == ("prompt", "p")
    assert price(of.of(message("prompts/get", name="q"))) is None


LIMITED = {
    "resources": [{"name": n, "requestsPerMinute": 5} for n in ("file:///*", "file:///a/*", "file:///a/b")]
}


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("file:///a/b", "file:///a/b"),
        ("file:///a/c", "file:///a/*"),
        ("file:///b", "file:///*"),
        ("http://a/b", None),
        ("file:///a/b/", "file:///a/*"),
    ],
)
def test_a_resource_is_limited_by_the_longest_pattern_that_fits(uri: str, name: str | None) -> None:
    policy = policies(rateLimits=LIMITED).of(message("resources/read", uri=uri))
    assert price(policy) == (("resource", name) if name else None)
    assert policy.cache is not None, "limited or not, the server may say how long it holds"


@pytest.mark.parametrize("uri", ["file:///x/../a/b", "file:///a/%2e%2e/b", "FILE:///a/b/../c"])
def test_a_uri_that_servers_read_under_other_limits_is_refused_in_words(uri: str) -> None:
    with pytest.raises(MessageError, match="write it so") as raised:
        policies(rateLimits=LIMITED).of(message("resources/read", uri=uri))
    assert raised.value.message_id == b"7"


def test_without_limits_of_resources_a_uri_may_be_written_anyhow() -> None:
    assert policies().of(message("resources/read", uri="file:///x/../a")).price is None
