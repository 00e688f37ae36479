"""What is asked of and told to processes that need no handshake."""

import json

import msgspec
import pytest

from mcpace_sidecar.stdio import modern
from mcpace_sidecar.stdio.asked import BAD_REQUEST, NOT_FOUND, OK

MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def test_a_request_of_the_handshake_era_says_what_a_handshake_would_have():
    params = json.loads(modern.self_contained(b'{"name":"a","_meta":{"progressToken":7}}'))
    assert params["name"] == "a"
    assert params["_meta"]["progressToken"] == 7
    assert params["_meta"]["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert (
        json.loads(modern.self_contained(b""))["_meta"]["io.modelcontextprotocol/clientCapabilities"] == {}
    )


def test_what_a_server_says_when_it_is_discovered_is_what_it_would_answer_to_initialize():
    found = MEMBERS.decode(
        b'{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"instructions":"i","ttlMs":5,'
        b'"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"2"}}}'
    )
    assert json.loads(msgspec.json.encode(modern.greeting(found))) == {
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "s", "version": "2"},
        "instructions": "i",
    }


@pytest.mark.parametrize(
    ("code", "head"),
    [(-32601, NOT_FOUND), (-32602, BAD_REQUEST), (-32020, BAD_REQUEST), (-32603, OK), (1, OK)],
)
def test_an_error_has_the_status_that_http_gives_it(code: int, head: object):
    assert modern.head_of(b'{"code":%d,"message":"x"}' % code) is head


def test_only_lists_whose_changes_are_told_are_subscribed_to():
    offered = MEMBERS.decode(
        b'{"tools":{"listChanged":true},"prompts":{},"resources":{"listChanged":false}}'
    )
    assert modern.announced(offered) == b'"notifications":{"toolsListChanged":true},'
    assert modern.announced({}) == b""


@pytest.mark.parametrize("document", [b"[]", b"{", b'{"_meta":1}', b"{}", b""])
def test_what_bears_no_subscription_stays_as_it_is(document: bytes):
    assert modern.with_subscription(document, b"1") == document
    assert modern.subscription_of(document) == b""
    assert not modern.wants_log(document)
    assert modern.versions(document) == []
