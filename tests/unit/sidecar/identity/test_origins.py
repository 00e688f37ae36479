"""Which Hosts and Origins may call."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.contract.config.clients import Clients
from mcpace_sidecar.http.head import Names, RequestHead
from mcpace_sidecar.identity.origins import Guard, Origins, is_local


def head(host: str, origin: str | None = None) -> RequestHead:
    lines = f"Host: {host}\r\n" + (f"Origin: {origin}\r\n" if origin is not None else "")
    return RequestHead(f"GET / HTTP/1.1\r\n{lines}\r\n".encode(), Names({b"host", b"origin"}))


@given(st.sampled_from(["localhost", "127.0.0.1", "[::1]", "LocalHost"]), st.none() | st.integers(0, 99999))
def test_the_loopback_is_local_under_each_of_its_names_and_on_any_port(name: str, port: int | None) -> None:
    host = name if port is None else f"{name}:{port}"
    assert is_local(host.encode())
    assert not is_local(f"{name}.evil.example".encode())
    assert not is_local(f"evil.{host}".encode())


@pytest.mark.parametrize(
    ("host", "origin", "loopback", "may"),
    [
        ("localhost:8080", None, True, True),
        ("evil.example", None, True, False),
        ("evil.example", None, False, True),
        ("localhost", "http://localhost:3000", True, True),
        ("localhost", "http://localhost:3000", False, False),
        ("localhost", "http://localhost.evil.example", True, False),
        ("localhost", "null", True, False),
        ("localhost", "", True, False),
    ],
)
def test_without_a_manifest_only_local_names_may_call_on_the_loopback_and_no_page_elsewhere(
    host: str, origin: str | None, loopback: bool, may: bool
) -> None:
    assert Guard(Clients()).admits(head(host, origin), loopback=loopback) == may


@pytest.mark.parametrize(
    ("host", "may"),
    [
        ("a.example", True),
        ("A.Example:8080", True),
        ("b.example:81", True),
        ("b.example:82", False),
        ("x.tunnel.example", True),
        ("x.y.tunnel.example:443", True),
        ("tunnel.example", False),
        ("eviltunnel.example", False),
        ("public.example", True),
        ("localhost", True),
        ("a.example.evil", False),
    ],
)
def test_hosts_that_are_named_may_call_and_no_others(host: str, may: bool) -> None:
    clients = Clients(allowed_hosts=("a.example", "b.example:81", "*.tunnel.example"))
    for loopback in (False, True):
        assert Guard(clients, "https://public.example/mcp").admits(head(host), loopback=loopback) == may


def test_an_origin_is_known_as_it_is_written_or_by_a_scheme_that_is_named_whole() -> None:
    known = Origins(["https://App.example", "vscode-webview://*", "null"])
    assert b"https://app.EXAMPLE" in known
    assert b"vscode-webview://0a1b" in known
    assert b"null" in known
    for other in (
        b"http://app.example",
        b"https://app.example:444",
        b"https://*",
        b"vscode-webviews://a",
        b"",
    ):
        assert other not in known
    assert "null" not in known, "what is no header's value is no origin"
