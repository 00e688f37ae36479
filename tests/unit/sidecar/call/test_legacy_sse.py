"""The endpoint of a pair's stream."""

from __future__ import annotations

from mcpace_sidecar.call.legacy_sse import endpoint_of


def test_an_endpoint_that_is_no_url_names_nothing() -> None:
    assert endpoint_of(b"/sse", b"http://[x/messages") == b""
