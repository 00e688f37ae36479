"""What comes out of a conversation with a server that may answer anything."""

from __future__ import annotations

import msgspec
import pytest

from mcpace_sidecar.errors import McpaceError, UpstreamError
from mcpace_sidecar.server.session import HandshakeError, NotMcpError, SilenceError, conversation


@pytest.mark.parametrize("error", [HandshakeError("no", 500), UpstreamError("closed", "gone")])
def test_what_is_ours_comes_out_as_it_is(error: McpaceError) -> None:
    with pytest.raises(McpaceError) as raised, conversation():
        raise error
    assert raised.value is error


@pytest.mark.parametrize("error", [TimeoutError(), StopAsyncIteration()])
def test_who_says_nothing_is_silent(error: Exception) -> None:
    with pytest.raises(SilenceError, match="did not answer in time"), conversation():
        raise error


def test_what_is_no_json_is_no_mcp() -> None:
    with pytest.raises(NotMcpError, match="JSON"), conversation():
        msgspec.json.decode(b"<html>")


@pytest.mark.parametrize("error", [KeyError("secret"), TypeError("secret"), AttributeError("secret")])
def test_what_nobody_has_foreseen_is_told_by_its_kind_alone(error: Exception) -> None:
    with pytest.raises(NotMcpError, match=type(error).__name__) as raised, conversation():
        raise error
    assert "secret" not in str(raised.value)


def test_who_is_cancelled_stays_so() -> None:
    with pytest.raises(KeyboardInterrupt), conversation():
        raise KeyboardInterrupt
