"""What pages of other origins may read."""

import pytest

from mcpace_sidecar.call.cors import EXPOSED, MAX_AGE, granted, preflight
from mcpace_sidecar.http.head import Names, RequestHead
from mcpace_sidecar.identity.origins import Origins

NAMES = Names({b"origin", b"access-control-request-method", b"access-control-request-headers"})


def head(method: str = "POST", **headers: str) -> RequestHead:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return RequestHead(f"{method} /mcp HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode(), NAMES)


def test_an_allowed_origin_reads_answers_as_it_wrote_itself_and_no_other_does() -> None:
    allowed = Origins(["https://app.example"])
    grant = granted(allowed, head(Origin="https://App.example"))
    assert grant is not None
    theirs = (
        b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nX: y\r\naccess-control-allow-origin: b\r\n"
    )
    ours = grant.rewrite(theirs)
    assert ours.lower().count(b"access-control-allow-origin") == 1
    assert b"Access-Control-Allow-Origin: https://App.example\r\n" in ours
    assert b"Vary: Origin\r\n" in ours
    assert b"X: y\r\n" in ours
    assert all(name.encode() in ours for name in EXPOSED)
    assert granted(allowed, head(Origin="https://evil.example")) is None
    assert granted(allowed, head()) is None


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {"Access_Control_Request_Method": "POST"}),
        ("OPTIONS", {}),
        ("OPTIONS", {"Origin": "https://a"}),
    ],
)
def test_what_is_no_preflight_is_the_servers(method: str, headers: dict[str, str]) -> None:
    assert preflight(head(method, **headers)) is None


def test_a_preflight_allows_the_headers_it_asks_for() -> None:
    asked = head(
        "OPTIONS",
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="content-type, mcp-x",
    )
    answer = preflight(asked)
    assert answer is not None
    assert answer.startswith(b"HTTP/1.1 204 ")
    assert b"Access-Control-Allow-Headers: content-type, mcp-x\r\n" in answer
    assert b"Access-Control-Max-Age: %d\r\n" % MAX_AGE in answer


@pytest.mark.parametrize("wanted", ["", "a;b", "a" * 1025, "a:b", "<script>"])
def test_a_preflight_that_asks_for_what_are_no_names_is_allowed_none(wanted: str) -> None:
    answer = preflight(
        head("OPTIONS", Access_Control_Request_Method="POST", Access_Control_Request_Headers=wanted)
    )
    assert answer is not None
    assert b"Allow-Headers" not in answer
