"""Whom a command asks: what is a URL, what is shown of it, which credentials go with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mcpace_cli.asked import Asked
from mcpace_cli.cluster.sidecars import AdminPort
from mcpace_cli.live.served import Served
from mcpace_cli.live.servers import Server
from mcpace_cli.target import Target
from mcpace_sidecar.errors import ConfigError


@pytest.fixture(autouse=True)
def _nothing_given(monkeypatch: pytest.MonkeyPatch):
    for name in ("MCPACE_API_KEY", "MCPACE_TOKEN", "MCPACE_API_KEY_FILE", "MCPACE_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "url", ["", "mcp", "ftp://a/b", "http://", "http://a:99999/mcp", "http://[::1/mcp"]
)
def test_what_is_no_url_is_said_with_what_to_write(url: str):
    with pytest.raises(ConfigError, match="write for example"):
        Target.of(url)


def test_what_is_shown_of_a_url_holds_no_secret():
    target = Target.of("https://me:secret@example.com:8443/mcp?key=hidden#part")
    assert target.name == "https://example.com:8443/mcp"
    assert (str(target.address), target.path, target.tls) == ("example.com:8443", "/mcp?key=hidden", True)


@pytest.mark.parametrize(
    ("read", "url"),
    [
        (Target.of, "http://me:hunter2@a:port/mcp"),
        (Target.of, "ftp://me:hun?ter2@a/b"),
        (Target.of, "ftp://a/b?key=hunter2"),
        (AdminPort.of, "http://me:hunter2@a:port"),
    ],
)
def test_what_is_shown_of_what_is_no_url_holds_no_secret(read: Callable[[str], object], url: str):
    with pytest.raises(ConfigError, match="is no URL") as raised:
        read(url)
    assert "ter2" not in str(raised.value)


def test_credentials_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MCPACE_API_KEY", "k")
    monkeypatch.setenv("MCPACE_TOKEN", "t")
    assert Target.of("http://a/mcp", key_header="X-Key").headers == {
        "X-Key": "k",
        "Authorization": "Bearer t",
    }
    with pytest.raises(ConfigError, match="set one of them"):
        Target.of("http://a/mcp", key_header="authorization")
    monkeypatch.setenv("MCPACE_API_KEY", "line\nX-Evil: 1")
    with pytest.raises(ConfigError, match="holds what no key can"):
        Target.of("http://a/mcp", key_header="X-Key")


@pytest.mark.parametrize(
    "use",
    [lambda: AdminPort.of("http://127.0.0.1:18090"), lambda: Served(Server("weather", Asked()))],
    ids=["an admin port", "what a view shows"],
)
def test_an_admin_token_that_no_header_holds_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, use: Callable[[], object]
):
    monkeypatch.setenv("MCPACE_ADMIN_TOKEN", "hunter2\nX-Evil: 1")
    with pytest.raises(ConfigError, match="MCPACE_ADMIN_TOKEN holds what no token can") as raised:
        use()
    assert "hunter2" not in str(raised.value)
