"""What a replica adds to the endpoint of a stream."""

import pytest

from mcpace_sidecar.call.endpoint import name_of, named, of_server


@pytest.mark.parametrize(
    "endpoint",
    [b"/messages", b"/messages/?session_id=1", b"?s=1", b"/m?a=mcpace", b"/mcpace=x", b"/m?mcpace_=1"],
)
def test_the_server_is_told_its_own_endpoint(endpoint: bytes) -> None:
    told = named(endpoint, b"a-B_9")
    assert told.startswith(endpoint)
    assert (name_of(told), of_server(told)) == (b"a-B_9", endpoint)
    assert (name_of(endpoint), of_server(endpoint)) == (b"", endpoint)


@pytest.mark.parametrize("target", [b"/m?mcpace=", b"/m?s=1&mcpace=", b"/m?xmcpace=1", b"mcpace=1", b""])
def test_what_names_nobody_stays(target: bytes) -> None:
    assert (name_of(target), of_server(target)) == (b"", target)
